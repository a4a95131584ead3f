"""How new items fare in books that were made without them, and when it is time for new ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmrec.items.collisions import Room, keys_of
from llmrec.items.ids import ItemIds

FEW = 20
"""New items below which shares say nothing, unless none has room near it and little is left anywhere."""
TIGHT = 0.1
"""What little is: free IDs as a share of all."""
MANY, FARTHER, AWAY, FULL = 0.2, 0.3, 0.1, 0.5
"""When it is time to retrain. Of the new items: their number, as a share of the first ones; the share with a
farther code, less that of the first ones; the share outside of the prefix chosen; the share with no room
there. Their distance from the codes chosen is no sign: books fit the items of small catalogues too well.
"""


@dataclass(frozen=True, slots=True)
class Crowding:
    """New items of one generation; shares are of the new items.

    added: their number. built: that of the first items. farther: share whose code is farther than the one
    that the quantiser chose; farther_built: the same of the first items. left_prefix: share that differs from
    the choice before the last quantised level. extra: mean extra cost of those that are farther, and
    distance: mean cost of the codes chosen, both in squared distance (see `Quantiser.costs`); distance_built:
    of the first items. free_near: median of the free IDs under the prefix of the choice. full_near: share
    with none left. free: free IDs in all.
    """

    added: int
    built: int
    farther: float
    farther_built: float
    left_prefix: float
    extra: float
    distance: float
    distance_built: float
    free_near: float
    full_near: float
    free: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is time to retrain, as parts of a sentence; none when it is not."""
        if not self.added:
            return ()
        if self.free <= 0:
            return ("no ID is free",)
        if self.added < FEW:
            if self.full_near < 1 or self.free > TIGHT * (self.free + self.built + self.added):
                return ()
            left = "1 ID is" if self.free == 1 else f"{self.free:,} IDs are"
            return (f"none of the new items has a free code left near it and {left} free in all",)
        signs = (
            (self.added > MANY * self.built, f"the catalogue has grown by {self.added / self.built:.0%}"),
            (
                self.farther > self.farther_built + FARTHER,
                f"{self.farther:.0%} of the new items had to take a farther code",
            ),
            (self.left_prefix > AWAY, f"{self.left_prefix:.0%} had to go where unlike items are"),
            (self.full_near > FULL, f"{self.full_near:.0%} have no free code left near them"),
        )
        return tuple(reason for sign, reason in signs if sign)

    @property
    def sentence(self) -> str:
        """What a person should know and do."""
        if not self.added:
            if self.free <= 0:
                return "No items were added, and no ID is free: a new item needs a new generation of them."
            return f"No items were added; {self.free:,} IDs are free."
        if reasons := self.reasons:
            return (
                f"It is time for a new generation of item IDs, and to fine-tune on it: {', '.join(reasons)}."
            )
        came = "1 item was" if self.added == 1 else f"{self.added:,} items were"
        return (
            f"The books still hold: {came} added, {self.farther:.0%} of them had to take a farther code, and "
            f"{self.free:,} IDs are free."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the reasons and the sentence."""
        return {**asdict(self), "reasons": list(self.reasons), "sentence": self.sentence}


def crowding(ids: ItemIds) -> Crowding:
    """How the items that were added to `ids` fared; zeros where none were."""
    sizes = ids.quantiser.settings.sizes
    room = Room(sizes, ids.capacity, ids.quantised)
    new = slice(ids.built, None)
    first = slice(None, ids.built)
    extra = ids.costs[:, 1] - ids.costs[:, 0]
    rounding = 1e-6 * float(np.abs(ids.costs).max())
    farther = (ids.quantised != ids.wanted).any(axis=1) & (extra > rounding)
    away = (ids.quantised[:, :-1] != ids.wanted[:, :-1]).any(axis=1)
    last = len(sizes) - 1
    prefixes = keys_of(ids.wanted[new, :last], sizes)
    free_near = np.array([room.below(last) - room.held(key, last) for key in prefixes.tolist()])
    return Crowding(
        added=len(ids) - ids.built,
        built=ids.built,
        farther=_mean(farther[new]),
        farther_built=_mean(farther[first]),
        left_prefix=_mean(away[new]),
        extra=_mean(extra[new][farther[new]]),
        distance=_mean(ids.costs[new, 0]),
        distance_built=_mean(ids.costs[first, 0]),
        free_near=float(np.median(free_near)) if len(free_near) else 0.0,
        full_near=_mean(free_near <= 0),
        free=room.below(0) - len(ids),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0
