"""A bundle whose model writes codes: a plain checkpoint, and IDs; see `llmrec.bundle` for what all share.

tokenizer/   of the base model, with a token for each code
backbone/    the base model with all that was learnt folded in: any engine runs it, with that tokenizer
ids/         the items' IDs and their quantiser (see `items.id_files`)
seen.json    what items of the history gain in score (see `codes.seen`); bundles from before it have none
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.bundle import AnyBundle, Bundle, read_manifest, readout_of, write_parts
from llmrec.codes.seen import SeenGains, write_gains
from llmrec.config import Recipe
from llmrec.data.prepared import Prepared
from llmrec.errors import BundleError, require_extra
from llmrec.items.id_files import generation_of, load_ids, write_ids
from llmrec.items.ids import ItemIds
from llmrec.verbalize.templates import Templates

if TYPE_CHECKING:
    from llmrec.engines.transformers import TransformersEngine
    from llmrec.model.code_model import CodeModel
    from llmrec.model.code_tokens import CodePrompts

_SAME = 1e-3
"""Largest difference of a logit between the model that was trained and the one that was written."""


class CodeBundle(AnyBundle):
    """A bundle on disk whose model writes codes; the model is loaded when asked for."""

    readout = "codes"
    always = ("data/manifest.json", "ids/manifest.json", "backbone/config.json")

    def ids(self) -> ItemIds:
        """The IDs of the catalogue's items. Raises `LlmrecError` where they are of another catalogue."""
        found = load_ids(self.directory / "ids", [item.id for item in self.catalog.items])
        self._check_same()
        return found

    def tokens(self) -> CodePrompts:
        """The map from prompts to token ids, items written as codes."""
        require_extra("train", ["torch", "transformers"], "running a model")
        from llmrec.model.code_tokens import CodePrompts, find_code_tokens
        from llmrec.model.pretrained import load_tokenizer

        ids = self.ids()
        tokenizer = load_tokenizer(self.directory / "tokenizer")
        tokens = find_code_tokens(tokenizer, ids.sizes, self.recipe.adapter.soft_prompt)
        return CodePrompts(tokenizer, tokens, ids.codes)

    def engine(self, device: str = "auto") -> TransformersEngine:
        """The transformers engine with this bundle's model."""
        require_extra("train", ["torch", "transformers"], "running a model")
        from llmrec.engines.transformers import TransformersEngine
        from llmrec.model.pretrained import load_backbone

        engine = TransformersEngine(load_backbone(self.directory / "backbone"), device=device)
        self._check_same()
        return engine


def open_bundle(directory: Path) -> Bundle | CodeBundle:
    """The bundle in `directory`, of whichever readout; raises `BundleError` when it cannot be used."""
    codes = readout_of(read_manifest(Path(directory))) == CodeBundle.readout
    return CodeBundle(directory) if codes else Bundle(directory)


def write_code_bundle(
    directory: Path,
    recipe: Recipe,
    prepared: Prepared,
    templates: Templates,
    tokens: CodePrompts,
    ids: ItemIds,
    vectors: dict[str, Any],
    gains: SeenGains,
    model: CodeModel,
    base: dict[str, Any],
    training: dict[str, Any],
) -> CodeBundle:
    """Write a bundle, whole or not at all, and check that its checkpoint says what the model says.

    `vectors` says what the IDs were made from; for the rest see `bundle.write_parts`. `model` is used up. A
    bundle with another generation of IDs stays as an older version: its IDs were published.
    Raises `BundleError` when something was lost in the merge.
    """
    from llmrec.model.code_adapters import logits_of, merged
    from llmrec.model.pretrained import load_backbone
    from llmrec.quiet import quiet

    probe = _probe(tokens)
    wanted = logits_of(model.eval().backbone, probe)

    def fill(temporary: Path) -> None:
        with quiet():
            merged(model.backbone).save_pretrained(temporary / "backbone")
        apart = float(np.abs(logits_of(load_backbone(temporary / "backbone"), probe) - wanted).max())
        if not apart <= _SAME * max(1.0, float(np.abs(wanted).max())):
            raise BundleError(f"the merged model differs from the one that was trained (by {apart:.2g})")
        write_ids(ids, temporary / "ids", [item.id for item in prepared.catalog.items], vectors)
        write_gains(gains, temporary)

    keep = generation_of(directory / "ids") not in (0, ids.generation)
    write_parts(directory, recipe, prepared, templates, tokens, fill, base, training, keep)
    return CodeBundle(directory)


def _probe(tokens: CodePrompts) -> list[int]:
    """A prompt with codes of every level, soft prompt included."""
    return [*tokens.prefix, *tokens.sequences[:4].ravel().tolist(), *tokens.sequences[-1].tolist()]
