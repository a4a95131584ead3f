"""A tree of balanced 2-means over item vectors (TDM section 3.3): a leaf's path is an ID, cut into levels.

TDM learns its tree again from the item vectors that training ends with; here as well, any vectors do. Each
node halves its items by a hyperplane, so that siblings differ by at most one item, and so do all nodes of one
depth. A node with one item needs no hyperplane: the item goes down on side 0, and new ones may go aside.
"""

from __future__ import annotations

import numpy as np

from llmrec.items.quantise.contract import CELLS, checked
from llmrec.items.quantise.settings import QuantiserSettings

_POWER_STEPS = 8
"""Steps towards a node's principal axis, from which 2-means starts."""


class TreeQuantiser:
    """Hyperplanes of the nodes that divide something.

    `nodes` int64 [m], ascending: 2^depth + path. `directions` float32 [m, width], unit rows or zero (items
    that are all equal); `thresholds` float32 [m]: a vector whose product is above goes to side 1.
    """

    def __init__(
        self, settings: QuantiserSettings, nodes: np.ndarray, directions: np.ndarray, thresholds: np.ndarray
    ) -> None:
        self.settings = settings
        self.width = directions.shape[1]
        self._nodes = nodes
        self._directions = directions
        self._thresholds = thresholds

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.codes`."""
        vectors = checked(vectors, self.width)
        node = np.ones(len(vectors), dtype=np.int64)
        for _ in range(sum(self.settings.bits)):
            node = 2 * node + (self._margins(vectors, node) > 0)
        return self._cut(node)

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.assign`: every node halves what comes to it."""
        vectors = checked(vectors, self.width)
        node = np.ones(len(vectors), dtype=np.int64)
        for _ in range(sum(self.settings.bits)):
            node = 2 * node + _halves(node, self._margins(vectors, node))
        return self._cut(node)

    def costs(self, vectors: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        """See `Quantiser.costs`: squared distances from the hyperplanes on whose other side a path goes."""
        vectors = checked(vectors, self.width)
        bits = self.settings.bits
        level = prefixes.shape[1]
        found = np.empty((len(vectors), self.settings.sizes[level]), dtype=np.float32)
        step = max(1, CELLS // (self.settings.sizes[level] * self.width))
        for start in range(0, len(vectors), step):
            some = vectors[start : start + step]
            nodes = np.ones((len(some), 1), dtype=np.int64)
            total = np.zeros((len(some), 1), dtype=np.float32)
            for at in range(level):
                for bit in range(bits[at])[::-1]:
                    side = prefixes[start : start + step, at, None] >> bit & 1
                    total += self._wrong(some, nodes, side)
                    nodes = 2 * nodes + side
            for _ in range(bits[level]):
                wrong = [self._wrong(some, nodes, np.full_like(nodes, side)) for side in (0, 1)]
                total = np.stack([total + one for one in wrong], axis=2).reshape(len(some), -1)
                nodes = np.stack([2 * nodes, 2 * nodes + 1], axis=2).reshape(len(some), -1)
            found[start : start + step] = total
        return found

    def reconstruct(self, codes: np.ndarray) -> None:
        """See `Quantiser.reconstruct`: a region is not a vector."""
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Quantiser.arrays`."""
        return {"nodes": self._nodes, "directions": self._directions, "thresholds": self._thresholds}

    @classmethod
    def from_arrays(cls, settings: QuantiserSettings, arrays: dict[str, np.ndarray]) -> TreeQuantiser:
        """What `arrays` gave."""
        return cls(settings, arrays["nodes"], arrays["directions"], arrays["thresholds"])

    def _margins(self, vectors: np.ndarray, node: np.ndarray) -> np.ndarray:
        """Signed distances of vectors [n, width] from the hyperplanes of their nodes [n]; 0 without one."""
        if not len(self._nodes):
            return np.zeros(len(node), dtype=np.float32)
        place = np.minimum(np.searchsorted(self._nodes, node), len(self._nodes) - 1)
        margins = _products(vectors, self._directions, place) - self._thresholds[place]
        return np.where(self._nodes[place] == node, margins, 0).astype(np.float32)

    def _wrong(self, vectors: np.ndarray, nodes: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Squared distance to `side` [n, p] of the hyperplanes of `nodes` [n, p], 0 for those on it."""
        rows = np.repeat(np.arange(len(vectors)), nodes.shape[1])
        margins = self._margins(vectors[rows], nodes.ravel()).reshape(nodes.shape)
        return np.where((margins > 0) == (side > 0), 0, margins**2).astype(np.float32)

    def _cut(self, node: np.ndarray) -> np.ndarray:
        """Leaves as codes, int32 [n, levels], the first bits first."""
        found = np.empty((len(node), len(self.settings.sizes)), dtype=np.int32)
        for level in range(len(self.settings.sizes))[::-1]:
            found[:, level] = node & (self.settings.sizes[level] - 1)
            node = node >> self.settings.bits[level]
        return found


def fit_tree(vectors: np.ndarray, settings: QuantiserSettings, seed: int) -> TreeQuantiser:
    """Halve vectors [n, width] as often as the levels have bits; all nodes of one depth at once."""
    rng = np.random.default_rng(seed)
    width = vectors.shape[1]
    node = np.ones(len(vectors), dtype=np.int64)
    nodes: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    directions = [np.zeros((0, width), dtype=np.float32)]
    thresholds = [np.zeros(0, dtype=np.float32)]
    for _ in range(sum(settings.bits)):
        order = np.argsort(node, kind="stable")
        names, starts, counts = np.unique(node[order], return_index=True, return_counts=True)
        divided = np.flatnonzero(counts > 1)
        side = np.zeros(len(vectors), dtype=np.int64)
        if len(divided):
            rows = order[np.repeat(counts > 1, counts)]
            groups = np.repeat(np.arange(len(divided)), counts[divided])
            axes, cuts, side[rows] = _divide(vectors[rows], groups, settings.rounds, rng)
            nodes.append(names[divided])
            directions.append(axes)
            thresholds.append(cuts)
        node = 2 * node + side
    parts = (np.concatenate(each) for each in (nodes, directions, thresholds))
    return TreeQuantiser(settings, *parts)


def _divide(
    points: np.ndarray, groups: np.ndarray, rounds: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balanced 2-means in every group at once: unit directions [g, width], thresholds [g], sides [n].

    `groups` int64 [n] ascends from 0, every group has at least two points. With two centres given, the best
    halves are those of the order along their difference.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    counts = np.diff(starts, append=len(groups))
    centred = points - (np.add.reduceat(points, starts, axis=0) / counts[:, None])[groups]
    # One start for all groups, so that what a seed gives does not hang on how many there are.
    axes = np.tile(rng.standard_normal((points.shape[1],)).astype(np.float32), (len(starts), 1))
    for _ in range(_POWER_STEPS):
        products = _products(centred, axes, groups)
        axes = _unit(np.add.reduceat(centred * products[:, None], starts, axis=0))
    sides = _halves(groups, _products(centred, axes, groups))
    for _ in range(rounds):
        sums = np.add.reduceat(centred * (2 * sides - 1)[:, None].astype(np.float32), starts, axis=0)
        axes = _unit(sums / counts[:, None])
        moved = _halves(groups, _products(centred, axes, groups))
        if np.array_equal(moved, sides):
            break
        sides = moved
    products = _products(points, axes, groups)  # of the points themselves, as codes are looked up
    sides = _halves(groups, products)
    below = np.maximum.reduceat(np.where(sides == 0, products, -np.inf), starts)
    above = np.minimum.reduceat(np.where(sides == 1, products, np.inf), starts)
    middle = (below + above) / 2
    # They are equal by rounding, or where all items are.
    thresholds = np.where(middle < above, middle, below).astype(np.float32)
    return axes, thresholds, sides


def _halves(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each of n members of groups int64 [n], 0 in the lower half of its group by value, else 1.

    Of equal values the first members count as lower; of an odd number one more is in the lower half.
    """
    order = np.lexsort((values, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    counts = np.diff(starts, append=len(groups))
    rank = np.arange(len(groups)) - np.repeat(starts, counts)
    sides = np.zeros(len(groups), dtype=np.int64)
    sides[order] = rank >= np.repeat((counts + 1) // 2, counts)
    return sides


def _products(points: np.ndarray, axes: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Inner product of each point [n, width] with its row of `axes`, float32 [n]."""
    found = np.empty(len(points), dtype=np.float32)
    step = max(1, CELLS // points.shape[1])
    for start in range(0, len(points), step):
        some = slice(start, start + step)
        found[some] = np.einsum("nd,nd->n", points[some], axes[place[some]])
    return found


def _unit(axes: np.ndarray) -> np.ndarray:
    """Rows of length 1; what has next to no length becomes zero."""
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    return np.where(lengths > 1e-20, axes / np.maximum(lengths, 1e-20), 0).astype(np.float32)
