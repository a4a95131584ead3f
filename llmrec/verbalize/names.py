"""Names that the data gives: attributes of items and columns of events, and their values, by their words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmrec.data.attributes import number_range, range_of, written
from llmrec.data.catalog import Catalog, Value
from llmrec.verbalize.clean import clean
from llmrec.verbalize.words import split_words

NAME_LIMIT = 60
"""Characters of a name or a value that are said and recognised."""
_YEARS = (1000, 2100)
_DECADE = re.compile(r"([0-9]{3})0s")


def said_name(text: str) -> str:
    """A name or a value as a wish says it."""
    return clean(text, NAME_LIMIT)


@dataclass(frozen=True, slots=True)
class NamedField:
    """An attribute of items, or (`scenario`) a column of events; `values` by their words.

    `numeric` values are numbers and ranges of numbers; `years` says that all of them are years.
    """

    name: str
    scenario: bool
    values: Mapping[tuple[str, ...], str]
    numeric: bool = False
    years: bool = False

    @property
    def longest(self) -> int:
        """Number of words of the longest value."""
        return max(map(len, self.values), default=0)

    def value_named(self, words: Sequence[str]) -> str | None:
        """The value with exactly these words."""
        return self.values.get(tuple(words))

    def said(self, value: str) -> str:
        """A value as a wish says it: the range "1990-1999" as "1990 to 1999"."""
        bounds = number_range(value) if self.numeric else None
        return said_name(value) if bounds is None else f"{written(bounds[0])} to {written(bounds[1])}"


class Names:
    """All fields that a wish can name."""

    def __init__(self, catalog: Catalog, scenarios: Mapping[str, Iterable[str]]) -> None:
        """`scenarios`: the values of each column of the events."""
        self.attributes = {name: _attribute(name, values) for name, values in _values(catalog).items()}
        self.scenarios = {
            name: NamedField(name, True, _by_words(map(str, values))) for name, values in scenarios.items()
        }
        self._fields: dict[tuple[str, ...], list[NamedField]] = {}
        for field in (*self.attributes.values(), *self.scenarios.values()):
            if words := tuple(split_words(said_name(field.name))):
                self._fields.setdefault(words, []).append(field)
        self.longest = max(map(len, self._fields), default=0)
        self.beginnings = frozenset(words[0] for words in self._fields)
        """First words of the names."""
        years = [field for field in self.attributes.values() if field.years]
        self.years = years[0] if len(years) == 1 else None
        """The one attribute whose values are years, None for no or several such."""
        self._decades: dict[str, list[NamedField]] = {}
        self._bare: dict[tuple[str, ...], list[NamedField]] = {}
        for field in self.attributes.values():
            for value in field.values.values():
                if _DECADE.fullmatch(value):
                    self._decades.setdefault(value, []).append(field)
        for field in self.scenarios.values():
            for words in field.values:
                self._bare.setdefault(words, []).append(field)
        self.longest_bare = max(map(len, self._bare), default=0)

    def fields_named(self, words: Sequence[str]) -> list[NamedField] | None:
        """The attribute, the column, or both, whose name has exactly these words."""
        return self._fields.get(tuple(words))

    def decade(self, start: int) -> tuple[str, str] | None:
        """What "the 1990s" (`start` 1990) names: (attribute, value), None when nothing or several things.

        It is the value of an attribute that has such values, otherwise a range of the attribute of years.
        """
        fields = self._decades.get(f"{start}s", [])
        if fields:
            return (fields[0].name, f"{start}s") if len(fields) == 1 else None
        return (self.years.name, range_of(start, start + 9)) if self.years is not None else None

    def said_decade(self, attribute: str, value: str) -> str | None:
        """The pair as a decade ("1990s"), None when `decade` would not read it back."""
        bounds = number_range(value)
        start = value[:4] if _DECADE.fullmatch(value) else f"{bounds[0]:.0f}" if bounds else ""
        if not re.fullmatch(r"(?:1[0-9]|20)[0-9]0", start) or self.decade(int(start)) != (attribute, value):
            return None
        return f"{start}s"

    def scenario_valued(self, words: Sequence[str]) -> tuple[str, str] | None:
        """(column, value) of the one column that has a value of these words, given without its name.

        Numbers and single letters name nothing by themselves.
        """
        fields = self._bare.get(tuple(words), [])
        if len(fields) != 1 or all(len(word) < 2 or word.isdigit() for word in words):
            return None
        return fields[0].name, fields[0].values[tuple(words)]

    def scenario_value(self, words: Sequence[str]) -> bool | None:
        """True where some columns have a value of these words, letters among them; None where none has."""
        known = tuple(words) in self._bare and any(len(word) > 1 and not word.isdigit() for word in words)
        return True if known else None


def _values(catalog: Catalog) -> dict[str, dict[Value, None]]:
    """The different known values of each attribute, in the order of the catalogue."""
    found: dict[str, dict[Value, None]] = {}
    for item in catalog.items:
        for name, value in item.attributes.items():
            if value is not None:
                found.setdefault(name, {})[value] = None
    return found


def _attribute(name: str, values: Iterable[Value]) -> NamedField:
    numbers = [value for value in values if not isinstance(value, str) and value is not None]
    numeric = bool(numbers)
    years = numeric and all(value == int(value) and _YEARS[0] <= value <= _YEARS[1] for value in numbers)
    return NamedField(name, False, _by_words(map(written, values)), numeric, years)


def _by_words(values: Iterable[str]) -> dict[tuple[str, ...], str]:
    """Values by their words; of values with the same words the first."""
    found: dict[tuple[str, ...], str] = {}
    for value in values:
        if words := tuple(split_words(said_name(value))):
            found.setdefault(words, value)
    return found
