"""Making a quantiser of any kind, and bringing one back from its arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmrec.errors import DataError, LlmrecError, require_extra
from llmrec.items.quantise.contract import Quantiser, checked
from llmrec.items.quantise.lsh import LshQuantiser, fit_lsh
from llmrec.items.quantise.residual import ResidualQuantiser, fit_residual
from llmrec.items.quantise.rqvae import RqVaeQuantiser
from llmrec.items.quantise.settings import QuantiserSettings
from llmrec.items.quantise.tree import TreeQuantiser, fit_tree


def fit(
    vectors: np.ndarray,
    settings: QuantiserSettings,
    seed: int = 0,
    device: str = "cpu",
    advance: Callable[[int], None] | None = None,
) -> Quantiser:
    """A quantiser of vectors [n, width]; the same vectors, settings, seed and threads give the same.

    `device` and `advance`, which is told of each epoch done, are for `rqvae`. Raises `DataError` for vectors
    that cannot be quantised, `MissingExtraError` when a package is missing.
    """
    vectors = checked(vectors)
    if not len(vectors):
        raise DataError("there are no item vectors to make codes of")
    if settings.kind == "tree":
        return fit_tree(vectors, settings, seed)
    if settings.kind == "lsh":
        return fit_lsh(vectors, settings, seed)
    if settings.kind != "rqvae":
        return fit_residual(vectors, settings, seed)
    require_extra("train", ["torch", "faiss"], "an RQ-VAE")
    from llmrec.items.quantise.rqvae_training import fit_rqvae

    return fit_rqvae(vectors, settings, seed, device, advance)


def restore(settings: QuantiserSettings, arrays: dict[str, np.ndarray]) -> Quantiser:
    """The quantiser whose settings and `arrays()` these are; raises `LlmrecError` when one is missing."""
    kinds: dict[str, type[ResidualQuantiser | RqVaeQuantiser | TreeQuantiser | LshQuantiser]] = {
        "rqvae": RqVaeQuantiser,
        "tree": TreeQuantiser,
        "lsh": LshQuantiser,
    }
    try:
        return kinds.get(settings.kind, ResidualQuantiser).from_arrays(settings, arrays)
    except KeyError as error:
        raise LlmrecError(f"the arrays of a {settings.kind} quantiser lack {error}") from error
