"""Items that want the same code: who keeps it, and where the others go. What has a place never moves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmrec.items.quantise.contract import CELLS, Quantiser
from llmrec.items.quantise.filling import fill


def keys_of(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Codes [n, l], of levels with `sizes`, as one number each, int64 [n]; order is that of the codes."""
    found = np.zeros(len(codes), dtype=np.int64)
    for level in range(codes.shape[1]):
        found = found * sizes[level] + codes[:, level]
    return found


def costs_of(quantiser: Quantiser, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The cost of each item's own full code, float32 [n]; see `Quantiser.costs`."""
    found = np.empty(len(vectors), dtype=np.float32)
    step = max(1, CELLS // quantiser.settings.sizes[-1])
    for start in range(0, len(vectors), step):
        block = codes[start : start + step]
        costs = quantiser.costs(vectors[start : start + step], block[:, :-1])
        found[start : start + step] = costs[np.arange(len(block)), block[:, -1]]
    return found


class Room:
    """How many items there are below every prefix of codes; a full code takes `capacity` of them."""

    def __init__(self, sizes: Sequence[int], capacity: int, codes: np.ndarray) -> None:
        """`codes` [n, levels] are full codes of items that have their place already."""
        self.sizes = tuple(sizes)
        self.capacity = capacity
        self._held: list[dict[int, int]] = [{} for _ in range(len(self.sizes) + 1)]
        self.take(codes)

    def take(self, codes: np.ndarray) -> None:
        """Note items with the full codes [n, levels]."""
        for level, held in enumerate(self._held):
            keys, counts = np.unique(keys_of(codes[:, :level], self.sizes), return_counts=True)
            for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
                held[key] = held.get(key, 0) + count

    def held(self, key: int, level: int) -> int:
        """Items below the prefix of `level` codes with this key (see `keys_of`)."""
        return self._held[level].get(key, 0)

    def below(self, level: int) -> int:
        """Items that a prefix of `level` codes takes."""
        return self.capacity * math.prod(self.sizes[level:])

    def free(self, key: int, level: int) -> np.ndarray:
        """Items that each code after the prefix of `level` codes still takes, int64 [sizes[level]]."""
        size, most = self.sizes[level], self.below(level + 1)
        held = self._held[level + 1]
        return np.array([most - held.get(key * size + code, 0) for code in range(size)], dtype=np.int64)


class Settler:
    """Gives items codes in the books of a quantiser, in room that others have left."""

    def __init__(self, quantiser: Quantiser, room: Room) -> None:
        self._quantiser = quantiser
        self._room = room

    def settle(self, vectors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Full codes int32 [n, levels] with room for all, as near to `wanted` [n, levels] as can be.

        Of the items that want a code the nearest keep it. The others get the best free code of the last
        level, cheapest first; those whose prefix is full get another code one level up, by the cost there,
        and below it the best free ones; and so on. Ties go to the item of the lower row. Takes the room.
        There must be room for all.
        """
        found = wanted.astype(np.int32).copy()
        keys = keys_of(wanted, self._room.sizes)
        order = np.lexsort((costs_of(self._quantiser, vectors, wanted), keys))
        names, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
        levels = len(self._room.sizes)
        left = np.array([self._room.below(levels) - self._room.held(key, levels) for key in names.tolist()])
        rank = np.arange(len(order)) - np.repeat(starts, counts)
        stays = rank < np.repeat(left, counts)
        self._room.take(wanted[order[stays]])
        movers = np.sort(order[~stays])
        for level in range(levels)[::-1]:
            keys = keys_of(found[movers, :level], self._room.sizes)
            homeless = [self._place(vectors, found, movers[keys == key], level) for key in np.unique(keys)]
            movers = np.sort(np.concatenate([*homeless, movers[:0]]))
        if len(movers):
            raise ValueError(f"no room for {len(movers)} items")
        return found

    def _place(self, vectors: np.ndarray, found: np.ndarray, rows: np.ndarray, level: int) -> np.ndarray:
        """Write codes from `level` on of items `rows`, which share a prefix; returns those without room."""
        sizes = self._room.sizes
        key = int(keys_of(found[rows[:1], :level], sizes)[0])
        costs = self._quantiser.costs(vectors[rows], found[rows, :level])
        chosen = fill(lambda some: costs[some], len(rows), self._room.free(key, level))
        placed = rows[chosen >= 0]
        found[placed, level] = chosen[chosen >= 0]
        if level + 1 == len(sizes):
            self._room.take(found[placed])
        else:
            for code in np.unique(found[placed, level]):
                self._place(vectors, found, placed[found[placed, level] == code], level + 1)
        return rows[chosen < 0]
