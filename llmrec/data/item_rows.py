"""An items file, one JSON object a line, read and checked against a catalogue (docs/items.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.data.catalog import Catalog
from llmrec.data.checks import SHOWN, Example, Finding
from llmrec.data.description import Source
from llmrec.data.staging import EXAMPLES
from llmrec.data.textfiles import Malformed, read_lines
from llmrec.errors import DataError

FIELDS = ("id", "title", "text", "price", "categories", "attributes")
_BLANKS = " \t\r\n\u00a0"
_WRONG = object()
"""Stands for a value that a fault was noted for."""


class RowsError(DataError):
    """Rows of an items file are wrong; `findings` are all their faults, by kind."""

    def __init__(self, path: Path, findings: tuple[Finding, ...]) -> None:
        count = sum(finding.count for finding in findings)
        errors = "1 error" if count == 1 else f"{count:,} errors"
        super().__init__(f"{path}: {errors}, nothing was changed; first: {findings[0].line()}")
        self.findings = findings

    def lines(self) -> Iterator[str]:
        """All findings with their first examples, as `llmrec validate` prints them."""
        for finding in self.findings:
            yield f"error: {finding.summary()}"
            for example in finding.examples:
                value = "empty" if example.value is None else repr(example.value)
                yield f"  {example.file} row {example.row}: {value}"


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item of the file: `given` are the fields it has, by name, `id` apart; None says unknown."""

    row: int
    id: str
    given: Mapping[str, Any] = field(default_factory=dict)


class _Twice(ValueError):
    """A JSON object has a member twice."""


class RowFaults:
    """Faults by kind and column, with the first examples of each."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._found: dict[tuple[str, str], list[Any]] = {}

    def add(self, kind: str, column: str, row: int, value: Any) -> Any:
        """Note a fault of a row."""
        entry = self._found.setdefault((kind, column), [0, []])
        entry[0] += 1
        if len(entry[1]) < EXAMPLES:
            entry[1].append(Example(self._path, row, _shown(value)))
        return _WRONG

    def check(self, path: Path) -> None:
        """Raise `RowsError` when there is a fault."""
        if self._found:
            raise RowsError(
                path,
                tuple(
                    Finding("items", kind, column, count, True, tuple(examples))
                    for (kind, column), (count, examples) in self._found.items()
                ),
            )


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text[: SHOWN + 1].encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def read_item_rows(path: Path, catalog: Catalog, ids_only: bool = False) -> list[ItemRow]:
    """The rows of `path`, all checked: fields, types, ids that occur once, attributes that `catalog` has.

    With `ids_only` a line may also be a bare id, and no other field may stand in it. Raises `RowsError` with
    every fault when there is one, `DataError` when the file is missing, cannot be read or has no rows.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist: give a file with one JSON object a line, see docs/items.md")
    faults, rows, seen = RowFaults(path), [], dict[str, int]()
    reader = _Reader(catalog, faults, ids_only)
    for number, line in _lines(path, faults):
        row = reader.row(number, line)
        if row is None:
            continue
        if row.id in seen:
            faults.add("duplicate item", "id", number, row.id)
        seen.setdefault(row.id, number)
        rows.append(row)
    faults.check(path)
    if not rows:
        raise DataError(f"{path} has no rows: give one JSON object a line, see docs/items.md")
    return rows


def _lines(path: Path, faults: RowFaults) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank; what is no text is a fault."""
    for chunk in read_lines(path, Source(path=str(path)), python=False):
        bad: tuple[Malformed, ...] = chunk.malformed
        for each in bad:
            faults.add("malformed row", "", each.row, each.reason)
        for number, line in zip(chunk.rows.tolist(), chunk.table.column("line").to_pylist(), strict=True):
            if line.strip(_BLANKS):
                yield number, line.strip(_BLANKS)


class _Reader:
    """Lines to rows; faults are noted and leave the row out."""

    def __init__(self, catalog: Catalog, faults: RowFaults, ids_only: bool) -> None:
        self._faults = faults
        self._ids_only = ids_only
        self._numeric = {
            name: any(isinstance(item.attributes.get(name), float | int) for item in catalog.items)
            for name in catalog.attribute_names
        }
        self._readers: dict[str, Callable[[int, str, Any], Any]] = {
            "title": self._text,
            "text": self._text,
            "price": self._price,
            "categories": self._categories,
            "attributes": self._attributes,
        }

    def row(self, number: int, line: str) -> ItemRow | None:
        """The row in `line`; None when it has a fault."""
        if self._ids_only and not line.startswith("{"):
            return ItemRow(number, line)
        try:
            values = json.loads(line, object_pairs_hook=_once)
        except _Twice as error:
            self._faults.add("field given twice", "", number, str(error))
            return None
        except (ValueError, RecursionError):
            self._faults.add("malformed row", "", number, "not JSON")
            return None
        if not isinstance(values, dict):
            self._faults.add("malformed row", "", number, "not a JSON object")
            return None
        known = ("id",) if self._ids_only else FIELDS
        wrong = [self._faults.add("unknown field", "", number, name) for name in values if name not in known]
        identity = self._identity(number, values.get("id"))
        given = {
            name: self._readers[name](number, name, values[name])
            for name in FIELDS
            if name in values and name in known and name != "id"
        }
        if wrong or identity is _WRONG or any(value is _WRONG for value in given.values()):
            return None
        return ItemRow(number, identity, given)

    def _identity(self, number: int, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        text = self._text(number, "id", value)
        return self._faults.add("missing id", "id", number, value) if text is None else text

    def _text(self, number: int, column: str, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, str):
            return self._faults.add("not a text", column, number, value)
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a pair of surrogates, which no file can hold
            return self._faults.add("not a text", column, number, value)
        return value.strip(_BLANKS) or None

    def _number(self, number: int, column: str, value: Any, what: str) -> Any:
        """A finite number as float; None stays."""
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            return self._faults.add(f"{what} not a number", column, number, value)
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        return (
            found if math.isfinite(found) else self._faults.add(f"{what} not finite", column, number, value)
        )

    def _price(self, number: int, column: str, value: Any) -> Any:
        price = self._number(number, column, value, "price")
        if isinstance(price, float) and price < 0:
            return self._faults.add("negative price", column, number, value)
        return price

    def _categories(self, number: int, column: str, value: Any) -> Any:
        listed = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(listed, list):
            return self._faults.add("not a list of texts", column, number, value)
        names = [self._text(number, column, name) for name in listed]
        if any(name is _WRONG for name in names):
            return _WRONG
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def _attributes(self, number: int, column: str, value: Any) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return self._faults.add("not an object", column, number, value)
        found = {name: self._attribute(number, name, given) for name, given in value.items()}
        return _WRONG if any(each is _WRONG for each in found.values()) else found

    def _attribute(self, number: int, name: str, value: Any) -> Any:
        if name not in self._numeric:
            known = ", ".join(self._numeric) or "none"
            return self._faults.add(f"unknown attribute (items have: {known})", "", number, name)
        if self._numeric[name]:
            return self._number(number, name, value, "attribute")
        if isinstance(value, int | float):
            return json.dumps(value)
        return self._text(number, name, value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return values
