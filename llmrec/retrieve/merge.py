"""The lists of several goals become one list of distinct items.

| how | the list |
|---|---|
| weights | the most probable items where a goal is drawn by its weight, then an item as its list has it |
| quotas | each goal brings its share of the places, by largest remainder, mixed as evenly as they go |
| round-robin | the goals take turns |
| mmr, dpp | "weights", chosen so that the list differs within itself (see `retrieve.diversity`) |

An item that is in several lists counts once. The score of an item in a merged list is its probability in
the mixture that "weights" ranks by, whichever way it came in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.errors import LlmrecError
from llmrec.retrieve.diversity import DPP_BALANCE, MMR_BALANCE, dpp, mmr, scaled

MERGES = ("weights", "quotas", "round-robin", "mmr", "dpp")


@dataclass(frozen=True, slots=True)
class Ranked:
    """The list of one goal: distinct items int64 [n], first first, and their scores float [n].

    Scores are log-odds, as the language model gives them: only differences within a list count. Turns and
    quotas go by the order, which need not be that of the scores (a diverse list). Raises `ValueError` for
    what is no such list.
    """

    items: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if self.items.shape != self.scores.shape or self.items.ndim != 1:
            raise ValueError(f"items have shape {self.items.shape}, scores {self.scores.shape}")
        if len(np.unique(self.items)) != len(self.items) or (self.items < 0).any():
            raise ValueError("a list names an item twice, or none")
        if not np.isfinite(self.scores).all():
            raise ValueError("the scores of a list are not finite")


@dataclass(frozen=True, slots=True)
class Merged:
    """Items int64 [n], first first, their probabilities in the mixture float64 [n], and for which goal.

    `goals` int64 [n] numbers the lists: the one that brought the item, or, where all lists together did,
    the one that gave it most of its probability. An item is in the list of its goal.
    """

    items: np.ndarray
    scores: np.ndarray
    goals: np.ndarray

    @property
    def log_odds(self) -> np.ndarray:
        """The scores as `Ranked` has them."""
        found: np.ndarray = np.log(np.maximum(self.scores, np.finfo(np.float64).tiny))
        return found


def merge(
    lists: Sequence[Ranked],
    k: int,
    how: str = "weights",
    weights: Sequence[float] | None = None,
    vectors: Callable[[np.ndarray], np.ndarray] | None = None,
    balance: float | None = None,
) -> Merged:
    """One list of `k` distinct items, or of all there are; see the module for `how`.

    `weights` are the goals' (default: all equal); a goal of weight 0 only fills places that nothing else
    can. In "round-robin" they do not count. "mmr" and "dpp" need `vectors`, which maps items int64 [n] to
    float [n, width], and take `balance` (see `retrieve.diversity`; default: each its own).
    Raises `LlmrecError` for weights that cannot be, an unknown `how`, and k below 1.
    """
    if k < 1:
        raise LlmrecError(f"k is {k}, it must be at least 1")
    if how not in MERGES:
        raise LlmrecError(f"lists are merged by {how!r}, it must be one of: {', '.join(MERGES)}")
    shares = shares_of(weights, len(lists))
    mixture = _Mixture(lists, shares)
    if how == "round-robin":
        return mixture.taken(_round_robin(lists, k))
    if how == "quotas":
        return mixture.taken(_by_quotas(lists, quotas(shares, k), mixture))
    if how == "weights":
        return mixture.at(mixture.order[:k])
    if vectors is None:
        raise ValueError(f"{how} needs the vectors of items")
    choose, usual = (mmr, MMR_BALANCE) if how == "mmr" else (dpp, DPP_BALANCE)
    balance = usual if balance is None else balance
    candidates = mixture.order
    relevance = scaled(mixture.at(candidates).log_odds)
    return mixture.at(candidates[choose(relevance, vectors(mixture.items[candidates]), k, balance)])


def shares_of(weights: Sequence[float] | None, goals: int) -> np.ndarray:
    """Weights float64 [goals] that add up to 1; raises `LlmrecError` for what cannot be weights."""
    given = np.ones(goals) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.shape != (goals,) or not goals:
        raise LlmrecError(f"there are {given.size} weights for {goals} wishes: give one each")
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        shown = ", ".join(f"{weight:g}" for weight in given)
        raise LlmrecError(f"the weights are {shown}: they must be at least 0, and one above it")
    given = given / given.max()  # so that the sum of the largest floats is finite
    shares: np.ndarray = given / given.sum()
    return shares


def quotas(shares: np.ndarray, k: int) -> np.ndarray:
    """Places of each goal, int64 [goals], `k` in all, by largest remainder; of equals the first goal."""
    exact = shares * k
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    # Rounded, so that thirds of nine places are three each and remainders that are equal stay equal.
    remainders = np.round(exact - counts, 9)
    counts += (remainders >= 1).astype(np.int64)
    remainders[remainders >= 1] = 0
    counts[np.argsort(-remainders, kind="stable")[: k - counts.sum()]] += 1
    return counts


class _Mixture:
    """All items of some lists by index, with their probability where a goal is drawn by its share."""

    def __init__(self, lists: Sequence[Ranked], shares: np.ndarray) -> None:
        """Each list is a softmax of its scores over itself; an item outside a list has none there."""
        self.items = np.unique(np.concatenate([each.items for each in lists])).astype(np.int64)
        parts = np.zeros((len(lists), len(self.items)))
        inside = np.zeros(parts.shape, dtype=bool)
        for row, each in enumerate(lists):
            if len(each.items):
                at = np.searchsorted(self.items, each.items)
                odds = np.exp(each.scores.astype(np.float64) - each.scores.max())
                parts[row, at] = shares[row] * odds / odds.sum()
                inside[row, at] = True
        self.scores = parts.sum(axis=0)
        self.goals = np.where(inside, parts, -1.0).argmax(axis=0)
        self.order: np.ndarray = np.argsort(-self.scores, kind="stable")

    def at(self, places: np.ndarray) -> Merged:
        """The items at some places of `items`, in that order."""
        return Merged(self.items[places], self.scores[places], self.goals[places])

    def taken(self, taken: Sequence[tuple[int, int]]) -> Merged:
        """Some (item, goal) pairs, in that order."""
        items = np.array([item for item, _ in taken], dtype=np.int64)
        goals = np.array([goal for _, goal in taken], dtype=np.int64)
        return Merged(items, self.scores[np.searchsorted(self.items, items)], goals)


def _round_robin(lists: Sequence[Ranked], k: int) -> list[tuple[int, int]]:
    """The goals' next items in turn; an item that is there already is passed over."""
    waiting = [iter(each.items.tolist()) for each in lists]
    taken: dict[int, int] = {}
    left = list(range(len(lists)))
    while left and len(taken) < k:
        for goal in tuple(left):
            item = next((each for each in waiting[goal] if each not in taken), None)
            if item is None:
                left.remove(goal)
            elif len(taken) < k:
                taken[item] = goal
    return list(taken.items())


def _by_quotas(lists: Sequence[Ranked], counts: np.ndarray, mixture: _Mixture) -> list[tuple[int, int]]:
    """Each goal's best items that no other goal has, as many as its count; then what the mixture has.

    Where an item that another goal took is all that would fill a count, it changes hands if the other goal
    has a substitute: counts are exact whenever any choice of items makes them so.
    """
    choices = [each.items.tolist() for each in lists]
    owner: dict[int, int] = {}

    def fill(goal: int, asked: set[int]) -> bool:
        """Give `goal` one more item; goals in `asked` have been asked for theirs."""
        free = next((item for item in choices[goal] if item not in owner), None)
        if free is not None:
            owner[free] = goal
            return True
        for item in choices[goal]:
            other = owner[item]
            if other in asked:
                continue
            asked.add(other)
            if fill(other, asked):
                owner[item] = goal
                return True
        return False

    turns = [goal for goal in _turns(counts) if fill(goal, {goal})]
    own = [iter([item for item in choices[goal] if owner.get(item) == goal]) for goal in range(len(lists))]
    taken = [(next(own[goal]), goal) for goal in turns]
    for at in mixture.order.tolist():
        if len(taken) == counts.sum():
            break
        item = int(mixture.items[at])
        if item not in owner:
            taken.append((item, int(mixture.goals[at])))
    return taken


def _turns(counts: np.ndarray) -> list[int]:
    """Whose turn it is at each place, so that every beginning of the list has about its share of each."""
    dealt = np.zeros(len(counts), dtype=np.int64)
    turns = []
    for place in range(1, int(counts.sum()) + 1):
        due = np.where(dealt < counts, counts * place / counts.sum() - dealt, -np.inf)
        turns.append(int(np.argmax(due)))
        dealt[turns[-1]] += 1
    return turns
