"""Which goals of a table a dataset can answer at all: one table serves every shop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from llmrec.data.events import NO_VALUE, Histories
from llmrec.verbalize.conditions import Conditions
from llmrec.verbalize.goals import EACH, TARGET, Goal


class AnswerableGoals:
    """What the training events and the catalogue have, against what goals need."""

    def __init__(self, conditions: Conditions, train: Histories) -> None:
        self._conditions = conditions
        self._catalog = conditions.maker.catalog
        self._train = train
        self._used = np.zeros(len(self._catalog), dtype=bool)
        self._used[train.items] = True
        self._types = [train.event_types[code] for code in np.unique(train.types)]
        self._kinds = set(conditions.maker.kinds_for(combinations=False))
        self.repeats = repeat_share(train)

    def expanded(self, goal: Goal) -> list[Goal]:
        """The goal, or one goal for each value that its `each` stands for; they share its weight.

        None of them where there is one value only: what is always so is no goal.
        """
        for name, given in goal.says.items():
            columns: Mapping[str, Any] = given if isinstance(given, dict) else {"": given}
            for column, value in columns.items():
                if value == EACH:
                    values = self._values(name, column)
                    weight = goal.weight / max(1, len(values))
                    return [
                        replace(
                            goal,
                            name=f"{goal.name}={one}",
                            weight=weight,
                            says={**goal.says, name: {**columns, column: one} if column else one},
                        )
                        for one in (values if len(values) > 1 else ())
                    ]
        return [goal]

    def _values(self, name: str, column: str) -> list[str]:
        """The values of an event's type, of a column of the events, or of an attribute, in order."""
        if name == "event":
            return self._types
        if name == "scenario":
            known = self._train.scenarios.get(column)
            if known is None:
                return []
            return [known.values[code] for code in np.unique(known.codes[known.codes != NO_VALUE])]
        named = self._conditions.maker.lexicon.names.attributes.get(column)
        return sorted(set(named.values.values())) if named else []

    def lacks(self, goal: Goal) -> str:
        """What the data does not have that a single goal needs, in words; "" when it answers the goal."""
        for kind in goal.wish.split("+") if goal.wish else ():
            if kind not in self._kinds:
                return "no prices that differ" if kind == "price" else "no categories"
        if goal.after and goal.after not in self._types:
            return self._no_type(goal.after)
        needed = (*goal.says.items(), *goal.when.items())
        return next((lack for name, value in needed if (lack := self._lack(name, value))), "")

    def _lack(self, name: str, value: Any) -> str:
        """What is missing for one condition to be true of any training event; "" for nothing."""
        if name.endswith("_attributes") and value != TARGET:
            known = self._catalog.attribute_names
            for attribute in value:
                if attribute not in known:
                    return f"no attribute {attribute!r} of items, there are: {_listed(known)}"
        mask = self._conditions.of_items(name, value)
        if mask is not None:
            return (
                "" if (mask & self._used).any() else f"no item of a training event with {_said(name, value)}"
            )
        if name == "seen_before" and self.repeats <= 0:
            return "nobody who comes back to an item"
        if name == "new_category" and not self._conditions.facts.categories.names:
            return "no categories"
        if name == "fresh" and not self._conditions.facts.fresh().any():
            return "no item that is newer than others"
        if name == "min_value" and not (self._train.values >= value).any():
            return f"no training event with a value of {value:g} or more"
        if name == "event" and not _one_of(value, self._types):
            return self._no_type(value)
        return self._no_scenario(value) if name == "scenario" else ""

    def _no_type(self, value: str | tuple[str, ...]) -> str:
        return f"no training event of the type {_listed(value)}, there are: {_listed(self._types)}"

    def _no_scenario(self, value: Any) -> str:
        """What is missing for a place of the training events; "" for nothing."""
        if not self._train.scenarios:
            return "no scenario columns of the events"
        for column, wanted in value.items() if value != TARGET else ():
            if column not in self._train.scenarios:
                return f"no scenario column {column!r}, there are: {_listed(self._train.scenarios)}"
            if not _one_of(wanted, self._values("scenario", column)):
                return f"no training event with {_said(column, wanted)}"
        return ""


def repeat_share(histories: Histories) -> float:
    """Share of the events whose user had the item before."""
    users = np.repeat(np.arange(len(histories), dtype=np.int64), np.diff(histories.offsets))
    items = int(histories.items.max(initial=0)) + 1
    pairs = users * items + histories.items
    return 1 - len(np.unique(pairs)) / max(1, len(pairs))


def _one_of(wanted: str | tuple[str, ...], values: list[str]) -> bool:
    """Whether a name, one of several, or any value at all occurs."""
    if wanted == TARGET:
        return bool(values)
    return not set((wanted,) if isinstance(wanted, str) else wanted).isdisjoint(values)


def _listed(names: str | Iterable[str]) -> str:
    """Names with commas between them, those of events without a type left out."""
    return ", ".join(filter(None, [names] if isinstance(names, str) else names)) or "none"


def _said(name: str, value: Any) -> str:
    """A condition as a table of goals writes it."""
    if isinstance(value, Mapping):
        return f"{name}: {{{', '.join(_said(column, one) for column, one in value.items())}}}"
    if isinstance(value, tuple):
        return f"{name}: [{', '.join(value)}]"
    if isinstance(value, float):
        return f"{name}: {value:g}"
    return f"{name}: {'true' if value is True else value}"
