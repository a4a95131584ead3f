"""Vectors of items from the events alone: which items stand near each other in histories."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from llmrec.data.events import Histories
from llmrec.errors import DataError

WINDOW = 50
POWER, LENGTHS = 0.25, 0.3


def near_pairs(histories: Histories, items: int, window: int = WINDOW) -> Any:
    """Sum of 1 / distance over the places where column follows row, CSR float64 [items, items].

    Only places at most `window` events apart count. Raises `DataError` when there are no events.
    """
    if len(histories.items) == 0:
        raise DataError("the train fold has no events to learn from")
    users = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
    total = sparse.csr_matrix((items, items))
    for distance in range(1, min(window, len(users) - 1) + 1):
        same = users[:-distance] == users[distance:]
        if not same.any():
            break
        first, second = histories.items[:-distance][same], histories.items[distance:][same]
        weights = np.full(len(first), 1.0 / distance)
        total = total + sparse.csr_matrix((weights, (first, second)), shape=(items, items))
    return total


def collaborative_vectors(
    histories: Histories, items: int, width: int, power: float = POWER, lengths_power: float = LENGTHS
) -> np.ndarray:
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
    vectors = np.zeros((items, width))
    rank = min(width, items - 1)
    if rank >= 1 and near.nnz:
        start = np.random.default_rng(0).standard_normal(items)
        values, found = eigsh(near, k=rank, which="LA", v0=start)
        order = np.argsort(-values, kind="stable")
        values, found = values[order], found[:, order]
        known = values > 1e-9 * values[0]  # what rounding left of zero has any vector
        signs = np.where(start @ found < 0, -1.0, 1.0)  # of either sign, an eigenvector is as good
        vectors[:, :rank] = (found * signs) * np.sqrt(np.where(known, values, 0.0))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # What is left of a length by rounding is no length.
    known = lengths > 1e-4 * lengths.max(initial=0.0)
    vectors = np.where(known, vectors * np.where(known, lengths, 1.0) ** (lengths_power - 1), 0.0)
    spread = vectors.std()
    return (vectors / spread if spread > 0 else vectors).astype(np.float32)
