"""Exact search: every allowed item is scored, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llmrec.errors import LlmrecError
from llmrec.retrieve.rank import top_k
from llmrec.retrieve.storage import blocks_of, rows_of

_CELLS = 1 << 21
"""Values held at a time, of rows or of scores (one for each query of each request and item): 8 MiB."""
_FEW = 16
"""Queries of one request that are taken as columns."""


def max_scores(vectors: np.ndarray, ids: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Scores of some items, float32 [n]: the maximum over `queries` [M, inner] of the inner product."""
    return _largest_products(rows_of(vectors, ids), queries)


def _largest_products(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The largest inner product of each of `rows` [n, inner] with the `queries` [M, inner], float32 [n]."""
    if len(queries) > _FEW:
        found: np.ndarray = (queries @ rows.T).max(axis=0)  # the short axis first: fast
        return found
    products = rows @ queries.T  # few columns: faster than few long rows
    found = products[:, 0].copy()
    for column in range(1, products.shape[1]):
        np.maximum(found, products[:, column], out=found)
    return found


def all_scores(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Scores of all items, float32 [n, items], for `queries` float32 [n, M, inner]."""
    scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
    for start, block in _blocks(vectors, queries):
        scores[:, start : start + block.shape[1]] = block
    return scores


def exact_top_k(
    vectors: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`retrieve.rank.top_k` of all scores, which are never held at once.

    `vectors` [items, inner], `queries` float32 [n, M, inner], `allowed` bool [n, items] or None (all).
    """
    index = np.full((len(queries), k), -1, dtype=np.int64)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start, scores in _blocks(vectors, queries):
        mask = None if allowed is None else allowed[:, start : start + scores.shape[1]]
        more, high = top_k(scores, mask, k)
        if not start:
            index, best = more, high
            continue
        index = np.concatenate([index, np.where(more < 0, -1, more + start)], axis=1)
        best = np.concatenate([best, high], axis=1)
        # Stable: of equal scores those of earlier blocks, which have the lower indices, come first.
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        index, best = np.take_along_axis(index, order, axis=1), np.take_along_axis(best, order, axis=1)
    return index, best


def best_of(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of some items, best first; of equal scores the lower index first; all of them if fewer.

    Raises `LlmrecError` when a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise LlmrecError("a model gave scores that are not finite: it diverged, fit it again")
    if len(ids) > k:
        kept = scores >= np.partition(scores, len(ids) - k)[len(ids) - k]
        ids, scores = ids[kept], scores[kept]
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def top_k_of(
    vectors: np.ndarray, ids: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of the items `ids` int64 [n] for `queries` [M, inner], as `best_of` gives them."""
    size = _size(*queries.shape)
    scores = np.empty(len(ids), dtype=np.float32)
    for at in range(0, len(ids), size):
        scores[at : at + size] = max_scores(vectors, ids[at : at + size], queries)
    return best_of(ids, scores, k)


def _blocks(vectors: np.ndarray, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Where a block of items begins, and their scores, float32 [n, block]."""
    rows, each, inner = queries.shape
    flat = queries.reshape(rows * each, inner)
    for start, block in blocks_of(vectors, _size(rows * each, inner)):
        if rows == 1:
            yield start, _largest_products(block, flat)[None]
            continue
        yield start, (flat @ block.T).reshape(rows, each, len(block)).max(axis=1)


def _size(queries: int, inner: int) -> int:
    """Items of a block."""
    return max(1, _CELLS // max(queries, inner))
