"""`llmrec validate`: read every row, report every fault with its place, and write a cleaned copy if asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmrec.data.checks import Finding, duplicate_events, find_faults
from llmrec.data.description import Dataset
from llmrec.data.sources import identifier, literal
from llmrec.data.staging import Staging, staged
from llmrec.data.typed import error_mask, make_tables
from llmrec.errors import DataError
from llmrec.files import check_replaceable, only_writer, replace_directory, write_json, write_text

CLEANED = "cleaned.json"
"""File of a cleaned copy: the report on the rows it was made from."""
READ_AS = {"unix": "unix seconds", "unix-ms": "unix milliseconds", "iso": "ISO 8601"}


@dataclass(frozen=True, slots=True)
class Validation:
    """What was read and found.

    `rows`: of each table, those that could be cut into columns; `kept`: of each table, those in the
    cleaned copy in the directory `cleaned`. A row with two faults is in two findings.
    """

    name: str
    rows: dict[str, int]
    time_format: str | None
    findings: tuple[Finding, ...]
    cleaned: Path | None = None
    kept: dict[str, int] | None = None

    @property
    def errors(self) -> int:
        """Faults that make rows unusable."""
        return sum(finding.count for finding in self.findings if finding.error)

    @property
    def warnings(self) -> int:
        """Faults that leave rows usable."""
        return sum(finding.count for finding in self.findings if not finding.error)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "name": self.name,
            "rows": self.rows,
            "time_format": self.time_format,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.as_dict() for finding in self.findings],
            "cleaned": None if self.cleaned is None else str(self.cleaned),
            "kept": self.kept,
        }

    def lines(self) -> Iterator[str]:
        """The report as lines to print."""
        for table, count in self.rows.items():
            times = self.time_format if table == "events" else None
            yield f"{table}: {count:,} rows" + (
                f", times read as {READ_AS.get(times, times)}" if times else ""
            )
        for finding in self.findings:
            yield f"{'error' if finding.error else 'warning'}: {finding.summary()}"
            for example in finding.examples:
                value = "empty" if example.value is None else repr(example.value)
                yield f"  {example.file} row {example.row}: {value}"
        yield f"{self.errors:,} errors, {self.warnings:,} warnings"
        if self.cleaned is not None and self.kept is not None:
            for finding in self.findings:
                if finding.error:
                    yield f"dropped from {finding.table}: {finding.count:,} for {finding.kind}"
            kept = ", ".join(f"{count:,} {table}" for table, count in self.kept.items())
            yield f"wrote {self.cleaned / 'data.yaml'}: {kept}"


def validate(dataset: Dataset, clean: Path | None = None) -> Validation:
    """Read all rows of `dataset` and report on them; with `clean`, write a copy without the bad rows there.

    The copy is Parquet files of the mapped columns as text and a `data.yaml`; it validates without errors.
    Rows with warnings stay.

    Raises:
        DataError: a source or a column is missing, or the copy would have an empty table.
        LlmrecError: `clean` is being written by another run, or cannot be written.
    """
    if clean is None:
        with tempfile.TemporaryDirectory(prefix="llmrec-validate-") as folder:
            return _validate(dataset, Path(folder), None)
    clean = Path(clean).absolute()
    check_replaceable(clean, CLEANED)
    with only_writer(clean), replace_directory(clean) as part:
        return _validate(dataset, part, clean)


def _validate(dataset: Dataset, folder: Path, clean: Path | None) -> Validation:
    with staged(dataset, folder) as staging:
        checks = make_tables(staging)
        masks = {table: error_mask(checks, table) for table in staging.columns}
        findings = (*find_faults(staging, checks), *duplicate_events(staging, masks["events"]))
        rows = {table: staging.number(f"SELECT count(*) FROM {table}") for table in staging.columns}
        kept = None if clean is None else _write_clean(staging, masks, folder)
    report = Validation(dataset.description.name, rows, staging.time_format, findings, clean, kept)
    if clean is not None:
        write_json(folder / CLEANED, report.as_dict())
    return report


def _write_clean(staging: Staging, masks: dict[str, int], folder: Path) -> dict[str, int]:
    kept = {}
    for table, mask in masks.items():
        kept[table] = staging.number(f"SELECT count(*) FROM {table} WHERE faults & {mask} = 0")
        if not kept[table]:
            raise DataError(f"no row of the {table} table is without errors: nothing to write")
        columns = ", ".join(
            f"r.c{position} AS {identifier(name)}" for position, name in enumerate(staging.columns[table])
        )
        staging.connection.execute(
            f"COPY (SELECT {columns} FROM raw_{table} r JOIN {table} t USING (_file, _row) "
            f"WHERE t.faults & {mask} = 0 ORDER BY _file, _row) "
            f"TO {literal(str(folder / f'{table}.parquet'))} (FORMAT parquet, COMPRESSION zstd)"
        )
    description = staging.dataset.description.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for table in masks:
        description[table]["source"] = {"path": f"{table}.parquet"}
    if staging.time_format is not None:
        description["events"]["columns"]["time"]["format"] = staging.time_format
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    write_text(
        folder / "data.yaml", f"# Rows without errors, written by `llmrec validate --fix drop`.\n{text}"
    )
    return kept
