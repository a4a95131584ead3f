"""Vectors of items from the events alone: which items stand near each other in histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from llmrec.data.events import Histories
from llmrec.errors import DataError

WINDOW = 50
POWER, LENGTHS = 0.25, 0.3
_DENSE = 64
"""Items up to which all eigenvalues are computed: it takes no time, and nothing is drawn at random."""
_NOTHING = 1e-4
"""A length below this share of the largest is what rounding left of zero."""


def near_pairs(histories: Histories, items: int, window: int = WINDOW) -> Any:
    """Sum of 1 / distance over the places where column follows row, CSR float64 [items, items].

    Only places at most `window` events apart count. Raises `DataError` when there are no events.
    """
    if len(histories.items) == 0:
        raise DataError("the train fold has no events to learn from")
    return _pairs(histories.items, histories.offsets, items, window)


def _pairs(flat: np.ndarray, offsets: np.ndarray, items: int, window: int) -> Any:
    """`near_pairs` of the histories `flat[offsets[u] : offsets[u + 1]]`."""
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    total = sparse.csr_matrix((items, items))
    for distance in range(1, min(window, len(users) - 1) + 1):
        same = users[:-distance] == users[distance:]
        if not same.any():
            break
        first, second = flat[:-distance][same], flat[distance:][same]
        weights = np.full(len(first), 1.0 / distance)
        total = total + sparse.csr_matrix((weights, (first, second)), shape=(items, items))
    return total


@dataclass(frozen=True, slots=True)
class CollaborativeStart:
    """Item vectors from the events, float32 [items, width], and what they are without some histories.

    `raw` float64 [items, width] are the vectors before their lengths change, `back` [items, width] takes a
    row of the scaled matrix of near pairs to one of them, `scale` [items] divides popular items down;
    `longest` and `spread` are those of all vectors.
    """

    vectors: np.ndarray
    raw: np.ndarray
    back: np.ndarray
    scale: np.ndarray
    lengths_power: float
    longest: float
    spread: float

    def without(self, histories: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """How the vectors of the items of some histories change where these are not counted.

        Items int64 [n], each once, ascending, and the change of their vectors, float32 [n, width]. The near
        pairs of the histories are taken out of the rows of their items; the axes stay those of all.
        """
        flat = np.concatenate([np.asarray(each, dtype=np.int64) for each in histories])
        items, places = np.unique(flat, return_inverse=True)
        offsets = np.cumsum([0, *map(len, histories)])
        near = _pairs(places, offsets, len(items), WINDOW)
        scale = sparse.diags(self.scale[items])
        raw = self.raw[items] - (scale @ (near + near.T) @ scale) @ self.back[items]
        change = _with_lengths(raw, self.lengths_power, self.longest) / self.spread - self.vectors[items]
        return items, change.astype(np.float32)


def collaborative_vectors(
    histories: Histories, items: int, width: int, power: float = POWER, lengths_power: float = LENGTHS
) -> np.ndarray:
    """The vectors of `collaborative_start`."""
    return collaborative_start(histories, items, width, power, lengths_power).vectors


def collaborative_start(
    histories: Histories, items: int, width: int, power: float = POWER, lengths_power: float = LENGTHS
) -> CollaborativeStart:
    """Item vectors whose inner products follow how near items stand, float32 [items, width], spread 1.

    The `width` largest eigenvalues of the symmetric matrix of near pairs, popular items divided down by
    their counts to the power `power`, and its eigenvectors times their roots: the best such vectors in the
    squared sense. Their lengths, which differ a lot where items have few events, are raised to the power
    `lengths_power`. Both defaults were chosen for next items on validation events (`benchmarks/start.py`).
    Columns beyond the rank, and rows of items without events, are zero. The same events give the same
    vectors.
    """
    forward = near_pairs(histories, items)
    counts = np.bincount(histories.items, minlength=items)
    scale = sparse.diags(np.maximum(counts, 1).astype(np.float64) ** -power)
    near = scale @ (forward + forward.T) @ scale
    vectors, back = np.zeros((2, items, width))
    rank = min(width, items - 1)
    if rank >= 1 and near.nnz:
        start = np.random.default_rng(0).standard_normal(items)
        values, found = _largest(near, rank, start)
        order = np.argsort(-values, kind="stable")
        values, found = values[order], found[:, order]
        known = values > 1e-9 * values[0]  # what rounding left of zero has any vector
        signs = np.where(start @ found < 0, -1.0, 1.0)  # of either sign, an eigenvector is as good
        roots = np.sqrt(np.where(known, values, 0.0))
        vectors[:, :rank] = (found * signs) * roots
        back[:, :rank] = (found * signs) * np.divide(1.0, roots, out=np.zeros(rank), where=known)
    longest = float(np.linalg.norm(vectors, axis=1).max(initial=0.0))
    found = _with_lengths(vectors, lengths_power, longest)
    spread = float(found.std()) or 1.0
    return CollaborativeStart(
        (found / spread).astype(np.float32), vectors, back, scale.diagonal(), lengths_power, longest, spread
    )


def _largest(matrix: Any, rank: int, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The `rank` largest eigenvalues of a symmetric sparse matrix, and their vectors [n, rank].

    The same at every call. ARPACK begins anew at random where its vectors span all that there is, which
    happens in small matrices, and draws other numbers at every call unless it is told not to.
    """
    if len(start) <= _DENSE:
        values, found = np.linalg.eigh(matrix.toarray())
        return values[-rank:], found[:, -rank:]
    fixed = {"rng": 0} if "rng" in signature(eigsh).parameters else {}  # since scipy 1.17
    pair: tuple[np.ndarray, np.ndarray] = eigsh(matrix, k=rank, which="LA", v0=start, **fixed)
    return pair


def _with_lengths(vectors: np.ndarray, power: float, longest: float) -> np.ndarray:
    """Rows [n, width] whose lengths are raised to `power`; of `longest` and all others hardly one is none."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = lengths > _NOTHING * longest
    found: np.ndarray = np.where(known, vectors * np.where(known, lengths, 1.0) ** (power - 1), 0.0)
    return found
