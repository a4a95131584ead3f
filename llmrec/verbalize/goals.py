"""The table of goals: what behaviour answers a goal, what is said of it, and how often it is trained.

The table is data (prompts/goals.yaml, or a recipe's own; prompts/README.md documents it): no shop's goal is
written in code. This module reads and checks it; `tune.goals` finds the behaviour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from llmrec.errors import LlmrecError
from llmrec.unique_keys import load_unique
from llmrec.verbalize.objective import PRICE_LEVELS
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.wishes import KINDS
from llmrec.verbalize.words import stems

VERSION = 1
FILE = "goals.yaml"
HORIZON = 20
"""Events at or after the cut among which a goal's target is looked for, where the table says nothing."""
TARGET, EACH = "target", "each"
"""Values of a condition: what the target has, whichever it is; one goal for each value of the data."""
FLAGS = ("long_tail", "new_for_user", "seen_before", "new_category", "fresh")
NUMBERS = ("min_value", "min_price", "max_price")
LISTS = ("include_words", "exclude_words", "include_categories", "exclude_categories")
PAIRS = ("include_attributes", "exclude_attributes", "scenario")
CONDITIONS = ("event", "price_level", "season", *FLAGS, *NUMBERS, *LISTS, *PAIRS)
"""Names of conditions: fields of `Objective` that a single behaviour can show to be true."""
_KEYS = ("weight", "says", "when", "unless", "after", "wish", "horizon")
_PLUS = "+"


@dataclass(frozen=True, slots=True)
class Goal:
    """One row of the table.

    The target of a goal is the next event, at most `horizon` events on, for which all of `says` and `when`
    is true and nothing of `unless`. `says` are parts of the objective, and so come into words; `when` and
    `unless` are not said. `after` is the type that the last event before the cut must have. `wish` is a
    kind of `WishMaker` that makes parts of its own from the target. A goal of several `components` is their
    combination: all of them hold.
    """

    name: str
    weight: float = 1.0
    says: Mapping[str, Any] = field(default_factory=dict)
    when: Mapping[str, Any] = field(default_factory=dict)
    unless: Mapping[str, Any] = field(default_factory=dict)
    after: str = ""
    wish: str = ""
    horizon: int | None = None
    components: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the single goals that it is made of; its own where it is one."""
        return self.components or (self.name,)


class GoalTable:
    """Goals by name, in the order of the file; combinations of known goals need no row of their own."""

    def __init__(self, goals: Iterable[Goal], horizon: int = HORIZON) -> None:
        self.horizon = horizon
        self.goals = {goal.name: goal for goal in goals}

    @classmethod
    def read(cls, text: str, where: str) -> GoalTable:
        """Read a file's text; raises `LlmrecError` that names `where` and what is wrong."""
        try:
            values = load_unique(text)
        except yaml.YAMLError as error:
            raise LlmrecError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict) or not isinstance(values.get("goals"), dict):
            raise LlmrecError(f"{where}: there is no table `goals`")
        if unknown := sorted(set(values) - {"version", "horizon", "goals"}):
            raise LlmrecError(f"{where}: unknown key {unknown[0]!r}, known: version, horizon, goals")
        if values.get("version") != VERSION:
            raise LlmrecError(f"{where}: version is {values.get('version')!r}, this llmrec reads {VERSION}")
        horizon = _count(values.get("horizon", HORIZON), f"{where}: horizon")
        return cls([], horizon).extended(values["goals"], where)

    def extended(self, rows: Mapping[str, Any], where: str) -> GoalTable:
        """The table with further rows, in place of those of the same name; raises `LlmrecError`."""
        goals = dict(self.goals)
        for name, row in rows.items():
            if not isinstance(name, str) or not name.strip():  # YAML reads `no:` as false
                raise LlmrecError(
                    f"{where}: {name!r} is no name of a goal: give it a text, in quotes if need be"
                )
            goals[name] = _goal(name, row, f"{where}: goal {name!r}")
        for goal in goals.values():
            for part in goal.components:
                if part not in goals or goals[part].components:
                    raise LlmrecError(f"{where}: {goal.name!r} is made of {part!r}, which is no goal")
        return GoalTable(goals.values(), self.horizon)

    def goal(self, name: str) -> Goal:
        """The goal of a name; `a+b` of known goals is their combination, in whichever order.

        Raises `LlmrecError` for a name that is none.
        """
        parts = tuple(name.split(_PLUS))
        if known := self._same(parts):
            return known
        for part in parts:
            if part not in self.goals:
                raise LlmrecError(f"there is no goal {part!r}, there are: {', '.join(self.singles)}")
        return Goal(name, components=parts)

    def _same(self, parts: tuple[str, ...]) -> Goal | None:
        return next((goal for goal in self.goals.values() if set(goal.parts) == set(parts)), None)

    @property
    def singles(self) -> tuple[str, ...]:
        """Names of the goals that are no combination."""
        return tuple(name for name, goal in self.goals.items() if not goal.components)

    def weighted(self, weights: Mapping[str, float]) -> GoalTable:
        """The table with other weights for some goals; a combination without a row gets one."""
        goals = dict(self.goals)
        for name, weight in weights.items():
            goal = self.goal(name)
            goals[goal.name] = replace(goal, weight=_weight(weight, f"the weight of goal {name!r}"))
        return GoalTable(goals.values(), self.horizon)


def _goal(name: str, row: Any, where: str) -> Goal:
    values = {} if row is None else row
    if not isinstance(values, dict):
        raise LlmrecError(f"{where}: expected keys and values")
    if unknown := sorted(set(map(str, values)) - set(_KEYS)):
        raise LlmrecError(f"{where}: unknown key {unknown[0]!r}, known: {', '.join(_KEYS)}")
    weight = _weight(values.get("weight", 1.0), f"{where}: weight")
    horizon = values.get("horizon")
    horizon = None if horizon is None else _count(horizon, f"{where}: horizon")
    if _PLUS in name:
        if set(values) - {"weight", "horizon"}:
            raise LlmrecError(f"{where}: a combination has weight and horizon only, the rest is its parts'")
        return Goal(name, weight, horizon=horizon, components=tuple(name.split(_PLUS)))
    for key in ("after", "wish"):
        if not isinstance(values.get(key, ""), str):
            raise LlmrecError(f"{where}: {key} must be a name")
    wish = values.get("wish", "")
    for kind in wish.split(_PLUS) if wish else ():
        if kind not in KINDS:
            raise LlmrecError(f"{where}: there is no wish kind {kind!r}, there are: {', '.join(KINDS)}")
    conditions = {key: _conditions(values.get(key), f"{where}: {key}") for key in ("says", "when", "unless")}
    _check_said(conditions["says"], f"{where}: says")
    for key in ("when", "unless"):
        if EACH in _flat(conditions[key]):
            raise LlmrecError(f"{where}: `{EACH}` stands in says only")
    says, when, unless = (conditions[key] for key in ("says", "when", "unless"))
    _check_possible(says, when, unless, where)
    return Goal(name, weight, says, when, unless, values.get("after", ""), wish, horizon)


def _check_said(says: Mapping[str, Any], where: str) -> None:
    """What is said is one thing: no alternatives, save values of an attribute."""
    if _flat(says).count(EACH) > 1:
        raise LlmrecError(f"{where}: `{EACH}` can stand once in a goal")
    for name in ("event", "season"):
        if isinstance(says.get(name), tuple):
            raise LlmrecError(f"{where}.{name} must be one name: alternatives stand in `when`")
    scenario = says.get("scenario", {})
    if scenario != TARGET and any(isinstance(value, tuple) for value in scenario.values()):
        raise LlmrecError(f"{where}.scenario must have one value: alternatives stand in `when`")
    if TARGET in _flat({name: says.get(name, {}) for name in ("exclude_attributes",)}):
        raise LlmrecError(f"{where}: what is ruled out cannot be what the target has")


def _check_possible(
    says: Mapping[str, Any], when: Mapping[str, Any], unless: Mapping[str, Any], where: str
) -> None:
    """No event answers bounds that cross, or a condition that must hold and must not."""
    least = max(each.get("min_price", -math.inf) for each in (says, when))
    most = min(each.get("max_price", math.inf) for each in (says, when))
    if least > most:
        raise LlmrecError(f"{where}: no price is at least {least:g} and at most {most:g}")
    if {"seen_before", "new_for_user"} <= {*says, *when}:
        raise LlmrecError(f"{where}: no item is in the history (seen_before) and is not (new_for_user)")
    for key, wanted in (("says", says), ("when", when)):
        for name in wanted.keys() & unless.keys():
            if _rules_out(unless[name], wanted[name]):
                raise LlmrecError(f"{where}: no event answers it, `unless` rules out the {name} of `{key}`")


def _rules_out(unless: Any, wanted: Any) -> bool:
    """Whether what must not hold is all that is wanted: the same, or alternatives with all of it."""
    if isinstance(unless, tuple) and isinstance(wanted, str):
        return wanted in unless
    return bool(unless == wanted)


def _flat(conditions: Mapping[str, Any]) -> list[Any]:
    """The values of conditions, those in mappings among them."""
    return [
        one
        for value in conditions.values()
        for one in (value.values() if isinstance(value, dict) else (value,))
        if isinstance(one, str)
    ]


def _conditions(values: Any, where: str) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise LlmrecError(f"{where}: expected conditions and their values")
    return {str(name): _condition(str(name), value, f"{where}.{name}") for name, value in values.items()}


def _condition(name: str, value: Any, where: str) -> Any:
    """A condition's value, checked: a flag, a number, a name or names, or names by attribute or column."""
    if name not in CONDITIONS:
        raise LlmrecError(f"{where} is no condition, there are: {', '.join(CONDITIONS)}")
    if name in FLAGS:
        if value is not True:
            raise LlmrecError(f"{where} must be true, or left out")
        return True
    if name in NUMBERS:
        return _number(value, where)
    if name == "price_level":
        if value not in (*PRICE_LEVELS, TARGET):
            raise LlmrecError(f"{where} must be one of: {', '.join((*PRICE_LEVELS, TARGET))}")
        return value
    if name in PAIRS:
        return _pairs(name, value, where)
    if name in LISTS and not isinstance(value, list) and (name, value) != ("include_categories", TARGET):
        raise LlmrecError(f"{where} must be a list")
    names = _names(value, where)
    if name == "season":
        _check_seasons(names, where)
    if name in ("include_words", "exclude_words"):
        return _words(names, value, where)
    return names


def _check_seasons(names: str | tuple[str, ...], where: str) -> None:
    known = (*sorted(SEASONS), TARGET)
    for name in names if isinstance(names, tuple) else (names,):
        if name not in known:
            raise LlmrecError(f"{where}: there is no season {name!r}, there are: {', '.join(known)}")


def _words(names: str | tuple[str, ...], value: Any, where: str) -> tuple[str, ...]:
    """The stems of words to look for, each once."""
    found = tuple(dict.fromkeys(stem for word in names for stem in stems(word)))
    if not found:
        raise LlmrecError(f"{where} has no word to look for, got {value!r}")
    return found


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LlmrecError(f"{where} must be a number, got {value!r}")
    return float(value)


def _pairs(name: str, value: Any, where: str) -> str | dict[str, str | tuple[str, ...]]:
    """Names by attribute or column, or `target`: one pair that the target has."""
    if value == TARGET and name != "exclude_attributes":
        return TARGET
    if not isinstance(value, dict) or not value:
        named = "columns" if name == "scenario" else "attributes"
        raise LlmrecError(f"{where} must name {named} and their values")
    return {str(key): _names(one, f"{where}.{key}") for key, one in value.items()}


def _names(value: Any, where: str) -> str | tuple[str, ...]:
    """A name, or alternatives; numbers are written as text."""
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str | int | float) and one not in ("", True) for one in listed):
        raise LlmrecError(f"{where} must be a name or a list of names, got {value!r}")
    texts = tuple(one if isinstance(one, str) else f"{one:g}" for one in listed)
    return texts if isinstance(value, list) else texts[0]


def _weight(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise LlmrecError(f"{where} is {value!r}, it must be a number of at least 0")
    return float(value)


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LlmrecError(f"{where} is {value!r}, it must be a whole number of at least 1")
    return value
