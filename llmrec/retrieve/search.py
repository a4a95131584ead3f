"""Search over item vectors: the k best allowed items for the M vectors of a user.

The score of an item is max over m of <U^T h_m, v>, which is <h_m, w_v> with W = V U^T (URM section 1.3).
Scores are exact however an item was found, and filters hold at every size:

- where at most `exact_up_to` items are allowed, or five times as many if they are one in fifty or fewer, or
  there is no index, all allowed items are scored;
- else faiss proposes, of the allowed items too, the neighbours are explored, and what is not allowed is left
  out of the result. Where that leaves fewer than k items, all allowed items are scored after all.

So a list is short only where the catalogue is, and approximate only where more items than that are allowed:
it may then lack items that it should have, and two lists of different lengths may differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.decode.contract import Gains
from llmrec.errors import BundleError, LlmrecError
from llmrec.retrieve.exact import best_of, exact_top_k, max_scores, top_k_of
from llmrec.retrieve.explore import explore
from llmrec.retrieve.index import ItemIndex
from llmrec.retrieve.settings import SearchSettings
from llmrec.retrieve.storage import rows_of

_GATHERED = 4
"""Where fewer than one item in so many is allowed, reading these alone is faster than reading all."""
_RARE, _RARE_TIMES = 50, 5
"""Few of many are scored up to so many times as often.

Of ten million items, a filter that left 100,000 alike ones was explored badly (0.69 of the best ten, 26 ms),
and all of these are scored in 36 ms.
"""
_STARTS, _ALLOWED_STARTS = 16, 64
"""Landmarks that exploration starts from, and allowed ones: what a filter leaves may lie far apart."""


class ItemSearch:
    """Search over the rows of V, `vectors` [items, inner] float32 or float16, perhaps memory-mapped."""

    def __init__(
        self,
        vectors: np.ndarray,
        index: ItemIndex | None = None,
        settings: SearchSettings | None = None,
    ) -> None:
        """`index` must be of the first rows of `vectors`; later rows are always scored.

        Raises `BundleError` when it has more rows than there are, or rows of another width.
        """
        self.vectors = vectors
        self.index = index
        self.settings = settings or SearchSettings()
        self._scratch: list[np.ndarray] = []
        if index is not None:
            if index.items > len(vectors) or index.inner != vectors.shape[1]:
                raise BundleError(
                    f"the search index has {index.items:,} rows of {index.inner} values, the catalogue "
                    f"{len(vectors):,} of {vectors.shape[1]}: make it again: llmrec index BUNDLE"
                )
            self._landmark_rows = rows_of(vectors, index.landmarks)
            self._later = np.arange(index.items, len(vectors))

    def top_k(
        self,
        queries: np.ndarray,
        k: int,
        allowed: np.ndarray | None = None,
        gains: Sequence[Gains] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed items of each request, best first; of equal scores the lower index first.

        `queries` float32 [n, M, inner]; `allowed` bool [n, items] or None (all); `gains` of each request are
        added to the scores of some items. Returns index int64 [n, k] and score float32 [n, k], -1 and -inf
        where fewer than k items are allowed.
        Raises `LlmrecError` when k is below 1 or a value is not finite.
        """
        if k < 1:
            raise LlmrecError(f"k is {k}, it must be at least 1")
        if not np.isfinite(queries).all():
            raise LlmrecError("a user vector is not finite: the model diverged, fit it again")
        if gains is not None:
            return self._with_gains(queries, k, allowed, gains)
        if self.index is None and (allowed is None or len(self.vectors) <= self.settings.exact_up_to):
            return exact_top_k(self.vectors, queries, k, allowed)
        index = np.full((len(queries), k), -1, dtype=np.int64)
        best = np.full((len(queries), k), -np.inf, dtype=np.float32)
        # One request after another: each looks at thousands of items, so that loops gain nothing by being
        # shared, and a batch gives what single requests give, to the last bit.
        for row, own in enumerate(queries):
            ids, scores = self._one(own, k, None if allowed is None else allowed[row])
            index[row, : len(ids)], best[row, : len(ids)] = ids, scores
        return index, best

    def _with_gains(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, gains: Sequence[Gains]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`top_k` where some items gain: as many more are found as could fall out, and those are added."""
        most = max((len(items) for items, _ in gains), default=0)
        index, best = self.top_k(queries, k + most, allowed)
        for row, (items, values) in enumerate(gains):
            found = index[row, index[row] >= 0]
            scores = best[row, : len(found)]
            if allowed is not None:
                items, values = items[allowed[row, items]], values[allowed[row, items]]
            other = ~np.isin(found, items)
            own = max_scores(self.vectors, items, queries[row]) + values if len(items) else values
            ids, scores = best_of(np.append(found[other], items), np.append(scores[other], own), k)
            index[row, : len(ids)], best[row, : len(ids)] = ids, scores
            index[row, len(ids) :], best[row, len(ids) :] = -1, -np.inf
        return index[:, :k], best[:, :k]

    def _one(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Items and scores of one request, both [at most k]."""
        count = len(self.vectors) if allowed is None else int(np.count_nonzero(allowed))
        scored = self.settings.exact_up_to * (_RARE_TIMES if _RARE * count <= len(self.vectors) else 1)
        if count > max(k, scored) and self.index is not None:
            # Where most items are allowed, the best of all lead to the best allowed.
            ids, scores = self._explored(
                self.index, queries, k, None if 2 * count > len(self.vectors) else allowed
            )
            if allowed is not None:
                kept = allowed[ids]
                ids, scores = ids[kept], scores[kept]
            if len(ids) >= k:
                return best_of(ids, scores, k)
        if allowed is not None and _GATHERED * count < len(self.vectors):
            return top_k_of(self.vectors, np.flatnonzero(allowed), queries, k)
        index, best = exact_top_k(self.vectors, queries[None], k, None if allowed is None else allowed[None])
        return index[0, :count], best[0, :count]

    def _explored(
        self, index: ItemIndex, queries: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """All items that exploration looked at, and their scores."""
        starts = [self._later, index.propose(queries, k)]
        if allowed is not None or index.kind == "hnsw":
            marks = (queries @ self._landmark_rows.T).max(axis=0)
            starts.append(index.landmarks[_largest(marks, _STARTS)])
        if allowed is not None:
            places = np.flatnonzero(allowed[index.landmarks])
            starts.append(index.landmarks[places[_largest(marks[places], _ALLOWED_STARTS)]])
            starts.append(index.propose(queries, k, allowed))
        try:
            seen = self._scratch.pop()
        except IndexError:  # the first search, or other threads have all there are
            seen = np.zeros(len(self.vectors), dtype=bool)
        found = explore(
            self.vectors,
            index.neighbours,
            queries,
            np.concatenate(starts),
            self.settings.rounds,
            self.settings.width_for(index.kind, len(queries)) + k,
            seen,
            allowed,
        )
        self._scratch.append(seen)
        return found


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest values, in no order."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(-values, count - 1)[:count]
