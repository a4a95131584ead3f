"""How well goals are met: each user's first held-out event that answers a goal is to be found.

The history of every question is all that came before the fold, whatever the goal, and the target is among
the first events of the fold (as many as the goal's horizon in the table), as in training. So the goals of one
user differ in their words alone, and a model that keeps its state reads each history once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters, Recommender, Request
from llmrec.decode.filters import from_objective, merge
from llmrec.errors import LlmrecError
from llmrec.evaluate import metrics
from llmrec.evaluate.protocol import Evaluation, ask, bounds, figures, train_bits
from llmrec.tune.goals import Asked, GoalMaker, spans
from llmrec.verbalize.conditions import Behaviour
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse

TOP = 10
Way = tuple[bool, bool]
"""Whether the words of a question are said, and whether what filters can hold of them is enforced."""
Key = tuple[int, str, Filters]
"""User, words and limits of a question: it is asked once."""


@dataclass(frozen=True, slots=True)
class GoalCase:
    """A question: after the first `cut` events of `user`, what answers the goal next."""

    user: int
    cut: int
    asked: Asked


def goal_cases(
    prepared: Prepared,
    goals: GoalMaker,
    name: str,
    split: str,
    fold: str = "test",
    seed: int = 0,
    users: np.ndarray | None = None,
) -> list[GoalCase]:
    """The questions of one goal in wordings that training never saw; of some `users` (positions), or all.

    The draws depend on the seed, the goal's name and the user alone. Raises `LlmrecError` for an unknown
    goal, or one that the data cannot answer.
    """
    goal = goals.named(name)
    wanted = None if users is None else set(users.tolist())
    retired = prepared.catalog.retired
    cases = []
    for user, cut, stop in spans(prepared, split, fold):
        if wanted is not None and user not in wanted:
            continue
        rng = np.random.default_rng([seed, user, *name.encode()])
        behaviour = Behaviour(prepared.histories.history(user, stop), goals.conditions.facts)
        asked = goals.find(goal, behaviour, cut, rng)
        if asked is not None and not retired[asked.target]:
            cases.append(GoalCase(user, cut, goals.said(asked, rng, "heldout")))
    return cases


def evaluate_goals(
    recommender: Recommender,
    prepared: Prepared,
    goals: GoalMaker,
    names: Sequence[str] | None = None,
    split: str = "leave-last-out",
    fold: str = "test",
    seed: int = 0,
    most: int | None = None,
    hears: bool = True,
    extra: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Evaluation]:
    """For each goal the lists without its words and, where the model `hears`, with them; see docs/report.md.

    Where a filter can hold what is said, there is a third row with it enforced, as answers are served.

    `names` default to all goals of `goals`; one that no event of the fold answers has no row. `most` bounds
    the users, drawn with the seed and the same for all goals. `seed` also draws what is asked and its
    wording. Lists leave out the items of the history where `GoalMaker.leaves_out_seen` says so. `extra`
    columns join the rows; `seconds` is a row's share of the time by its questions. Raises `LlmrecError` for
    an unknown goal, or when nothing at all can be asked.
    """
    users = _drawn([user for user, _, _ in spans(prepared, split, fold)], most, seed)
    cases = {
        name: found
        for name in (goals.goals if names is None else names)
        if (found := goal_cases(prepared, goals, name, split, fold, seed, users))
    }
    if not cases:
        raise LlmrecError(f"no {fold} event of the split {split!r} of {prepared.name} answers a goal")
    asking = _Asking(recommender, prepared, goals)
    for found in cases.values():
        for case in found:
            for way in _ways(case, hears):
                asking.add(case, way)
    asking.ask(progress)
    same = {"model": recommender.name, "dataset": prepared.name, "split": split, "fold": fold, "seed": seed}
    bits = train_bits(prepared, split)
    evaluations = []
    for name, found in cases.items():
        for way in _ways(found[0], hears):
            row, values = asking.figures(found, way, bits)
            named = same | {"objective": f"goal:{name}"}
            evaluations.append(Evaluation(named | row | dict(extra or {}), values))
    return evaluations


def _ways(case: GoalCase, hears: bool) -> tuple[Way, ...]:
    """All ways to ask a goal, the same for all of its questions: a goal has words always or never."""
    if not hears or not case.asked.words:
        return ((False, False),)
    limited = from_objective(case.asked.objective) != Filters()
    return ((False, False), (True, False), (True, True)) if limited else ((False, False), (True, False))


def _drawn(users: list[int], most: int | None, seed: int) -> np.ndarray:
    if most is None or len(users) <= most:
        return np.array(users, dtype=np.int64)
    chosen = np.random.default_rng(seed).choice(len(users), most, replace=False)
    return np.array(users, dtype=np.int64)[np.sort(chosen)]


class _Asking:
    """All questions at once, one user's together; a question that several goals share is asked once."""

    def __init__(self, recommender: Recommender, prepared: Prepared, goals: GoalMaker) -> None:
        self._recommender = recommender
        self._prepared = prepared
        self._goals = goals
        self._requests: dict[Key, Request] = {}
        self._lists: dict[Key, np.ndarray] = {}
        self._read: dict[str, Objective] = {}
        self._seconds = 0.0

    def _asked(self, case: GoalCase, way: Way) -> tuple[str, Objective, Filters]:
        """Words, what is read in them, and the limits of the list."""
        said, enforced = way
        words = case.asked.words if said else ""
        if (read := self._read.get(words)) is None:
            read = self._read[words] = parse(words, self._goals.maker.lexicon)
        limits = Filters(exclude_seen=self._goals.leaves_out_seen(case.asked.objective))
        return words, read, merge(limits, from_objective(read)) if enforced else limits

    def _key(self, case: GoalCase, way: Way) -> Key:
        words, _, limits = self._asked(case, way)
        return case.user, words, limits

    def add(self, case: GoalCase, way: Way) -> None:
        """Note a question."""
        words, read, limits = self._asked(case, way)
        if (key := (case.user, words, limits)) not in self._requests:
            history = self._prepared.histories.history(case.user, case.cut)
            self._requests[key] = Request(history, words, read, limits, case.user)

    def ask(self, progress: Callable[[int, int], None] | None) -> None:
        """Ask all that was noted."""
        keys = sorted(self._requests, key=lambda key: key[:2])
        start = time.perf_counter()
        lists = ask(self._recommender, [self._requests[key] for key in keys], progress=progress)
        self._seconds = time.perf_counter() - start
        self._lists = dict(zip(keys, lists, strict=True))

    def figures(
        self, cases: Sequence[GoalCase], way: Way, bits: np.ndarray
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The figures of some questions as columns of a row, and by question."""
        keys = [self._key(case, way) for case in cases]
        lists = np.stack([self._lists[key] for key in keys])
        targets = np.array([case.asked.target for case in cases], dtype=np.int64)
        values = figures(lists, targets, bits)
        tail = self._goals.conditions.facts.tail
        values["long_tail@10"] = np.array([_share(row[:TOP], tail) for row in lists])
        honoured = self._honoured(cases, [self._requests[key] for key in keys], lists)
        if honoured is not None:
            values["honoured@10"] = honoured
        items = len(self._prepared.catalog)
        leaves_out = all(self._goals.leaves_out_seen(case.asked.objective) for case in cases)
        row: dict[str, Any] = {"said": way[0], "enforced": way[1], "filter_seen": leaves_out}
        row |= {name: float(column.mean()) for name, column in values.items()}
        row |= {
            "coverage": metrics.coverage(lists, items),
            "gini": metrics.gini(lists, items),
            "users": len(cases),
            "targets_seen": sum(
                any(event.item == case.asked.target for event in self._requests[key].history)
                for case, key in zip(cases, keys, strict=True)
            ),
            "seconds": self._seconds * len(cases) / len(self._requests),
            "intervals": bounds(values),
        }
        return row, values

    def _honoured(
        self, cases: Sequence[GoalCase], requests: Sequence[Request], lists: np.ndarray
    ) -> np.ndarray | None:
        """Share of each top 10 that is what the goal says of items; None when it says nothing of them."""
        conditions, shares = self._goals.conditions, []
        for case, request, row in zip(cases, requests, lists, strict=True):
            now = self._prepared.histories.history(case.user, case.asked.at + 1)[-1].time
            fitting = conditions.honouring(case.asked.objective, request.history, now)
            if fitting is None:
                return None
            shares.append(_share(row[:TOP], fitting))
        return np.array(shares)


def _share(row: np.ndarray, fitting: np.ndarray) -> float:
    """Share of a list's items that fit, 0 for an empty list."""
    items = row[row >= 0]
    return float(fitting[items].mean()) if len(items) else 0.0
