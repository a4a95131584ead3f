"""Histories as sparse user-by-item matrices of zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from llmrec.data.events import Histories
from llmrec.decode.contract import Request
from llmrec.errors import DataError


def train_matrix(train: Histories, items: int) -> Any:
    """Which user had which item: CSR float32 [users, items], ones.

    Raises `DataError` when there are no events.
    """
    if len(train.items) == 0:
        raise DataError("the train fold has no events to learn from")
    return _ones(train.offsets, train.items, items)


def request_matrix(requests: Sequence[Request], items: int) -> Any:
    """Which request's history has which item: CSR float32 [requests, items], ones."""
    offsets = np.concatenate([[0], np.cumsum([len(each.history) for each in requests])])
    flat = np.array([event.item for each in requests for event in each.history], dtype=np.int32)
    return _ones(offsets, flat, items)


def _ones(offsets: np.ndarray, columns: np.ndarray, items: int) -> Any:
    matrix = sparse.csr_matrix(
        (np.ones(len(columns), dtype=np.float32), columns, offsets), shape=(len(offsets) - 1, items)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
