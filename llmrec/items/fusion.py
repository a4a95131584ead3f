"""Item vectors of texts and of events as one: what items say and who chooses them, before they get codes."""

from __future__ import annotations

import numpy as np

from llmrec.errors import LlmrecError
from llmrec.items.newcomers import stand_in
from llmrec.items.quantise.contract import checked

WEIGHT = 0.5
"""Share of the events in a squared distance."""


def fused(text: np.ndarray, collaborative: np.ndarray, weight: float = WEIGHT) -> np.ndarray:
    """Float32 [items, a + b]: squared distances are (1 - weight) of the texts', weight of the events'.

    `text` [items, a] and `collaborative` [items, b], such as `items.collaborative` makes, a SASRec's item
    table or rows of W; rows of both are scaled to length 1 first. A row of zeros says that no events are
    known of an item: the events of its neighbours by text stand in. A row depends on no other row but those
    with events, so that new items, given with zeros, leave the others as they were. Raises `LlmrecError` for
    a weight outside of 0 to 1 and for different numbers of items, `DataError` for values that are not finite.
    """
    if not 0 <= weight <= 1:
        raise LlmrecError(f"the weight of the events is a share from 0 to 1, not {weight:g}")
    text, collaborative = unit_rows(checked(text)), unit_rows(checked(collaborative))
    if len(text) != len(collaborative):
        raise LlmrecError(f"{len(text):,} vectors of texts, but {len(collaborative):,} of events")
    known = collaborative.any(axis=1)
    if known.any() and not known.all():
        borrowed = stand_in(text[~known], text[known], collaborative[known], "neighbours")
        collaborative[~known] = unit_rows(borrowed)
    parts = (np.sqrt(1 - weight) * text, np.sqrt(weight) * collaborative)
    return np.concatenate(parts, axis=1).astype(np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled
