"""What is wrong with the rows: findings with counts and examples, from the staged tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llmrec.data.staging import EXAMPLES, Staging
from llmrec.data.typed import Check, of_table

SHOWN = 80
"""Characters of a bad value that an example shows."""


@dataclass(frozen=True, slots=True)
class Example:
    """One bad row: its file, its number and the value found."""

    file: str
    row: int
    value: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """All rows of a table with one kind of fault."""

    table: str
    kind: str
    column: str
    count: int
    error: bool
    examples: tuple[Example, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """What and how many."""
        column = f" (column {self.column})" if self.column else ""
        return f"{self.table}: {self.kind}{column}: {self.count:,} {'row' if self.count == 1 else 'rows'}"

    def line(self) -> str:
        """What, how many, and where the first stands."""
        first = f", the first in {self.examples[0].file} row {self.examples[0].row}" if self.examples else ""
        return self.summary() + first


def find_faults(staging: Staging, checks: Sequence[Check]) -> list[Finding]:
    """Findings of every table, malformed rows first; empty when all is well."""
    findings = []
    for table in staging.columns:
        if staging.malformed[table]:
            examples = tuple(
                Example(bad.file, bad.row, bad.reason)
                for bad in sorted(staging.examples[table], key=lambda bad: (bad.file, bad.row))
            )
            findings.append(Finding(table, "malformed row", "", staging.malformed[table], True, examples))
        findings += _faults_of(staging, table, of_table(list(checks), table))
    return findings


def _faults_of(staging: Staging, table: str, checks: list[Check]) -> list[Finding]:
    counts = ", ".join(f"count(*) FILTER (faults & {1 << bit} <> 0)" for bit in range(len(checks)))
    row = staging.rows(f"SELECT {counts or 0} FROM {table}")[0]
    findings = []
    for bit, (check, count) in enumerate(zip(checks, row, strict=False)):
        if count:
            examples = _examples(staging, check, f"faults & {1 << bit} <> 0")
            findings.append(Finding(table, check.kind, check.source, count, check.error, examples))
    return findings


def _examples(staging: Staging, check: Check, where: str) -> tuple[Example, ...]:
    raw = staging.raw(check.table, check.source)
    rows = staging.rows(
        f"SELECT _file, _row, r.{raw} FROM (SELECT _file, _row FROM {check.table} WHERE {where} "
        f"ORDER BY _file, _row LIMIT {EXAMPLES}) JOIN raw_{check.table} r USING (_file, _row) "
        "ORDER BY _file, _row"
    )
    return tuple(Example(staging.files[file], row, _shown(value)) for file, row, value in rows)


def _shown(value: str | None) -> str | None:
    return value if value is None or len(value) <= SHOWN else value[:SHOWN] + "..."


def duplicate_events(staging: Staging, mask: int) -> list[Finding]:
    """The warning about events that repeat user, item, time and type exactly, the first of each not counted.

    `mask`: bits of `faults` that make an event unusable; such events, and those of unknown time, are
    not compared.
    """
    usable = f"FROM events WHERE faults & {mask} = 0 AND time IS NOT NULL"
    # A table of hashes first: eight bytes a row are grouped instead of whole rows.
    hashed = 'hash("user", item, time, type)'
    staging.connection.execute(
        f"CREATE OR REPLACE TEMP TABLE suspects AS "
        f"SELECT {hashed} AS h {usable} GROUP BY h HAVING count(*) > 1"
    )
    staging.connection.execute(
        "CREATE OR REPLACE TEMP TABLE repeats AS "
        "SELECT _file, _row FROM (SELECT _file, _row, row_number() OVER "
        f'(PARTITION BY "user", item, time, type ORDER BY _file, _row) AS turn {usable} '
        f"AND {hashed} IN (SELECT h FROM suspects)) WHERE turn > 1"
    )
    count = staging.number("SELECT count(*) FROM repeats")
    if not count:
        return []
    source = staging.dataset.description.events.columns.item.column
    rows = staging.rows(
        f"SELECT _file, _row, r.{staging.raw('events', source)} "
        f"FROM (SELECT * FROM repeats ORDER BY _file, _row LIMIT {EXAMPLES}) "
        "JOIN raw_events r USING (_file, _row) ORDER BY _file, _row"
    )
    examples = tuple(Example(staging.files[file], row, _shown(value)) for file, row, value in rows)
    return [Finding("events", "duplicate event", source, count, False, examples)]
