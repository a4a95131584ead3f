"""Sequential rules: what stands near an item in histories, counted with less weight the farther away.

After Ludewig and Jannach (2018, "Evaluation of session-based recommendation algorithms"), with two changes
that help it: rules may also count pairs against the order, and popular items are divided down. Where the
order of events says much, as within the invoices of the bundled sample, this is the baseline to beat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from llmrec.baselines.choose import Validation, best_of
from llmrec.data.catalog import Catalog
from llmrec.data.events import Histories
from llmrec.decode.contract import Request
from llmrec.errors import LlmrecError
from llmrec.items.collaborative import near_pairs
from llmrec.retrieve.scoring import ScoringRecommender

WINDOWS = (5, 10, 20, 50)
BACKWARD = (0.0, 0.3, 1.0)
POWERS = (0.0, 0.25, 0.5)


class SequentialRules(ScoringRecommender):
    """score(j) = sum over the last `window` events i, the d-th from the end, of rules[i, j] / d.

    rules[i, j] = sum of 1 / distance over the places where j follows i within `window` events, plus
    `backward` times those where it precedes, divided by (count(i) count(j)) ^ `power`. A history without
    items is answered with popularity.
    """

    def __init__(self, catalog: Catalog, rules: Any, counts: np.ndarray, window: int, setting: str) -> None:
        super().__init__("sequential-rules", catalog)
        self.rules = rules
        self.counts = counts.astype(np.float32)
        self.window = window
        self.setting = setting

    @classmethod
    def fit(
        cls,
        train: Histories,
        catalog: Catalog,
        window: int = 50,
        backward: float = 1.0,
        power: float = 0.25,
    ) -> SequentialRules:
        """Count the rules of `train`; raises `DataError` when there are no events."""
        if window < 1 or backward < 0:
            raise LlmrecError(f"sequential rules: impossible window {window} or backward {backward}")
        return cls._from_pairs(
            near_pairs(train, len(catalog), window), train, catalog, window, backward, power
        )

    @classmethod
    def _from_pairs(
        cls, forward: Any, train: Histories, catalog: Catalog, window: int, backward: float, power: float
    ) -> SequentialRules:
        counts = np.bincount(train.items, minlength=len(catalog))
        scale = sparse.diags(np.maximum(counts, 1).astype(np.float64) ** -power)
        rules = (scale @ (forward + backward * forward.T) @ scale).tocsr().astype(np.float32)
        setting = f"window {window}, backward {backward:g}, power {power:g}"
        return cls(catalog, rules, counts, window, setting)

    @classmethod
    def choose(cls, train: Histories, catalog: Catalog, validation: Validation) -> SequentialRules:
        """The window, the weight against the order and the power that are best on validation."""

        def models() -> Iterator[SequentialRules]:
            for window in WINDOWS:
                forward = near_pairs(train, len(catalog), window)
                for backward in BACKWARD:
                    for power in POWERS:
                        yield cls._from_pairs(forward, train, catalog, window, backward, power)

        return best_of(models(), validation)[0]

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Sums of rules, float32 [requests, items]."""
        recent = [[event.item for event in each.history[: -self.window - 1 : -1]] for each in requests]
        lengths = [len(items) for items in recent]
        weights = np.array([1 / d for length in lengths for d in range(1, length + 1)], dtype=np.float32)
        columns = np.array([item for items in recent for item in items], dtype=np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shape = (len(requests), len(self.catalog))
        asked = sparse.csr_matrix((weights, columns, offsets), shape=shape)
        scores = (asked @ self.rules).toarray()
        scores[[not items for items in recent]] = self.counts
        return np.asarray(scores, dtype=np.float32)
