"""The Recommender contract, written once for every model that scores the whole catalogue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.decode.contract import Recommendation, Request
from llmrec.decode.filters import FilterIndex
from llmrec.errors import UnknownIdError
from llmrec.retrieve.rank import top_k

_CELLS = 1 << 22
"""Scores held at a time: 16 MiB of float32, and about six times that with masks and copies."""
_ROWS = 256
"""Requests scored at a time, at most."""


class ScoringRecommender(ABC):
    """A `Recommender` made of one method: `score`, the scores of all items for some requests.

    `recommend` and `rank` score a bounded number of requests at a time, mask what the filters forbid, and
    rank exactly, so that memory does not grow with the number of requests, and batch equals single.
    """

    name: str
    catalog: Catalog
    setting: str = ""
    """How the model was set up, in a few words, for reports."""

    def __init__(self, name: str, catalog: Catalog) -> None:
        self.name = name
        self.catalog = catalog
        self._filters = FilterIndex(catalog)

    @property
    def filters(self) -> FilterIndex:
        """What decides which items a request allows."""
        return self._filters

    @abstractmethod
    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items for some checked requests, float32 [requests, items]; finite."""

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items before any filter, float32 [requests, items]; finite.

        Raises `UnknownIdError` when a history names an item that the catalogue does not have.
        """
        self._check(requests)
        rows = self._rows
        parts = [self.score(requests[start : start + rows]) for start in range(0, len(requests), rows)]
        if not parts:
            return np.zeros((0, len(self.catalog)), dtype=np.float32)
        return np.concatenate(parts).astype(np.float32, copy=False)

    def rank(self, requests: Sequence[Request], k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed items of each request as arrays: see `retrieve.rank.top_k`."""
        self._check(requests)
        rows = self._rows
        index = np.empty((len(requests), k), dtype=np.int64)
        best = np.empty((len(requests), k), dtype=np.float32)
        for start in range(0, len(requests), rows):
            part = requests[start : start + rows]
            allowed = np.stack([self._filters.mask(each.filters, each.history, each.now) for each in part])
            index[start : start + rows], best[start : start + rows] = self.best(part, allowed, k)
        return index, best

    def best(self, requests: Sequence[Request], allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of some checked requests, of those that `allowed` bool [requests, items] has."""
        return top_k(self.score(requests), allowed, k)

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """The k best allowed items of each request, best first; fewer only when fewer are allowed."""
        index, best = self.rank(requests, k)
        return [
            [
                Recommendation(self.catalog[item].id, item, score)
                for item, score in zip(row.tolist(), scores.tolist(), strict=True)
                if item >= 0
            ]
            for row, scores in zip(index, best, strict=True)
        ]

    @property
    def _rows(self) -> int:
        return max(1, min(_ROWS, _CELLS // max(1, len(self.catalog))))

    def _check(self, requests: Sequence[Request]) -> None:
        """Raise `UnknownIdError` at the first item index outside the catalogue."""
        items = len(self.catalog)
        for request in requests:
            for event in request.history:
                if not 0 <= event.item < items:
                    raise UnknownIdError(
                        f"a history names item {event.item}, the catalogue has {items:,} items "
                        f"(0 to {items - 1:,})"
                    )
