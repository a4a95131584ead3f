"""Filters on a trie: how many allowed items stand below a node, for any mask that comes with a request."""

from __future__ import annotations

import numpy as np

from llmrec.items.trie import Trie

_FEW = 32
"""Where at most one item in so many is named (forbidden, or allowed), its places are listed."""
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int32)
"""How many bits of each byte are set."""


class AllowedBelow:
    """Counts of the allowed items below nodes, for each request of a batch.

    A filter costs time once per request, and counts only where they are asked for: a mask that forbids
    few items or allows few becomes a sorted list of their places in `Trie.order`, any other one bit a place,
    with running counts from byte to byte. Nothing is ever computed for all nodes.
    """

    def __init__(self, trie: Trie, allowed: np.ndarray) -> None:
        """`allowed` is bool [requests, items]."""
        if allowed.ndim != 2 or allowed.shape[1] != trie.items or allowed.dtype != bool:
            raise ValueError(
                f"allowed must be bool [requests, {trie.items}], got {allowed.dtype} {allowed.shape}"
            )
        self._trie = trie
        self.mask = allowed
        self._stride = trie.items + 1
        count = np.array([np.count_nonzero(row) for row in allowed], dtype=np.int64)
        self._lists_forbidden = 2 * count > trie.items
        named = np.where(self._lists_forbidden, trie.items - count, count)
        self._dense = named * _FEW > trie.items
        self._slot = np.cumsum(self._dense) - 1
        listed = [np.zeros(0, dtype=np.int64)]
        for row in np.flatnonzero(~self._dense).tolist():
            own = np.flatnonzero(allowed[row] != self._lists_forbidden[row])
            listed.append(row * self._stride + np.sort(trie.rank[own]).astype(np.int64))
        self._listed = np.concatenate(listed)
        bytes_ = trie.items // 8 + 1
        self._bits = np.zeros((int(self._dense.sum()), bytes_), dtype=np.uint8)
        self._running = np.zeros(self._bits.shape, dtype=np.int32)
        for slot, row in enumerate(np.flatnonzero(self._dense).tolist()):
            packed = np.packbits(allowed[row][trie.order])
            self._bits[slot, : len(packed)] = packed
            np.cumsum(_ONES[self._bits[slot, :-1]], out=self._running[slot, 1:])

    def count(self, request: np.ndarray, node: np.ndarray) -> np.ndarray:
        """Allowed items below each of `node` int [n] in the eyes of `request` int [n]; int64 [n]."""
        first, last = self._trie.first[node].astype(np.int64), self._trie.last[node].astype(np.int64)
        found = np.empty(len(node), dtype=np.int64)
        dense = self._dense[request]
        if dense.any():
            slot = self._slot[request[dense]]
            found[dense] = self._before(slot, last[dense]) - self._before(slot, first[dense])
        if not dense.all():
            rest = ~dense
            start = request[rest] * self._stride
            first, last = first[rest], last[rest]
            named = np.searchsorted(self._listed, start + last) - np.searchsorted(self._listed, start + first)
            found[rest] = np.where(self._lists_forbidden[request[rest]], last - first - named, named)
        return found

    def _before(self, slot: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Allowed items at the places before `place`, by the masks that are kept as bits."""
        byte = place >> 3
        found: np.ndarray = self._running[slot, byte] + _ONES[self._bits[slot, byte] >> (8 - (place & 7))]
        return found
