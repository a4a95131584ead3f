"""Which goals of a table a dataset can answer at all: one table serves every shop."""

from __future__ import annotations

from collections.abc import Mapping
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

    def answers(self, goal: Goal) -> bool:
        """Whether the data has what each condition of a single goal needs."""
        if goal.wish and not set(goal.wish.split("+")) <= self._kinds:
            return False
        if goal.after and goal.after not in self._types:
            return False
        return all(self._occurs(name, value) for name, value in (*goal.says.items(), *goal.when.items()))

    def _occurs(self, name: str, value: Any) -> bool:
        named = set(value) if isinstance(value, dict) else set()
        if name.endswith("_attributes") and not named <= set(self._catalog.attribute_names):
            return False
        mask = self._conditions.of_items(name, value)
        if mask is not None:
            return bool((mask & self._used).any())
        if name == "seen_before":
            return self.repeats > 0
        if name == "new_category":
            return bool(self._conditions.facts.categories.names)
        if name == "fresh":
            return bool(self._conditions.facts.fresh().any())
        if name == "min_value":
            return bool((self._train.values >= value).any())
        if name == "event":
            return _one_of(value, self._types)
        if name == "scenario" and value == TARGET:
            return bool(self._train.scenarios)
        if name == "scenario":
            return all(_one_of(wanted, self._values(name, column)) for column, wanted in value.items())
        return True


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
