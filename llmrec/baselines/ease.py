"""EASE (Steck 2019): a linear item-to-item model in closed form, and a strong one for its cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.baselines.choose import Validation, best_of
from llmrec.baselines.matrix import request_matrix, train_matrix
from llmrec.data.catalog import Catalog
from llmrec.data.events import Histories
from llmrec.decode.contract import Request
from llmrec.errors import LlmrecError
from llmrec.retrieve.scoring import ScoringRecommender

PENALTIES = (10.0, 30.0, 60.0, 100.0, 200.0, 400.0, 800.0, 1600.0)
MOST_ITEMS = 30_000
"""Largest catalogue: the dense item-by-item matrices take 3.4 GiB each at this size."""


class EASE(ScoringRecommender):
    """score = x B, with x the history as zeros and ones and B the ridge regression of items on others.

    A history without items is answered with popularity.
    """

    def __init__(self, catalog: Catalog, weights: np.ndarray, counts: np.ndarray, setting: str) -> None:
        super().__init__("ease", catalog)
        self.weights = weights
        self.counts = counts.astype(np.float32)
        self.setting = setting

    @classmethod
    def fit(cls, train: Histories, catalog: Catalog, penalty: float = 100.0) -> EASE:
        """Solve for B with the ridge `penalty`.

        Raises `DataError` without events, `LlmrecError` for a catalogue of more than `MOST_ITEMS`.
        """
        if len(catalog) > MOST_ITEMS:
            raise LlmrecError(
                f"ease needs a dense item-by-item matrix: {len(catalog):,} items are more than "
                f"{MOST_ITEMS:,}; leave this baseline out"
            )
        if not penalty > 0:
            raise LlmrecError(f"ease: the penalty is {penalty}, it must be above 0")
        matrix = train_matrix(train, len(catalog))
        gram = (matrix.T @ matrix).toarray().astype(np.float64 if len(catalog) <= 5_000 else np.float32)
        counts = gram.diagonal().copy()
        diagonal = np.diag_indices(len(catalog))
        gram[diagonal] += penalty
        weights = np.linalg.inv(gram)
        weights /= -weights.diagonal().copy()
        weights[diagonal] = 0.0
        return cls(catalog, weights.astype(np.float32), counts, f"penalty {penalty:g}")

    @classmethod
    def choose(cls, train: Histories, catalog: Catalog, validation: Validation) -> EASE:
        """The penalty that is best on the validation questions."""
        return best_of((cls.fit(train, catalog, penalty) for penalty in PENALTIES), validation)[0]

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """X B, float32 [requests, items]."""
        scores = request_matrix(requests, len(self.catalog)) @ self.weights
        scores[[not each.history for each in requests]] = self.counts
        return np.asarray(scores, dtype=np.float32)
