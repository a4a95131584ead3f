"""How codes are made of vectors: which quantiser, how many codes a level, and what each kind needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from llmrec.errors import LlmrecError

KINDS = ("kmeans", "balanced", "rqvae", "tree", "lsh")
BINARY = ("tree", "lsh")
"""Quantisers that decide bit by bit: their levels have powers of two of codes."""
GRADIENTS = ("straight-through", "rotation")
MOST = 1 << 62
"""IDs must have numbers of 64 bits."""
_MOST_A_LEVEL = 1 << 20
"""Each code is a token of a model's vocabulary."""


@dataclass(frozen=True, slots=True)
class RqVaeSettings:
    """The network and the training of an RQ-VAE; sizes and `commitment` are those of TIGER section 3.1.

    hidden: widths of the encoder's layers, the decoder's are their mirror image. inner: width in which codes
    are. commitment: weight of the encoder's part of the codebook loss. gradient: how the gradient passes the
    rounding, `straight-through` or `rotation` (Fifty et al. 2024). epochs, batch, learning_rate: of AdamW.
    warmup: share of the epochs without codes, before the codebooks start from k-means. restarts: whether
    codes that nothing chose in an epoch start anew; not in the last fifth of the epochs.
    """

    hidden: tuple[int, ...] = (512, 256, 128)
    inner: int = 32
    commitment: float = 0.25
    gradient: str = "straight-through"
    epochs: int = 300
    batch: int = 1024
    learning_rate: float = 1e-3
    warmup: float = 0.1
    restarts: bool = True

    def __post_init__(self) -> None:
        if self.gradient not in GRADIENTS:
            raise LlmrecError(f"rqvae: gradient is {self.gradient!r}, choose one of: {', '.join(GRADIENTS)}")
        if min(self.inner, self.epochs, self.batch, *self.hidden) < 1:
            raise LlmrecError("rqvae: hidden, inner, epochs and batch must be at least 1")
        if not (self.learning_rate > 0 and self.commitment >= 0 and 0 <= self.warmup < 1):
            raise LlmrecError(
                f"rqvae: learning_rate must be above 0, commitment not below 0 and warmup from 0 to below 1, "
                f"got {self.learning_rate:g}, {self.commitment:g} and {self.warmup:g}"
            )


@dataclass(frozen=True, slots=True)
class QuantiserSettings:
    """A quantiser.

    kind: `kmeans` residual k-means; `balanced` the same with equal shares (OneRec); `rqvae` (TIGER); `tree`
    balanced 2-means (TDM), a path is an ID; `lsh` signed random projections. sizes: codes a level; for `tree`
    and `lsh` powers of two. rounds: of k-means and 2-means.
    """

    kind: str = "balanced"
    sizes: tuple[int, ...] = (256, 256, 256)
    rounds: int = 20
    rqvae: RqVaeSettings = field(default_factory=RqVaeSettings)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LlmrecError(f"there is no quantiser {self.kind!r}, choose one of: {', '.join(KINDS)}")
        if not self.sizes:
            raise LlmrecError(f"{self.kind}: IDs need a level, such as 256, got none")
        if min(self.sizes) < 1:
            raise LlmrecError(f"{self.kind}: every level needs a code, got levels {said(self.sizes)}")
        if self.rounds < 1:
            raise LlmrecError(f"{self.kind}: every fit needs a round, got {self.rounds}")
        if max(self.sizes) > _MOST_A_LEVEL:
            raise LlmrecError(f"{self.kind}: a level has at most 2^20 codes, got {said(self.sizes)}")
        if math.prod(self.sizes) >= MOST:
            raise LlmrecError(f"{self.kind}: levels {said(self.sizes)} have more than 2^62 codes: use fewer")
        if self.kind in BINARY:
            for size in self.sizes:
                if size & (size - 1):
                    raise LlmrecError(
                        f"{self.kind}: levels have 2, 4, 8, ... codes, {size} is no power of two"
                    )

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits a level, of quantisers that decide bit by bit."""
        return tuple(size.bit_length() - 1 for size in self.sizes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON gives them back."""
        values = asdict(self)
        values["sizes"] = list(self.sizes)
        values["rqvae"]["hidden"] = list(self.rqvae.hidden)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QuantiserSettings:
        """What `as_dict` gave; raises `LlmrecError` or `TypeError` or `KeyError` for anything else."""
        rqvae = RqVaeSettings(**{**values["rqvae"], "hidden": tuple(values["rqvae"]["hidden"])})
        known = {"kind": values["kind"], "sizes": tuple(values["sizes"]), "rqvae": rqvae}
        return cls(**{**values, **known})


def tree_sizes(items: int, levels: int = 3) -> tuple[int, ...]:
    """Sizes of a tree's levels for so many items: each its own path, and as many paths again for new ones."""
    bits = max(levels, math.ceil(math.log2(max(items, 2))) + 1)
    return tuple(1 << (bits // levels + (level < bits % levels)) for level in range(levels))


def said(sizes: tuple[int, ...]) -> str:
    """Sizes as they are given on the command line: 256,256,256."""
    return ",".join(map(str, sizes))
