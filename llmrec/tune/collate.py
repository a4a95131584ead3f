"""Batches: a history once, with all its prompts standing after cut points.

A row holds the head of a user's prompt and behind it several tails. The mask shows a tail the head up to
its cut point and itself, nothing else, and its positions go on from the cut: each tail sees exactly what a
prompt of its own would have shown it (a test compares). So one pass over a history trains many prompts,
and the items of the head train next-item prediction as they go (SASRec's sequence loss).

Rows are padded to one length. Histories of like lengths stand in one step (`ExampleTable.batches`); with
`pack` several short ones share a row too, each hidden from the others, where that leaves less padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.verbalize.sought import Sought


@dataclass(frozen=True, slots=True)
class Tail:
    """Token ids that stand after the first `cut` tokens (`events` events) of the head, and their target.

    `search` is what its wish seeks.
    """

    cut: int
    ids: Sequence[int]
    target: int
    events: int = 0
    search: Sought = Sought()
    goal: str = ""


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
    item_of int64 [n] and query_of [p]: which example of the step each belongs to.
    query_search float32 [p, text width + A]: what is sought (`items.search_vectors`), zero for nothing; width
    0 where nothing ever is.
    own_items int64 [c] and own_change float32 [c, inner]: items of the step's histories, and how their start
    changes where these histories are not counted (`items.collaborative`, of spread 1); none where that is
    not asked for.
    `tokens` counts real tokens, padding left out; `places` those of all rows.
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
    item_of: Tensor
    query_of: Tensor
    query_search: Tensor
    own_items: Tensor
    own_change: Tensor
    tokens: int

    @property
    def places(self) -> int:
        """Tokens that the rows hold, padding included."""
        return self.ids.numel()

    def to(self, device: torch.device) -> Batch:
        """Copy to a device."""
        moved: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=True)
        return Batch(**moved)


Without = Callable[[Sequence[Sequence[int]]], tuple[np.ndarray, np.ndarray]]
"""Of some histories: their items int64 [c] and the change float32 [c, inner] of `Batch.own_change`."""
_NO_CHANGE = np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32)


def collate(
    examples: Sequence[Example],
    queries: int,
    recent: int = 0,
    pack: bool = False,
    search: Callable[[Sequence[Sought]], np.ndarray] | None = None,
    without: Without | None = None,
) -> Batch:
    """Pad and mask examples whose tails each end with `queries` query tokens; `recent` is K of `Batch`.

    With `pack` examples may share rows. `search` gives vectors of what is sought, `without` what items are
    where some histories are not counted.
    """
    layout = lay_out(
        [(example.head, [(tail.cut, tail.ids) for tail in example.tails]) for example in examples], pack
    )
    items, prompts = _Reads(recent), _Reads(recent)
    for number, (example, start) in enumerate(zip(examples, layout.starts, strict=True)):
        newest = _newest(example.items, recent)
        for event, (at, target) in enumerate(zip(example.item_at, example.next_item, strict=True), 1):
            if target >= 0:
                items.add(start + at, target, newest[event], number)
        end = start + len(example.head)
        for tail in example.tails:
            end += len(tail.ids)
            at_queries = range(end - queries, end)
            prompts.add([start + tail.cut - 1, *at_queries], tail.target, newest[tail.events], number)
    sought = [tail.search for example in examples for tail in example.tails]
    found = np.zeros((len(sought), 0), dtype=np.float32) if search is None else search(sought)
    events = [_events(example) for example in examples]
    own_items, own_change = _NO_CHANGE if without is None else without(events)
    item_rows, item_targets, item_recent, item_of = items.tensors()
    query_rows, query_targets, query_recent, query_of = prompts.tensors(1 + queries)
    return Batch(
        torch.from_numpy(layout.ids),
        torch.from_numpy(layout.positions),
        torch.from_numpy(layout.visible),
        item_rows,
        item_targets,
        query_rows,
        query_targets,
        item_recent,
        query_recent,
        item_of,
        query_of,
        torch.from_numpy(found),
        torch.from_numpy(own_items),
        torch.from_numpy(own_change),
        sum(example.length for example in examples),
    )


def _events(example: Example) -> list[int]:
    """The items of an example's history, what comes after its newest event included."""
    after = example.next_item[-1] if len(example.next_item) else -1
    return [*example.items, after] if after >= 0 else list(example.items)


@dataclass(frozen=True, slots=True)
class Layout:
    """Token rows with their pattern of attention, as `Batch` has them.

    ids, positions int64 [rows, length]; visible bool [rows, length, length]; `starts` are the places of the
    examples' first tokens in the flattened rows. An example's tails stand behind its head, one after another.
    """

    ids: np.ndarray
    positions: np.ndarray
    visible: np.ndarray
    starts: list[int]


def lay_out(
    examples: Sequence[tuple[Sequence[int], Sequence[tuple[int, Sequence[int]]]]], pack: bool
) -> Layout:
    """Rows that hold (head, [(cut, tail), ...]) each; with `pack` examples may share rows."""
    lengths = [len(head) + sum(len(ids) for _, ids in tails) for head, tails in examples]
    rows, starts, shape = _places(lengths, pack)
    length = shape[1]
    ids, positions = np.zeros((2, *shape), dtype=np.int64)
    visible = np.zeros((*shape, length), dtype=bool)
    # Padding looks at itself: a softmax over nothing would be NaN.
    visible[:, np.arange(length), np.arange(length)] = True
    causal = np.tril(np.ones((length, length), dtype=bool))
    for (head, tails), row, start in zip(examples, rows, starts, strict=True):
        end = start + len(head)
        ids[row, start:end] = head
        positions[row, start:end] = np.arange(end - start)
        visible[row, start:end, start:end] = causal[: end - start, : end - start]
        for cut, tail in tails:
            begin, end = end, end + len(tail)
            ids[row, begin:end] = tail
            positions[row, begin:end] = np.arange(cut, cut + len(tail))
            visible[row, begin:end, start : start + cut] = True
            visible[row, begin:end, begin:end] = causal[: end - begin, : end - begin]
    return Layout(
        ids, positions, visible, [row * length + start for row, start in zip(rows, starts, strict=True)]
    )


class _Reads:
    """What is read of the states of a step: where, with which target, after which items, of whom."""

    def __init__(self, recent: int) -> None:
        self._recent = recent
        self._rows: list[int | list[int]] = []
        self._targets: list[int] = []
        self._newest: list[np.ndarray] = []
        self._of: list[int] = []

    def add(self, row: int | list[int], target: int, newest: np.ndarray, of: int) -> None:
        self._rows.append(row)
        self._targets.append(target)
        self._newest.append(newest)
        self._of.append(of)

    def tensors(self, *width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows int64 [n, *width], targets [n], newest items [n, K] and examples [n]."""
        newest = np.array(self._newest, dtype=np.int64).reshape(len(self._of), self._recent)
        return (
            torch.tensor(self._rows, dtype=torch.int64).reshape(-1, *width),
            torch.tensor(self._targets, dtype=torch.int64),
            torch.from_numpy(newest),
            torch.tensor(self._of, dtype=torch.int64),
        )


_WIDER = 5
"""Row lengths tried in packing, from the longest example's to one and a half times that."""


def _places(lengths: Sequence[int], pack: bool) -> tuple[list[int], list[int], tuple[int, int]]:
    """The row and the first place of each example, and the shape (rows, length) of all.

    Packing is first fit, longest first, at the row length that leaves the fewest places; longer rows cost
    attention, which sees the whole row.
    """
    longest = max(lengths)
    best = list(range(len(lengths))), [0] * len(lengths), (len(lengths), longest)
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    for step in range(_WIDER if pack else 0):
        width = longest + longest * step // (2 * (_WIDER - 1))
        rows, starts, ends = [0] * len(lengths), [0] * len(lengths), list[int]()
        for number in order:
            room = (row for row, end in enumerate(ends) if end + lengths[number] <= width)
            row = next(room, len(ends))
            if row == len(ends):
                ends.append(0)
            rows[number], starts[number] = row, ends[row]
            ends[row] += lengths[number]
        shape = len(ends), max(ends)
        if shape[0] * shape[1] < best[2][0] * best[2][1]:
            best = rows, starts, shape
    return best


def _newest(items: Sequence[int], recent: int) -> np.ndarray:
    """Row e: the newest of the first e items, newest first, -1 for none; int64 [items + 1, recent]."""
    padded = np.concatenate([np.full(recent, -1, dtype=np.int64), np.asarray(items, dtype=np.int64)])
    at = np.arange(len(items) + 1)[:, None] + recent - 1 - np.arange(recent)
    found: np.ndarray = padded[at]
    return found
