"""Lists with at most so many items of one category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.facts import CategorySets
from llmrec.decode.allowed import AllowedBelow
from llmrec.decode.levels import LevelSearch, Limits
from llmrec.errors import LlmrecError

SPARE = 4
"""How many times as many results as a list needs are looked at: they cost no pass through the model."""


COMMON = 0.9
"""A category of more than this share of the allowed items, such as a root, tells none of them apart."""


@dataclass(frozen=True, slots=True)
class CategoryCap:
    """At most `most` items of a list are of one category.

    Items without categories are free, and so is a category that more than `COMMON` of the allowed items have.
    """

    categories: CategorySets
    most: int

    def __post_init__(self) -> None:
        if self.most < 1:
            raise LlmrecError(f"at most {self.most} items of a category makes no list: allow at least 1")

    def limits(self, allowed: np.ndarray) -> np.ndarray:
        """How many items of each category a list takes of those that are allowed bool [items], int64."""
        sets = self.categories
        own = sets.ids[np.repeat(allowed, np.diff(sets.offsets))]
        held = np.bincount(own, minlength=len(sets.names))
        return np.where(held > COMMON * allowed.sum(), len(allowed), self.most)


@dataclass(slots=True)
class _List:
    """A list as it grows: its items and scores, how many more of each category fit, what may still come."""

    sets: CategorySets
    open: np.ndarray
    room: np.ndarray
    items: list[int]
    scores: list[float]

    @classmethod
    def empty(cls, cap: CategoryCap, allowed: np.ndarray) -> _List:
        return cls(cap.categories, allowed, cap.limits(allowed), [], [])

    def take(self, items: np.ndarray, scores: np.ndarray, k: int) -> None:
        """Take items in their order while they fit; close what no longer fits."""
        sets = self.sets
        for item, score in zip(items.tolist(), scores.tolist(), strict=True):
            if item < 0 or len(self.items) == k:
                break
            own = sets.ids[sets.offsets[item] : sets.offsets[item + 1]]
            if (self.room[own] > 0).all():
                self.room[own] -= 1
                self.items.append(item)
                self.scores.append(score)
                self.open[item] = False
        entries = np.flatnonzero(self.room[sets.ids] <= 0)
        self.open[np.searchsorted(sets.offsets, entries, side="right") - 1] = False


def capped_lists(
    search: LevelSearch, allowed: AllowedBelow | None, k: np.ndarray, cap: CategoryCap
) -> tuple[np.ndarray, np.ndarray]:
    """The items that the cap lets into lists of k one after another, as `LevelSearch.lists` gives them.

    `k` is int64 [prompts]. A list that is short is searched on without the categories that are full: each
    round fills it or closes a category, and it ends only when it has k items or no other allowed item fits.
    Lists are in the order in which items were taken: a later round may find better ones that an earlier
    overlooked.
    """
    items, prompts = search.trie.items, len(k)
    lists = [
        _List.empty(cap, np.ones(items, dtype=bool) if allowed is None else allowed.mask[row].copy())
        for row in range(prompts)
    ]
    length = k.tolist()
    while len(going := _unfinished(lists, length)):
        open_ = np.zeros((prompts, items), dtype=bool)
        for row in going:
            open_[row] = lists[row].open
        found, scores = search.lists(Limits(going, allowed, AllowedBelow(search.trie, open_)))
        for row in going:
            lists[row].take(found[row], scores[row], length[row])
    return _as_arrays(lists, max(length, default=0))


def _unfinished(lists: list[_List], length: list[int]) -> np.ndarray:
    return np.array(
        [row for row, each in enumerate(lists) if len(each.items) < length[row] and each.open.any()],
        dtype=np.int64,
    )


def _as_arrays(lists: list[_List], longest: int) -> tuple[np.ndarray, np.ndarray]:
    index = np.full((len(lists), longest), -1, dtype=np.int64)
    scores = np.full((len(lists), longest), -np.inf, dtype=np.float32)
    for row, each in enumerate(lists):
        index[row, : len(each.items)] = each.items
        scores[row, : len(each.items)] = each.scores
    return index, scores
