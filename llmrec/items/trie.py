"""The token sequences of all items as a trie in flat arrays: which items, and which tokens next.

Nodes are numbered level by level from the root, 0, and inside a level in the order of their sequences. So
the children of a node have consecutive numbers, and the items below a node are consecutive in `order`,
the items sorted by their sequences: a count of some items below a node is a difference of two running
counts, however large the catalogue is.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from llmrec.errors import BundleError, LlmrecError
from llmrec.files import replace_directory
from llmrec.items.trie_building import sorted_order, split_into_levels

_DENSE, _SMALL, _CELLS_A_NODE = 1 << 22, 1 << 16, 8
"""Cells of a table that is looked up instead of searched: at most 2^22 (two levels of 2,048 tokens), and
where they are more than 2^16, at most eight for each node of the trie."""
_ARRAYS = ("starts", "tokens", "children", "first", "last", "order")


class Trie:
    """A trie over the token sequences of items; immutable.

    starts     int64 [depth + 2], the nodes of level d are starts[d] to starts[d + 1]
    tokens     int32 [nodes], last token of a node's prefix; -1 at the root
    children   int32 [nodes + 1], the children of node v are children[v] to children[v + 1], none at the end
               of a sequence
    first,last int32 [nodes], the items below node v are order[first[v] : last[v]]
    order      int32 [items], items by their sequences, and by their number where these are equal
    """

    def __init__(
        self,
        starts: np.ndarray,
        tokens: np.ndarray,
        children: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
        order: np.ndarray,
    ) -> None:
        self.starts, self.tokens, self.children = starts, tokens, children
        self.first, self.last, self.order = first, last, order

    @classmethod
    def build(cls, sequences: np.ndarray) -> Trie:
        """The trie of `sequences`, int [items, longest]: token ids from 0 on, -1 after an end.

        Items may share a sequence; their leaf holds them all. Raises `LlmrecError` where an item has no
        token, a token stands after an end, or one sequence begins another (end each with a token that
        stands nowhere else).
        """
        sequences = np.asarray(sequences)
        if sequences.ndim != 2:
            raise ValueError(f"sequences must be [items, longest], got shape {sequences.shape}")
        order = sorted_order(sequences)
        levels = split_into_levels(sequences, order)
        starts = np.cumsum([0, *(len(level.tokens) for level in levels)], dtype=np.int64)
        if starts[-1] >= np.iinfo(np.int32).max:
            raise LlmrecError(f"the item ids make {starts[-1]:,} nodes, more than a trie can number")
        children = [level.children + start for level, start in zip(levels, starts[1:], strict=True)]
        return cls(
            starts,
            np.concatenate([level.tokens for level in levels]),
            np.concatenate([*children, starts[-1:]]).astype(np.int32),
            np.concatenate([level.first for level in levels]),
            np.concatenate([level.last for level in levels]),
            order.astype(np.int32),
        )

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.order)

    @property
    def depth(self) -> int:
        """Length of the longest sequence."""
        return len(self.starts) - 2

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(int(getattr(self, name).nbytes) for name in _ARRAYS)

    @cached_property
    def first_choice(self) -> int:
        """The first level whose children differ: 0, unless all sequences begin with the same tokens."""
        return int(np.argmax(np.diff(self.starts)[1:] > 1)) if self.depth else 0

    @cached_property
    def rank(self) -> np.ndarray:
        """Where in `order` each item stands, int32 [items]."""
        rank = np.empty(len(self.order), dtype=np.int32)
        rank[self.order] = np.arange(len(self.order), dtype=np.int32)
        return rank

    @cached_property
    def choices(self) -> tuple[np.ndarray, ...]:
        """For each level from the first on the tokens that stand there in any sequence, sorted, int64."""
        found = []
        for start, end in zip(self.starts[1:-1], self.starts[2:], strict=True):
            own = self.tokens[start:end].astype(np.int64)
            low, span = int(own.min()), int(np.ptp(own)) + 1
            if span > _DENSE:
                found.append(np.unique(own))
                continue
            there = np.zeros(span, dtype=bool)
            there[own - low] = True
            found.append(np.flatnonzero(there) + low)
        return tuple(found)

    def children_of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All children of `nodes` int [n], one node's after another's: places in `nodes`, and nodes."""
        start = self.children[nodes].astype(np.int64)
        return ranges(start, self.children[np.asarray(nodes) + 1] - start)

    def ends(self, nodes: np.ndarray) -> np.ndarray:
        """Whether each of `nodes` is the end of a sequence, bool."""
        found: np.ndarray = self.children[nodes] == self.children[np.asarray(nodes) + 1]
        return found

    def items_below(self, node: int) -> np.ndarray:
        """The items whose sequences begin as `node` does, in the order of their sequences."""
        return self.order[self.first[node] : self.last[node]]

    def sequences(self, items: np.ndarray) -> np.ndarray:
        """The sequences of `items` int64 [n], int32 [n, depth], -1 behind their ends."""
        found = np.full((len(items), self.depth), -1, dtype=np.int32)
        rank = self.rank[items]
        for level, (start, end) in enumerate(zip(self.starts[1:-1], self.starts[2:], strict=True)):
            own = start + np.searchsorted(self.first[start:end], rank, side="right") - 1
            own = np.maximum(own, start)
            there = (self.first[own] <= rank) & (rank < self.last[own])
            found[there, level] = self.tokens[own[there]]
        return found

    def find(self, prefixes: np.ndarray) -> np.ndarray:
        """The nodes of `prefixes` int [n, length], int64 [n]; -1 where no item's sequence begins so."""
        prefixes = np.asarray(prefixes, dtype=np.int64)
        nodes = np.zeros(len(prefixes), dtype=np.int64)
        done = min(prefixes.shape[1], len(self._tables))
        if done:
            cells, inside = np.zeros(len(prefixes), dtype=np.int64), np.ones(len(prefixes), dtype=bool)
            for column, choices in zip(prefixes.T[:done], self.choices, strict=False):
                low, high = int(choices[0]), int(choices[-1])
                inside &= (column >= low) & (column <= high)
                cells = cells * (high - low + 1) + column - low
            nodes[inside] = self._tables[done - 1][cells[inside]]
            nodes[~inside] = -1
        for column in prefixes.T[done:]:
            nodes = self._step(nodes, column)
        return nodes

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """For each of the first levels a dense table from tokens, as a number in mixed radix, to nodes."""
        tables: list[np.ndarray] = []
        most = min(_DENSE, max(_SMALL, _CELLS_A_NODE * len(self.tokens)))
        cells, size = np.zeros(1, dtype=np.int64), 1
        for level, choices in enumerate(self.choices):
            span = int(choices[-1] - choices[0]) + 1
            size *= span
            if size > most:
                break
            start, end = self.starts[level + 1], self.starts[level + 2]
            parents = np.arange(self.starts[level], start)
            counts = self.children[parents + 1] - self.children[parents]
            cells = np.repeat(cells, counts) * span + self.tokens[start:end] - choices[0]
            table = np.full(size, -1, dtype=np.int32)
            table[cells] = np.arange(start, end)
            tables.append(table)
        return tables

    def _step(self, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The child of each of `nodes` (-1: none) by its token, -1 where there is none."""
        known = np.maximum(nodes, 0)
        low, end = self.children[known].astype(np.int64), self.children[known + 1].astype(np.int64)
        high = end.copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            below = open_ & (self.tokens[np.minimum(middle, len(self.tokens) - 1)] < tokens)
            low = np.where(below, middle + 1, low)
            high = np.where(open_ & ~below, middle, high)
        there = np.minimum(low, len(self.tokens) - 1)
        found: np.ndarray = np.where((nodes >= 0) & (low < end) & (self.tokens[there] == tokens), low, -1)
        return found

    def save(self, directory: Path) -> None:
        """Write the arrays to a new directory, one .npy each."""
        with replace_directory(Path(directory)) as temporary:
            for name in _ARRAYS:
                np.save(temporary / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, directory: Path) -> Trie:
        """The trie that `save` wrote, memory-mapped. Raises `BundleError` for anything else."""
        try:
            arrays = {
                name: np.asarray(np.load(Path(directory) / f"{name}.npy", mmap_mode="r", allow_pickle=False))
                for name in _ARRAYS
            }
        except (OSError, ValueError) as error:
            raise BundleError(f"{directory} cannot be read as a trie of item ids ({error})") from error
        trie = cls(**arrays)
        trie._check(directory)
        return trie

    def _check(self, directory: Path) -> None:
        """Refuse arrays that do not belong together."""
        nodes = len(self.tokens)
        sizes = [len(self.children) - 1, len(self.first), len(self.last)]
        arrays = [getattr(self, name) for name in _ARRAYS]
        if (
            not all(array.ndim == 1 and array.dtype.kind == "i" for array in arrays)
            or sizes != [nodes] * 3
            or len(self.starts) < 2
            or self.starts[-1] != nodes
            or self.last[0] != self.items
        ):
            raise BundleError(f"{directory} holds arrays that make no trie: make it again from the item ids")


def ranges(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of `counts[i]` consecutive numbers from `starts[i]` on: the i of each number, and the numbers."""
    of = np.repeat(np.arange(len(starts)), counts)
    ends = np.cumsum(counts)
    return of, np.arange(len(of)) + (starts - ends + counts)[of]
