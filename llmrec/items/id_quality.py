"""How good IDs are before any model learns them: collisions, use of the codes, what is kept of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmrec.items.collisions import keys_of
from llmrec.items.ids import ItemIds
from llmrec.items.quantise.contract import CELLS, checked

NEAREST = 10
"""Nearest items that are compared."""
EXACT_PAIRS = 400_000_000
"""Pairs of items whose distances are computed: all of 20,000 items, of more items those of a sample."""
_SAME = 1e-6
"""Squared distances that differ by less, relative to the squared lengths, are equal up to rounding."""


@dataclass(frozen=True, slots=True)
class LevelUse:
    """How a level's codes are used: of `size` codes `used`, the most frequent one by `largest` items.

    entropy is in bits, perplexity is 2 to its power: as many codes, used equally, would say as much.
    """

    size: int
    used: int
    largest: int
    entropy: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class IdQuality:
    """The quality of `items` IDs; the shares are of the items.

    quantiser, sizes, collisions, generation: see `ItemIds`. colliding: share that wanted the codes of another
    item too. distinct: different codes that were wanted. items_per_code: how many of these were wanted by 1,
    2, ... items. relocated: share that got other codes, left_prefix: before the last quantised level. extra:
    mean extra cost of a relocated item over the mean cost, None where choices cost nothing; below 0 where
    what was wanted is farther: chosen level by level, by `balanced` for equal shares. use: of each level.
    reconstruction_error: squared error of what the codes stand for over that of the mean vector, None where
    codes stand for nothing. neighbours_kept: recall of the 10 nearest items among the 10 that share the most
    first codes; first_code_kept: share of the 10 nearest with the same first code; both None for one item.
    sampled: of how many items the last two are means. Without vectors that is 0, and the three figures that
    need them are None.
    """

    items: int
    quantiser: str
    sizes: tuple[int, ...]
    collisions: str
    generation: int
    colliding: float
    distinct: int
    items_per_code: dict[int, int]
    relocated: float
    left_prefix: float
    extra: float | None
    use: tuple[LevelUse, ...]
    reconstruction_error: float | None
    neighbours_kept: float | None
    first_code_kept: float | None
    sampled: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values["sizes"] = list(self.sizes)
        values["use"] = list(values["use"])
        values["items_per_code"] = {str(size): count for size, count in self.items_per_code.items()}
        return values


def measure_ids(ids: ItemIds, vectors: np.ndarray | None = None, seed: int = 0) -> IdQuality:
    """The quality of `ids` for their items' vectors [items, width]; `seed` draws the sample of many items.

    Without vectors, what the codes alone show.
    """
    kept = first = error = None
    sampled = 0
    if vectors is not None:
        vectors = checked(vectors, ids.quantiser.width)
        if len(vectors) != len(ids):
            raise ValueError(f"{len(vectors)} vectors for {len(ids)} IDs")
        kept, first, sampled = _neighbours(ids.codes, ids.sizes, vectors, seed)
        error = _reconstruction_error(ids, vectors)
    settings = ids.quantiser.settings
    _, place, groups = np.unique(keys_of(ids.wanted, settings.sizes), return_inverse=True, return_counts=True)
    held, how_often = np.unique(groups, return_counts=True)
    moved = (ids.quantised != ids.wanted).any(axis=1)
    cost = float(ids.costs[:, 0].mean(dtype=np.float64))
    extra = float((ids.costs[moved, 1] - ids.costs[moved, 0]).mean(dtype=np.float64)) if moved.any() else 0.0
    return IdQuality(
        items=len(ids),
        quantiser=settings.kind,
        sizes=ids.sizes,
        collisions=ids.collisions,
        generation=ids.generation,
        colliding=float((groups[place.ravel()] > 1).mean()),
        distinct=len(groups),
        items_per_code=dict(zip(held.tolist(), how_often.tolist(), strict=True)),
        relocated=float(moved.mean()),
        left_prefix=float((ids.quantised[:, :-1] != ids.wanted[:, :-1]).any(axis=1).mean()),
        extra=extra / cost if cost > 0 else None,
        use=tuple(level_use(ids.codes[:, level], size) for level, size in enumerate(ids.sizes)),
        reconstruction_error=error,
        neighbours_kept=kept,
        first_code_kept=first,
        sampled=sampled,
    )


def level_use(codes: np.ndarray, size: int) -> LevelUse:
    """How items with `codes` int [n] of one level use its `size` codes."""
    counts = np.bincount(codes, minlength=size)
    shares = counts[counts > 0] / len(codes)
    entropy = float(-(shares * np.log2(shares)).sum())
    return LevelUse(size, int((counts > 0).sum()), int(counts.max()), max(entropy, 0.0), float(2**entropy))


def _reconstruction_error(ids: ItemIds, vectors: np.ndarray) -> float | None:
    """Squared error over that of the mean vector; None where there is none of either."""
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    wrong = spread = 0.0
    step = max(1, CELLS // vectors.shape[1])
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step]
        found = ids.quantiser.reconstruct(ids.quantised[start : start + step])
        if found is None:
            return None
        wrong += float(((block - found) ** 2).sum(dtype=np.float64))
        spread += float(((block - mean) ** 2).sum(dtype=np.float64))
    return wrong / spread if spread > 0 else None


def _neighbours(
    codes: np.ndarray, sizes: Sequence[int], vectors: np.ndarray, seed: int
) -> tuple[float | None, float | None, int]:
    """`neighbours_kept`, `first_code_kept` and of how many items they are means.

    Ties are common: all items under a prefix are equally near by their codes, and equal texts have equal
    vectors. Places that several items tie for are shared among them, which gives the mean over all ways of
    breaking ties, on both sides.
    """
    items = len(codes)
    if items < 2:
        return None, None, 0
    k = min(NEAREST, items - 1)
    asked = np.arange(items)
    if items * items > EXACT_PAIRS:
        asked = np.sort(
            np.random.default_rng(seed).choice(items, max(1, EXACT_PAIRS // items), replace=False)
        )
    shared, chance = _prefix_chances(codes, sizes, k)
    squares = np.einsum("nd,nd->n", vectors, vectors)
    kept = first = 0.0
    step = max(1, CELLS // items)
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        far = squares[rows][:, None] + squares - 2 * (vectors[rows] @ vectors.T)
        far[np.arange(len(rows)), rows] = np.inf
        near, weight = _nearest(far, k, _SAME * squares.max())
        who, other = np.repeat(rows, near.sum(axis=1)), np.nonzero(near)[1]
        same = (shared[who] == shared[other]).cumprod(axis=1).sum(axis=1)
        kept += float((weight[near] * chance[who, same]).sum())
        first += float(weight[near][same > 0].sum())
    return kept / (k * len(asked)), first / (k * len(asked)), len(asked)


def _nearest(far: np.ndarray, k: int, same: float) -> tuple[np.ndarray, np.ndarray]:
    """Which cells of squared distances [n, items] are among the k nearest of their row, and for how much.

    Distances that differ from the k-th by at most `same` tie for the places that are left.
    """
    last = np.partition(far, k - 1, axis=1)[:, k - 1, None]
    before, tied = far < last - same, np.abs(far - last) <= same
    places = k - before.sum(axis=1, keepdims=True)
    weight = before + tied * (places / tied.sum(axis=1, keepdims=True))
    return before | tied, weight


def _prefix_chances(codes: np.ndarray, sizes: Sequence[int], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Which items share prefixes, and what that says of the k nearest by codes.

    Returns numbers of the prefixes of each item, int64 [items, levels], and for each item and each number of
    codes that another shares the chance that this one is among the k nearest, float64 [items, levels + 1].
    """
    items, levels = codes.shape
    shared = np.empty((items, levels), dtype=np.int64)
    alike = np.empty((items, levels + 2), dtype=np.float64)  # others that share at least so many codes
    alike[:, 0], alike[:, levels + 1] = items - 1, 0
    for level in range(levels):
        _, shared[:, level], counts = np.unique(
            keys_of(codes[:, : level + 1], sizes), return_inverse=True, return_counts=True
        )
        alike[:, level + 1] = counts[shared[:, level]] - 1
    exactly = alike[:, :-1] - alike[:, 1:]
    chance = np.clip((k - alike[:, 1:]) / np.maximum(exactly, 1), 0, 1)
    return shared, chance
