"""What a quantiser is: vectors in, codes out. Code l of an item is one of `sizes[l]`, given those before.

No implementation keeps anything but arrays and settings: what is saved is what `arrays` gives. All but the
training of RQ-VAE is numpy, so that codes of new items need no torch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from llmrec.errors import DataError
from llmrec.items.quantise.settings import QuantiserSettings

CELLS = 1 << 24
"""Numbers held at a time where work goes in blocks: 64 MiB of float32."""
_LARGEST = 1e30
"""Squared length of a vector."""


class Quantiser(Protocol):
    """Codes for vectors of one width; `quantise.fitting` has `fit`, which makes one, and `restore`.

    Every method that takes vectors wants finite numbers of shape [n, width] and raises `DataError`
    otherwise.
    """

    settings: QuantiserSettings
    width: int

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """The first choice for each vector by itself, int32 [n, levels]."""
        ...

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Codes of a whole catalogue, int32 [n, levels]; equal shares where the quantiser balances.

        For others it is `codes`. For the vectors that were fitted, these are the codes that fitting ended
        with.
        """
        ...

    def costs(self, vectors: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        """How far each vector is from each code that may follow its prefix, float32 [n, sizes[l]].

        `prefixes` int32 [n, l] are the codes before. Squared distances: to what the codes up to here stand
        for, or, where decisions are taken bit by bit, to the region in which the vector would have them.
        """
        ...

    def reconstruct(self, codes: np.ndarray) -> np.ndarray | None:
        """What codes [n, levels] stand for, float32 [n, width]; None where they stand for no vector."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learnt, by name."""
        ...


def ranked(quantiser: Quantiser, vectors: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
    """The codes that may follow each prefix, nearest first, int32 [n, sizes[l]]; see `Quantiser.costs`."""
    order = np.argsort(quantiser.costs(vectors, prefixes), axis=1, kind="stable")
    return order.astype(np.int32)


def checked(vectors: np.ndarray, width: int | None = None) -> np.ndarray:
    """The vectors as contiguous float32 [n, width]; raises `DataError` for what cannot be quantised."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise DataError(
            f"item vectors are numbers of shape [items, width], got {vectors.dtype} of shape {vectors.shape}"
        )
    if width is not None and vectors.shape[1] != width:
        raise DataError(
            f"these codes are of vectors of width {width}, got vectors of width {vectors.shape[1]}"
        )
    if vectors.shape[1] == 0:
        raise DataError("item vectors have no columns: there is nothing to tell items apart by")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    # A sum is finite only where all of its terms are. Squared distances must be finite as well.
    bad = np.flatnonzero(~(np.einsum("nd,nd->n", vectors, vectors) < _LARGEST))
    if len(bad):
        raise DataError(
            f"the vectors of {len(bad):,} items have values that are not finite or too large "
            f"(first: item {bad[0]}): make the vectors again"
        )
    return vectors


def distances(points: np.ndarray, book: np.ndarray) -> np.ndarray:
    """Squared distances float32 [n, size] of points [n, width] from the rows of a codebook [size, width]."""
    found = np.einsum("nd,nd->n", points, points)[:, None] + np.einsum("kd,kd->k", book, book)
    found -= 2 * (points @ book.T)
    near: np.ndarray = np.maximum(found, 0, out=found)
    return near
