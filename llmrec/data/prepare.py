"""`llmrec prepare`: a described dataset becomes the directory that `Prepared` reads. Bounded memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.card import card_page, make_card
from llmrec.data.checks import Finding, duplicate_events, find_faults
from llmrec.data.description import Dataset, GlobalTime, LeaveLast
from llmrec.data.events import MOST_VALUES, NO_TIME
from llmrec.data.prepared import FORMAT
from llmrec.data.sources import fingerprint, identifier, literal
from llmrec.data.splits import global_time, leave_last
from llmrec.data.staging import Staging, staged
from llmrec.data.typed import error_mask, make_tables
from llmrec.errors import DataError
from llmrec.files import check_replaceable, only_writer, replace_directory, write_json, write_text

ROW_GROUP = 122_880
"""Rows of a Parquet row group: what is written, and later read, at a time."""
MOST_TYPES = 255
"""Event types are one byte each."""


@dataclass(frozen=True, slots=True)
class Result:
    """What `prepare` did: the manifest it wrote and everything that was dropped or noted."""

    manifest: dict[str, Any]
    card: dict[str, Any]
    findings: tuple[Finding, ...]


def prepare(
    dataset: Dataset, out: Path, split_date: GlobalTime | None = None, drop_bad: bool = False
) -> Result:
    """Write the prepared form of `dataset` to the directory `out`, whole or not at all.

    `split_date` adds a global-time split, or moves the one that the description asks for. With
    `drop_bad`, rows with errors are left out and counted in the manifest; without, they stop it.

    Raises:
        DataError: a source is missing, rows have errors, or no usable row is left.
        LlmrecError: `out` is being written by another run, or cannot be written.
    """
    asked = dataset.description.splits
    moment = split_date or asked.global_time
    out = Path(out).absolute()
    check_replaceable(out, "manifest.json")
    with only_writer(out), replace_directory(out) as folder:
        with staged(dataset, folder) as staging:
            checks = make_tables(staging)
            findings = find_faults(staging, checks)
            _refuse(dataset, findings, drop_bad)
            masks = {table: error_mask(checks, table) for table in staging.columns}
            findings += duplicate_events(staging, masks["events"])
            types, scenarios = _write_tables(staging, masks, folder)
            counts = _counts(staging, masks)
        splits = _write_splits(folder, moment, asked.leave_last)
        dropped = {f"{f.table}: {f.kind}": f.count for f in findings if f.error}
        warnings = {f"{f.table}: {f.kind}": f.count for f in findings if not f.error}
        manifest = _manifest(dataset, staging, types, splits) | {
            "scenarios": scenarios,
            "counts": counts,
            "dropped": dropped,
            "warnings": warnings,
        }
        card = make_card(folder, manifest) | {"counts": counts}
        shutil.rmtree(folder / "spill", ignore_errors=True)
        write_json(folder / "card.json", card)
        write_text(folder / "card.md", card_page(card, dropped, warnings))
        write_json(folder / "manifest.json", manifest)
    return Result(manifest, card, tuple(findings))


def _refuse(dataset: Dataset, findings: Sequence[Finding], drop_bad: bool) -> None:
    errors = [finding for finding in findings if finding.error]
    if errors and not drop_bad:
        more = f" and {len(errors) - 1} more kinds of errors" if len(errors) > 1 else ""
        raise DataError(
            f"{errors[0].line()}{more}: run `llmrec validate {dataset.path}` to see all, "
            "then correct them or give --drop-bad"
        )


def _write_tables(
    staging: Staging, masks: dict[str, int], folder: Path
) -> tuple[list[str], dict[str, list[str]]]:
    """Write items, users and events; return the event types, and the values of each scenario column."""
    sql = staging.connection.execute
    usable = f"faults & {masks['events']} = 0"
    for table, where in (("items", "ix IS NOT NULL"), ("events", usable)):
        if not staging.number(f"SELECT count(*) FROM {table} WHERE {where}"):
            raise DataError(
                f"no usable row in the {table} table: run `llmrec validate {staging.dataset.path}`"
            )
    types = [
        row[0] for row in sql(f"SELECT DISTINCT type FROM events WHERE {usable} ORDER BY type").fetchall()
    ]
    if len(types) > MOST_TYPES:
        raise DataError(f"the events have {len(types):,} types, at most {MOST_TYPES} can be told apart")
    sql(
        "CREATE TABLE kinds AS SELECT unnest(?::VARCHAR[]) AS type, "
        "CAST(unnest(?::INTEGER[]) AS UTINYINT) AS kind",
        [types, list(range(len(types)))],
    )
    sql(
        'CREATE TABLE people AS SELECT "user", '
        'CAST(row_number() OVER (ORDER BY "user") - 1 AS INTEGER) AS person '
        f'FROM (SELECT DISTINCT "user" FROM events WHERE {usable})'
    )
    attributes = _attribute_columns(staging.dataset.description.items.columns.attributes)
    _copy(
        staging,
        f"SELECT id, title, text, price, categories{attributes} FROM items WHERE ix IS NOT NULL ORDER BY ix",
        folder / "items.parquet",
    )
    users = staging.dataset.description.users
    if users is None:
        select = 'SELECT "user" AS id FROM people ORDER BY person'
    else:
        attributes = _attribute_columns(users.columns.attributes)
        select = (
            f'SELECT "user" AS id{attributes} FROM people '
            f'LEFT JOIN (FROM users WHERE faults & {masks["users"]} = 0) ON id = "user" ORDER BY person'
        )
    _copy(staging, select, folder / "users.parquet")
    scenarios = _code_scenarios(staging, usable)
    _copy(staging, _ordered_events(staging, usable), folder / "events.parquet")
    return types, scenarios


def _code_scenarios(staging: Staging, usable: str) -> dict[str, list[str]]:
    """Number the values of each scenario column in tables scene0, scene1, ...; return the values in order."""
    found: dict[str, list[str]] = {}
    for position, name in enumerate(staging.dataset.description.events.columns.scenarios):
        column = f"s{position}"
        given = f"FROM events WHERE {usable} AND {column} IS NOT NULL"
        count = staging.number(f"SELECT count(DISTINCT {column}) {given}")
        if count > MOST_VALUES:
            raise DataError(
                f"the scenario column {name!r} has {count:,} different values, at most {MOST_VALUES:,} "
                "can be told apart: leave out a column of ids"
            )
        found[name] = [row[0] for row in staging.rows(f"SELECT DISTINCT {column} {given} ORDER BY {column}")]
        staging.connection.execute(
            f"CREATE TABLE scene{position} AS SELECT unnest(?::VARCHAR[]) AS {column}, "
            f"CAST(unnest(?::INTEGER[]) AS USMALLINT) AS code{position}",
            [found[name], list(range(len(found[name])))],
        )
    return found


def _ordered_events(staging: Staging, usable: str) -> str:
    """The events by user and history. An explicit order wins; an unknown time follows the row before it."""
    moment = "time"
    if staging.dataset.description.events.columns.order is None and staging.number(
        f"SELECT count(*) FROM events WHERE {usable} AND time IS NULL"
    ):
        moment = 'last_value(time IGNORE NULLS) OVER (PARTITION BY "user" ORDER BY _file, _row)'
    scenarios = list(enumerate(staging.dataset.description.events.columns.scenarios))
    codes = "".join(f", code{n} AS {identifier('scenario_' + name)}" for n, name in scenarios)
    joins = "".join(f"LEFT JOIN scene{n} USING (s{n}) " for n, _ in scenarios)
    return (
        f'SELECT person AS "user", item, time, kind AS type, value{codes} FROM '
        f'(SELECT *, {moment} AS moment FROM events WHERE {usable}) JOIN people USING ("user") '
        f"JOIN kinds USING (type) {joins}ORDER BY person, rank, moment NULLS FIRST, _file, _row"
    )


def _attribute_columns(attributes: dict[str, Any]) -> str:
    return "".join(f", a{n} AS {identifier('attr_' + name)}" for n, name in enumerate(attributes))


def _copy(staging: Staging, select: str, path: Path) -> None:
    staging.connection.execute(
        f"COPY ({select}) TO {literal(str(path))} "
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
    )


def _counts(staging: Staging, masks: dict[str, int]) -> dict[str, int]:
    counts = {
        "items": staging.number("SELECT count(*) FROM items WHERE ix IS NOT NULL"),
        "users": staging.number("SELECT count(*) FROM people"),
        "events": staging.number(f"SELECT count(*) FROM events WHERE faults & {masks['events']} = 0"),
        "items_without_title": staging.number(
            "SELECT count(*) FROM items WHERE ix IS NOT NULL AND name IS NULL"
        ),
    }
    usable = staging.number(f"SELECT count(*) FROM items WHERE faults & {masks['items']} = 0")
    counts["items_left_out_without_events"] = usable - counts["items"]
    if "users" in masks:
        described = f"(FROM users WHERE faults & {masks['users']} = 0)"
        counts["described_users_without_events"] = staging.number(
            f'SELECT count(*) FROM {described} ANTI JOIN people ON id = "user"'
        )
        counts["users_without_description"] = staging.number(
            f'SELECT count(*) FROM people ANTI JOIN {described} ON id = "user"'
        )
    return counts


def _write_splits(
    folder: Path, moment: GlobalTime | None, last: LeaveLast | None
) -> dict[str, dict[str, Any]]:
    """Write one file of folds a split; return what the manifest says of each."""
    table = pq.read_table(folder / "events.parquet", columns=["user", "time"])
    lengths = np.bincount(table.column("user").to_numpy())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    splits: dict[str, dict[str, Any]] = {"leave-last-out": {}}
    folds = {"leave-last-out": leave_last(offsets, 1)}
    if last is not None:
        folds[name := f"leave-last-{last.n}"] = leave_last(offsets, last.n)
        splits[name] = {}
    if moment is not None:
        times = table.column("time").fill_null(NO_TIME).to_numpy()
        folds["global-time"], start = global_time(offsets, times, moment.seconds)
        splits["global-time"] = {"test_from": moment.seconds, "valid_from": start}
    (folder / "splits").mkdir()
    for name, fold in folds.items():
        pq.write_table(
            pa.table({"fold": pa.array(fold, pa.uint8())}),
            folder / "splits" / f"{name}.parquet",
            compression="zstd",
            row_group_size=ROW_GROUP,
        )
    return splits


def _manifest(
    dataset: Dataset, staging: Staging, types: list[str], splits: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    description = dataset.description
    return {
        "format": FORMAT,
        "name": description.name,
        "currency": description.currency,
        "event_types": types,
        "splits": list(splits),
        "split_times": {name: times for name, times in splits.items() if times},
        "time_format": staging.time_format,
        "sources": {name: fingerprint(table.source, dataset.root) for name, table in description.tables()},
        "description": description.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    }
