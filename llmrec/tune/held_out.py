"""What is never to train, by what goals ask: another name for a held-out goal asks it in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmrec.verbalize.goals import EACH, TARGET, Goal

Part = tuple[str, str | None, Any]
"""A field of the objective, column or attribute, and value; None for what a goal leaves to the target."""
_PRICE: Part = ("price", None, None)
_FIELDS = {
    "season": "season",
    "not_word": "exclude_words",
    "like": "like",
    "new": "new_for_user",
    "keyword": "include_words",
    "category": "include_categories",
    "not_category": "exclude_categories",
}
"""Kinds of wishes by the field that they fill; a wish for a price fills one bound or both."""


def asked_parts(goals: Iterable[Goal]) -> frozenset[Part]:
    """All that single goals together say; `when`, `unless` and `after` are not said, so no part."""
    return frozenset(part for goal in goals for part in _parts(goal))


def _parts(goal: Goal) -> Iterator[Part]:
    for kind in goal.wish.split("+") if goal.wish else ():
        yield _PRICE if kind == "price" else (_FIELDS[kind], None, None)
    for name, given in goal.says.items():
        columns: Mapping[str | None, Any] = given if isinstance(given, Mapping) else {None: given}
        for column, values in columns.items():
            for value in values if isinstance(values, tuple) else (values,):
                if value in (TARGET, EACH):
                    yield name, column, None
                elif name in ("min_price", "max_price"):
                    yield "price", name, value
                else:
                    yield name, column, value.casefold() if isinstance(value, str) else value


def covers(asked: frozenset[Part], held: frozenset[Part]) -> bool:
    """Whether what is asked has a part of its own for each held-out part, or can have it for some target.

    A part that is left to the target stands for each of its values: to hold out "for Christmas" holds out the
    goal of any season, to hold out any season holds out "for Christmas".
    """
    if not held:
        return True
    first, *others = held
    return any(
        _meet(first, part) and covers(asked if part == _PRICE else asked - {part}, frozenset(others))
        for part in asked
    )


def _meet(one: Part, other: Part) -> bool:
    """Whether two parts can be the same of one target."""
    return one[0] == other[0] and all(
        left is None or right is None or left == right for left, right in zip(one[1:], other[1:], strict=True)
    )
