"""Batches: a history once, with all its prompts standing after cut points.

A row holds the head of a user's prompt and behind it several tails. The mask shows a tail the head up to
its cut point and itself, nothing else, and its positions go on from the cut: each tail sees exactly what a
prompt of its own would have shown it (a test compares). So one pass over a history trains many prompts,
and the items of the head train next-item prediction as they go (SASRec's sequence loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tail:
    """Token ids that stand after the first `cut` tokens (`events` events) of the head, and their target."""

    cut: int
    ids: Sequence[int]
    target: int
    events: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """A head (token ids), where in it each item stands and which item follows it, and tails.

    `item_at[j]` is the position of the j-th item token; `next_item[j]` the catalogue index that came after
    it, -1 for none. `items` are the catalogue indices of the head's events, in order.
    """

    head: Sequence[int]
    item_at: Sequence[int]
    next_item: Sequence[int]
    tails: Sequence[Tail]
    items: Sequence[int] = ()

    @property
    def length(self) -> int:
        """Number of tokens, all tails included."""
        return len(self.head) + sum(len(tail.ids) for tail in self.tails)


@dataclass(slots=True)
class Batch:
    """Tensors of one step; rows are numbered over the flattened [batch * length] states.

    ids, positions int64 [batch, length]; visible bool [batch, length, length];
    item_rows, item_targets int64 [n]; query_rows int64 [p, 1 + M] (the last
    token before the cut, then the queries), query_targets int64 [p].
    item_recent int64 [n, K] and query_recent [p, K]: the newest items before each, -1 for none.
    `tokens` counts real tokens, padding left out.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    item_rows: Tensor
    item_targets: Tensor
    query_rows: Tensor
    query_targets: Tensor
    item_recent: Tensor
    query_recent: Tensor
    tokens: int

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        moved: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=True)
        return Batch(**moved)


def collate(examples: Sequence[Example], queries: int, recent: int = 0) -> Batch:
    """Pad and mask examples whose tails each end with `queries` query tokens; `recent` is K of `Batch`."""
    size, length = len(examples), max(example.length for example in examples)
    ids = np.zeros((size, length), dtype=np.int64)
    positions = np.zeros((size, length), dtype=np.int64)
    visible = np.zeros((size, length, length), dtype=bool)
    # Padding looks at itself: a softmax over nothing would be NaN.
    visible[:, np.arange(length), np.arange(length)] = True
    causal = np.tril(np.ones((length, length), dtype=bool))
    item_rows, item_targets, query_rows, query_targets = [], [], [], []
    item_recent, query_recent = [], []
    for row, example in enumerate(examples):
        end = len(example.head)
        ids[row, :end] = example.head
        positions[row, :end] = np.arange(end)
        visible[row, :end, :end] = causal[:end, :end]
        newest = _newest(example.items, recent)
        for number, (at, target) in enumerate(zip(example.item_at, example.next_item, strict=True), 1):
            if target >= 0:
                item_recent.append(newest[number])
                item_rows.append(row * length + at)
                item_targets.append(target)
        for tail in example.tails:
            start, end = end, end + len(tail.ids)
            ids[row, start:end] = tail.ids
            positions[row, start:end] = np.arange(tail.cut, tail.cut + len(tail.ids))
            visible[row, start:end, : tail.cut] = True
            visible[row, start:end, start:end] = causal[: end - start, : end - start]
            at_queries = range(row * length + end - queries, row * length + end)
            query_rows.append([row * length + tail.cut - 1, *at_queries])
            query_targets.append(tail.target)
            query_recent.append(newest[tail.events])
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(visible),
        torch.tensor(item_rows, dtype=torch.int64),
        torch.tensor(item_targets, dtype=torch.int64),
        torch.tensor(query_rows, dtype=torch.int64).reshape(-1, 1 + queries),
        torch.tensor(query_targets, dtype=torch.int64),
        torch.from_numpy(np.array(item_recent, dtype=np.int64).reshape(len(item_rows), recent)),
        torch.from_numpy(np.array(query_recent, dtype=np.int64).reshape(len(query_rows), recent)),
        sum(example.length for example in examples),
    )


def _newest(items: Sequence[int], recent: int) -> np.ndarray:
    """Row e: the newest of the first e items, newest first, -1 for none; int64 [items + 1, recent]."""
    padded = np.concatenate([np.full(recent, -1, dtype=np.int64), np.asarray(items, dtype=np.int64)])
    at = np.arange(len(items) + 1)[:, None] + recent - 1 - np.arange(recent)
    found: np.ndarray = padded[at]
    return found
