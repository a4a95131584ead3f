"""Item-based nearest neighbours, with the similarities of the library `implicit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from implicit.nearest_neighbours import ItemItemRecommender, bm25_weight, normalize, tfidf_weight
from scipy import sparse

from llmrec.baselines.choose import Validation, best_of
from llmrec.baselines.matrix import request_matrix, train_matrix
from llmrec.data.catalog import Catalog
from llmrec.data.events import Histories
from llmrec.decode.contract import Request
from llmrec.retrieve.scoring import ScoringRecommender

Weighting = Literal["cosine", "tfidf", "bm25"]
NEIGHBOURS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
_WEIGH: dict[Weighting, Callable[[Any], Any]] = {
    "cosine": normalize,
    "tfidf": lambda items_by_users: normalize(tfidf_weight(items_by_users)),
    "bm25": lambda items_by_users: bm25_weight(items_by_users, K1=1.2, B=0.75),
}
"""From the items-by-users matrix to the one whose rows are compared by inner product."""


class ItemKNN(ScoringRecommender):
    """An item's score is the sum of its similarities to the items of the history.

    Each item keeps its `neighbours` most similar others. A history without items is answered with
    popularity.
    """

    def __init__(self, catalog: Catalog, similarity: Any, counts: np.ndarray, setting: str) -> None:
        super().__init__("item-knn", catalog)
        self.similarity = similarity
        self.counts = counts.astype(np.float32)
        self.setting = setting

    @classmethod
    def fit(
        cls, train: Histories, catalog: Catalog, neighbours: int = 10, weighting: Weighting = "bm25"
    ) -> ItemKNN:
        """Similarities between the columns of the train matrix; raises `DataError` without events."""
        weighted = _WEIGH[weighting](train_matrix(train, len(catalog)).T).T.tocsr()
        # One neighbour more: the library counts an item as its own nearest, which says nothing new.
        model = ItemItemRecommender(K=min(neighbours, len(catalog)) + 1, num_threads=1)
        model.fit(weighted, show_progress=False)
        pairs = model.similarity.tocoo()
        # Not finite: an item whose weights are all zero (its only buyers have the whole catalogue).
        others = (pairs.row != pairs.col) & np.isfinite(pairs.data)
        similarity = sparse.csr_matrix(
            (pairs.data[others].astype(np.float32), (pairs.row[others], pairs.col[others])), pairs.shape
        )
        counts = np.bincount(train.items, minlength=len(catalog))
        return cls(catalog, similarity, counts, f"{weighting}, {neighbours} neighbours")

    @classmethod
    def choose(cls, train: Histories, catalog: Catalog, validation: Validation) -> ItemKNN:
        """The weighting and number of neighbours that are best on the validation questions."""

        def models() -> Iterator[ItemKNN]:
            for weighting in _WEIGH:
                for neighbours in NEIGHBOURS:
                    yield cls.fit(train, catalog, neighbours, weighting)
                    if neighbours >= len(catalog):
                        break

        return best_of(models(), validation)[0]

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Sums of similarities, float32 [requests, items]."""
        scores = (request_matrix(requests, len(self.catalog)) @ self.similarity).toarray()
        scores[[not each.history for each in requests]] = self.counts
        return np.asarray(scores, dtype=np.float32)
