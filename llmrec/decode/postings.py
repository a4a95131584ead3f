"""Which items carry a key: the inverted lists that filters look words, categories and values up in."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

NO_ITEMS = np.zeros(0, dtype=np.int64)


class Postings:
    """For each key the sorted item indices, in one array (CSR)."""

    def __init__(self, keys_of_items: Iterable[Iterable[str]]) -> None:
        self._number: dict[str, int] = {}
        keys: list[int] = []
        items: list[int] = []
        for item, names in enumerate(keys_of_items):
            for name in dict.fromkeys(names):
                keys.append(self._number.setdefault(name, len(self._number)))
                items.append(item)
        flat = np.array(keys, dtype=np.int64)
        self._items = np.array(items, dtype=np.int64)[np.argsort(flat, kind="stable")]
        self._offsets = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=len(self._number)))])

    def __getitem__(self, key: str) -> np.ndarray:
        """Sorted indices of the items with `key`, int64; empty when no item has it."""
        number = self._number.get(key)
        if number is None:
            return NO_ITEMS
        found: np.ndarray = self._items[self._offsets[number] : self._offsets[number + 1]]
        return found
