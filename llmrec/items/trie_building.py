"""From token sequences to the levels of a trie, by sorting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.errors import LlmrecError

_KEY = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Level:
    """The nodes of one level, in order.

    `tokens`, `first` and `last` are int32 [nodes], as in `Trie`; `children` int64 [nodes] is the first child
    of each, counted from the beginning of the next level.
    """

    tokens: np.ndarray
    first: np.ndarray
    last: np.ndarray
    children: np.ndarray


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Sequences of any lengths as int32 [items, longest], -1 behind their ends."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    found = np.full((len(rows), int(lengths.max(initial=0))), -1, dtype=np.int32)
    found[np.arange(found.shape[1]) < lengths[:, None]] = [token for row in rows for token in row]
    return found


def sorted_order(sequences: np.ndarray) -> np.ndarray:
    """Items sorted by their sequences int [items, longest], equal ones by number; int64 [items].

    Raises `LlmrecError` for a sequence that is empty or goes on after its end.
    """
    items, longest = sequences.shape
    ended = sequences < 0
    wrong = ended[:, :1].any(axis=1) if longest else np.ones(items, dtype=bool)
    if longest > 1:
        wrong = wrong | (ended[:, :-1] & ~ended[:, 1:]).any(axis=1)
    if wrong.any():
        raise LlmrecError(
            f"item number {int(np.argmax(wrong))} has no id, or one with a gap: each item needs its tokens, "
            "with -1 only after the last"
        )
    order = np.arange(items)
    for key in _keys(sequences):  # the last columns first; sorting is stable
        order = order[np.argsort(key[order], kind="stable")]
    return order


def _keys(sequences: np.ndarray) -> list[np.ndarray]:
    """The columns as few int64 keys, the least significant first: as many columns a key as it can hold."""
    if not len(sequences):
        return []
    keys: list[np.ndarray] = []
    key, size = np.zeros(len(sequences), dtype=np.int64), 1
    for column in sequences.T[::-1]:
        low = int(column.min())
        span = int(column.max()) - low + 1
        if size * span > _KEY:
            keys.append(key)
            key, size = np.zeros(len(sequences), dtype=np.int64), 1
        key = key + (column.astype(np.int64) - low) * size
        size *= span
    return [*keys, key]


def split_into_levels(sequences: np.ndarray, order: np.ndarray) -> list[Level]:
    """The levels of the trie, the root's first. `order` is that of `sorted_order`.

    Raises `LlmrecError` where one sequence begins another.
    """
    items = len(order)
    first, last = np.zeros(1, dtype=np.int64), np.full(1, items, dtype=np.int64)
    tokens = np.full(1, -1, dtype=np.int32)
    begins = np.zeros(items + 1, dtype=bool)  # where in `order` a prefix differs from the one before
    begins[[0, items]] = True
    levels: list[Level] = []
    for column in sequences.T:
        sorted_column = column[order]
        _check_no_prefix(sorted_column, order, first, last)
        begins[1:items] |= sorted_column[1:] != sorted_column[:-1]
        bounds = np.flatnonzero(begins)
        here = sorted_column[bounds[:-1]] >= 0  # the others ended before
        if not here.any():
            break
        next_first, next_last = bounds[:-1][here], bounds[1:][here]
        levels.append(_level(tokens, first, last, next_first, items))
        first, last, tokens = next_first, next_last, sorted_column[next_first].astype(np.int32)
    levels.append(_level(tokens, first, last, first[:0], items))
    return levels


def _level(
    tokens: np.ndarray, first: np.ndarray, last: np.ndarray, next_first: np.ndarray, items: int
) -> Level:
    """A level, and where the children of its nodes begin in the next, whose first items are `next_first`."""
    before = np.zeros(items + 1, dtype=np.int32)
    before[next_first + 1] = 1
    np.cumsum(before, out=before)  # nodes of the next level that begin before a place in `order`
    return Level(tokens, first.astype(np.int32), last.astype(np.int32), before[first].astype(np.int64))


def _check_no_prefix(
    sorted_column: np.ndarray, order: np.ndarray, first: np.ndarray, last: np.ndarray
) -> None:
    """Of the items below one node all end there or none: ends sort first."""
    if not len(order):
        return
    mixed = (sorted_column[first] < 0) & (sorted_column[last - 1] >= 0)
    if mixed.any():
        node = int(np.argmax(mixed))
        raise LlmrecError(
            f"the id of item number {order[first[node]]} begins that of item number {order[last[node] - 1]}: "
            "end each with a token that stands nowhere else"
        )
