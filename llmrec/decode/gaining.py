"""Items that gain, or lose, beside what a model says of their sequences: for each request of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.decode.allowed import AllowedBelow
from llmrec.decode.contract import Gains
from llmrec.items.trie import Trie


class Gaining:
    """What items gain, and how a search must look for what they move.

    rising  the items that gain more than 0: they are found however unlikely their sequences are
    spare   int64 [requests], how many items that gain or lose a request allows: the places that they may
            take from others, and those that they may leave to others
    """

    def __init__(self, trie: Trie, gains: Sequence[Gains], allowed: np.ndarray | None) -> None:
        """`gains` of each request; `allowed` bool [requests, items] or None (all)."""
        self._items = trie.items
        self.spare = np.zeros(len(gains), dtype=np.int64)
        rising = np.zeros((len(gains), trie.items), dtype=bool)
        keys, values = [np.array([-1], dtype=np.int64)], [np.zeros(1)]
        for row, (items, own) in enumerate(gains):
            if allowed is not None:
                there = allowed[row, items]
                items, own = items[there], own[there]
            self.spare[row] = len(items)
            rising[row, items[own > 0]] = True
            keys.append(row * trie.items + items)
            values.append(own.astype(np.float64))
        self.rising = AllowedBelow(trie, rising)
        self._keys, self._values = np.concatenate(keys), np.concatenate(values)

    def of(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """What each `item` int64 [n] gains in the eyes of `request` int64 [n], float64 [n]."""
        key = request * self._items + item
        place = np.searchsorted(self._keys, key, side="right") - 1
        found: np.ndarray = np.where(self._keys[place] == key, self._values[place], 0.0)
        return found
