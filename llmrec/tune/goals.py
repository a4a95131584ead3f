"""Goals from behaviour: the next event that a goal would have been answered with, and its words.

Nothing is invented: a target is an event that did come after the cut, and what is said of it is true of it.
URM trains its objectives in the same way (section 1 of the paper).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from llmrec.data.events import Histories, History
from llmrec.data.facts import ItemFacts
from llmrec.data.prepared import FOLDS, Prepared
from llmrec.errors import LlmrecError
from llmrec.tune.answerable import AnswerableGoals
from llmrec.tune.held_out import Part, asked_parts, covers
from llmrec.tune.settings import GoalSettings
from llmrec.verbalize.conditions import Behaviour, Conditions
from llmrec.verbalize.goals import EACH, FILE, PAIRS, TARGET, Goal, GoalTable
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.saying import pick
from llmrec.verbalize.sought import Sought, sought
from llmrec.verbalize.templates import Templates
from llmrec.verbalize.wishes import WishMaker

REPEATS = 0.01
"""Up to this share of repeated events, an item is had once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that behaviour answers.

    `at` is the place of the target event in the history, `target` its item. `words` say the objective,
    `search` is what it seeks.
    """

    goal: str
    at: int
    target: int
    objective: Objective
    words: str = ""
    search: Sought = Sought()


Ask = Callable[[int, np.random.Generator, int], list[Asked]]
"""What is asked after the first events of one history: at most so many questions, no goal twice."""


def spans(prepared: Prepared, split: str, fold: str) -> Iterator[tuple[int, int, int]]:
    """(user, cut, stop): the events of the user in the fold are those from `cut` to before `stop`."""
    offsets, rows = prepared.histories.offsets, np.flatnonzero(prepared.folds(split) == FOLDS.index(fold))
    if not len(rows):
        return
    users = np.searchsorted(offsets, rows, side="right") - 1
    found, first = np.unique(users, return_index=True)
    last = np.append(first[1:], len(rows)) - 1
    for user, start, end in zip(found.tolist(), rows[first].tolist(), rows[last].tolist(), strict=True):
        before = int(offsets[user])
        yield user, start - before, end + 1 - before


def goal_table(templates: Templates, settings: GoalSettings) -> GoalTable:
    """The table of the templates (of llmrec's, where they have none) with the settings' rows and weights."""
    if FILE in templates.sources:
        table = GoalTable.read(templates.text(FILE), f"{templates.origin}/{FILE}")
    else:  # templates from before there were goals
        table = _shipped()
    return table.extended(settings.add, "recipe: goals: add").weighted(settings.weights)


def _shipped() -> GoalTable:
    """The table that comes with llmrec."""
    templates = Templates.load()
    return GoalTable.read(templates.text(FILE), f"{templates.origin}/{FILE}")


class GoalMaker:
    """Finds what the goals of a table ask of one dataset.

    `goals` are those that this data can answer at all, a goal with `each` once for each value that occurs;
    `left_out` says of the others what the data does not have. `trained` are the names that `ask` draws from,
    with their weights.
    """

    def __init__(
        self, table: GoalTable, settings: GoalSettings, maker: WishMaker, facts: ItemFacts, train: Histories
    ) -> None:
        """Raises `LlmrecError` for a name in `settings` that is no goal, or none that this data answers."""
        self.table = table
        self.maker = maker
        self.conditions = Conditions(maker, facts)
        data = AnswerableGoals(self.conditions, train)
        self._repeats = data.repeats
        self._families: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.goals = self._answered(data)
        single = set(self._families)
        self._held_out = {name: self._parts(name) for name in settings.held_out}
        for name in settings.held_out:  # to be measured though it never trains
            if all(part in single for part in self._parts(name)):
                goal = self.named(name)
                self.goals[goal.name] = goal
        chosen = [self.named(name) for name in settings.only] or list(self.goals.values())
        for goal in chosen if settings.only else ():
            if not goal.weight:
                raise LlmrecError(f"goals: only: {goal.name!r} has weight 0: give it one in goals.weights")
            held = self._held_out_as(goal)
            if held is not None:
                raise LlmrecError(
                    f"goals: {goal.name!r} is in `only` and held out: it can ask all that {held!r} asks, "
                    "take one of them out"
                )
        self.trained = {
            goal.name: goal.weight for goal in chosen if goal.weight and self._held_out_as(goal) is None
        }
        self.goals |= {goal.name: goal for goal in chosen}

    def _answered(self, data: AnswerableGoals) -> dict[str, Goal]:
        """The goals that the data answers, combinations last; notes what the others lack."""
        single: dict[str, Goal] = {}
        for name in self.table.singles:
            expanded = data.expanded(self.table.goals[name])
            lacks = [data.lacks(goal) for goal in expanded]
            answered = [goal for goal, lack in zip(expanded, lacks, strict=True) if not lack]
            single |= {goal.name: goal for goal in answered}
            self._families |= {goal.name: name for goal in answered}
            if not answered:
                self.left_out[name] = lacks[0] if lacks else f"no two values for `{EACH}`"
        goals = dict(single)
        for goal in self.table.goals.values():
            missing = [part for part in goal.components if part not in single]
            if missing:
                lack = self.left_out.get(missing[0], "several goals go by this name")
                self.left_out[goal.name] = f"no {missing[0]!r} ({lack})"
            elif goal.components:
                goals[goal.name] = goal
        return goals

    @classmethod
    def of(
        cls, prepared: Prepared, split: str, templates: Templates, settings: GoalSettings | None = None
    ) -> GoalMaker:
        """The goals of a prepared dataset, with facts of the training fold of `split`."""
        settings = settings or GoalSettings()
        train = prepared.train(split)
        facts = ItemFacts.from_histories(prepared.catalog, train)
        maker = WishMaker(prepared.catalog, templates, Lexicon.of(prepared))
        return cls(goal_table(templates, settings), settings, maker, facts, train)

    def check_own(self) -> None:
        """Raises `LlmrecError` for a row that is not in llmrec's own table and that this data cannot answer.

        A goal that somebody wrote for this data and that never trains is a mistake; the shipped table is for
        all data.
        """
        shipped = _shipped().goals
        for name, lack in self.left_out.items():
            known, goal = shipped.get(name, Goal("")), self.table.goals[name]
            if replace(known, weight=goal.weight) != goal:
                raise LlmrecError(f"goals: this data cannot answer {name!r}: it has {lack}")

    def named(self, name: str) -> Goal:
        """A goal that this data answers, or a combination of such, by name. Raises `LlmrecError`."""
        if name in self.goals:
            return self.goals[name]
        parts = self._parts(name)
        for known in self.goals.values():
            if set(known.parts) == parts:
                return known
        for part in parts:
            if part not in self.goals:
                one = next(other for other, family in self._families.items() if family == part)
                raise LlmrecError(f"{part!r} is several goals: name one of them, such as {one!r}")
        return Goal(name, components=tuple(name.split("+")))

    def _parts(self, name: str) -> frozenset[str]:
        """The single goals, or goals with `each`, that a name is made of; all of them known and answered."""
        parts = frozenset(name.split("+"))
        for part in sorted(parts):
            if part not in self._families and part not in self._families.values():
                self.table.goal(part.partition("=")[0])  # says what goals there are
                lack = self.left_out.get(part, "no such value")  # of a goal with `each`
                can = ", ".join(self._families)
                raise LlmrecError(
                    f"this data cannot answer the goal {part!r}: it has {lack}. It can answer: {can}"
                )
        return parts

    def _held_out_as(self, goal: Goal) -> str | None:
        """The held-out goal that this one contains, by name or in what it asks; None where it may train.

        A goal that asks nothing is held out by its name alone: all goals contain nothing.
        """
        names = {*goal.parts, *(self._families.get(part, part) for part in goal.parts)}
        asked = self._asked(goal.parts)
        for name, parts in self._held_out.items():
            held = self._asked(parts)
            if parts <= names or (held and covers(asked, held)):
                return name
        return None

    def _asked(self, names: Iterable[str]) -> frozenset[Part]:
        """What goals, or goals with `each`, ask together."""
        return asked_parts(
            self.goals[name] if name in self.goals else self.table.goals[name] for name in names
        )

    def on(self, history: History) -> Ask:
        """What can be asked of one history: `ask(cut, rng, most)` draws goals and finds their next targets.

        A goal without a target after the cut gives way to another; the list is short when too few have one.
        """
        behaviour = Behaviour(history, self.conditions.facts)

        def ask(cut: int, rng: np.random.Generator, most: int) -> list[Asked]:
            left = dict(self.trained)
            asked: list[Asked] = []
            while left and len(asked) < most:
                weights = np.array(list(left.values()))
                name = list(left)[int(rng.choice(len(weights), p=weights / weights.sum()))]
                found = self.find(self.goals[name], behaviour, cut, rng)
                if found is not None:
                    asked.append(self.said(found, rng))
                del left[name]
            return asked

        return ask

    def find(
        self, goal: Goal, behaviour: Behaviour, cut: int, rng: np.random.Generator, stop: int | None = None
    ) -> Asked | None:
        """The goal with the first event from `cut` on (before `stop`) that answers it, without words yet."""
        parts = [self.goals[name] for name in goal.parts]
        own = [part.horizon or self.table.horizon for part in parts]
        stop = min(len(behaviour) if stop is None else stop, cut + (goal.horizon or min(own)))
        if cut >= stop or not all(self._follows(part, behaviour, cut) for part in parts):
            return None
        fits = np.ones(stop - cut, dtype=bool)
        for part in parts:
            for conditions, wanted in ((part.says, True), (part.when, True), (part.unless, False)):
                for name, value in conditions.items():
                    fits &= self.conditions.hold(name, value, behaviour, cut, stop) == wanted
        for at in (cut + np.flatnonzero(fits)).tolist():
            objective = self._objective(parts, behaviour, cut, at, rng)
            if objective is not None:
                return Asked(goal.name, at, behaviour.history[at].item, objective)
        return None

    def said(self, asked: Asked, rng: np.random.Generator, wordings: str = "train") -> Asked:
        """The same question in words of one set ("train" or "heldout")."""
        words = self.maker.say(asked.objective, rng, wordings)
        return replace(asked, words=words, search=sought(asked.objective, self.maker.lexicon))

    def leaves_out_seen(self, objective: Objective) -> bool:
        """Whether lists for a goal leave out the items of the history: where people have each item once.

        Where they come back to items (more than 1% of the training events), new and known items compete,
        and a goal of known ones needs them in any case.
        """
        return not objective.seen_before and self._repeats <= REPEATS

    @staticmethod
    def _follows(goal: Goal, behaviour: Behaviour, cut: int) -> bool:
        return not goal.after or (cut > 0 and behaviour.history[cut - 1].type == goal.after)

    def _objective(
        self, parts: Sequence[Goal], behaviour: Behaviour, cut: int, at: int, rng: np.random.Generator
    ) -> Objective | None:
        """All that the goals say of the event at `at`; None when it does not fit, or they contradict."""
        target, history = behaviour.history[at], behaviour.history[:cut]
        found: list[Objective] = []
        for goal in parts:
            if goal.wish:
                wish = self.maker.derive(goal.wish, target, history, rng)
                if wish is None:
                    return None
                found.append(wish)
            if goal.says.get("include_categories") == TARGET:
                wish = self.maker.derive("category", target, history, rng)
                if wish is None:
                    return None
                found.append(wish)
            values = dict(self._said_parts(goal, behaviour, at, rng))
            if values:
                found.append(Objective(**values))
        return joined(found)

    def _said_parts(
        self, goal: Goal, behaviour: Behaviour, at: int, rng: np.random.Generator
    ) -> Iterator[tuple[str, Any]]:
        """Fields of the objective that the goal's `says` fill, its category apart."""

        def filled(name: str, column: str, value: Any) -> Any:
            if value != TARGET:
                return value
            return self.conditions.target_value(name, column, behaviour, at)

        event = behaviour.history[at]
        for name, value in goal.says.items():
            if name in PAIRS and value == TARGET:
                attributes = self.conditions.said_attributes(event.item)
                yield name, (pick(rng, event.scenario if name == "scenario" else attributes),)
            elif name in PAIRS:
                yield (
                    name,
                    tuple(
                        (column, filled(name, column, one))
                        for column, given in value.items()
                        for one in (given if isinstance(given, tuple) else (given,))
                    ),
                )
            elif (name, value) != ("include_categories", TARGET):
                yield name, filled(name, "", value)


def joined(objectives: Sequence[Objective]) -> Objective | None:
    """One objective of all parts; None when two give one part different values."""
    values: dict[str, Any] = {}
    for objective in objectives:
        for name in objective.parts:
            value = getattr(objective, name)
            if isinstance(value, tuple):
                values[name] = tuple(dict.fromkeys((*values.get(name, ()), *value)))
            elif values.setdefault(name, value) != value:
                return None
    return Objective(**values)
