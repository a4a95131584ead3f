"""The most popular items, the same for everyone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.events import Histories
from llmrec.decode.contract import Request
from llmrec.errors import DataError
from llmrec.retrieve.scoring import ScoringRecommender


class Popularity(ScoringRecommender):
    """Scores an item by its number of events in the train fold."""

    def __init__(self, catalog: Catalog, counts: np.ndarray) -> None:
        super().__init__("popularity", catalog)
        self.counts = counts.astype(np.float32)

    @classmethod
    def fit(cls, train: Histories, catalog: Catalog) -> Popularity:
        """Count the events of `train`; raises `DataError` when there are none."""
        if len(train.items) == 0:
            raise DataError("the train fold has no events to learn from")
        return cls(catalog, np.bincount(train.items, minlength=len(catalog)))

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Counts for each request, float32 [requests, items]."""
        return np.tile(self.counts, (len(requests), 1))
