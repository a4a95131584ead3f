"""All rows of a dataset in a DuckDB file: first as text, then typed, every row with the faults it has.

`prepare` and `validate` both stand on this, so that they cannot disagree about what a bad row is.
Memory is bounded whatever the size of the sources: DuckDB spills to the folder of its file.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from llmrec.data.description import Dataset, Events, Items, Users
from llmrec.data.sources import connect, read_source
from llmrec.data.textfiles import Chunk, Malformed
from llmrec.errors import DataError, LlmrecError

EXAMPLES = 5
"""Examples kept of each kind of fault."""
NO_ROOM = (
    duckdb.OutOfMemoryException,
    duckdb.IOException,
    duckdb.TransactionException,
    duckdb.FatalException,
)
"""What DuckDB raises when it cannot write its file."""


@dataclass(slots=True)
class Staging:
    """The staged rows. `raw_TABLE` holds _file (index into `files`), _row and text columns c0, c1, ...

    `columns[TABLE]` are the source names of c0, c1, ...; `malformed[TABLE]` counts rows that could not
    even be cut into columns, `examples[TABLE]` are the first of them.
    """

    dataset: Dataset
    connection: duckdb.DuckDBPyConnection
    files: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    malformed: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Malformed]] = field(default_factory=dict)
    time_format: str | None = None

    def raw(self, table: str, column: str) -> str:
        """Name in `raw_TABLE` of a column of the source."""
        return f"c{self.columns[table].index(column)}"

    def number(self, sql: str) -> int:
        """The one integer that a query returns."""
        return int(self.rows(sql)[0][0] or 0)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows that a query returns; for small answers."""
        return self.connection.execute(sql).fetchall()


def mapped_columns(table: Items | Events | Users) -> list[str]:
    """Source columns that a table's mapping names, each once, in the order of the schema."""
    columns = table.columns
    names: list[str] = []
    for key in type(columns).model_fields:
        value = getattr(columns, key)
        if key == "text":
            names.extend(value)
        elif key in ("attributes", "scenarios"):
            names.extend(attribute.column for attribute in value.values())
        elif value is not None:
            names.append(value.column)
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def staged(dataset: Dataset, folder: Path) -> Iterator[Staging]:
    """Read every source of `dataset` into `folder`/staging.duckdb; it is removed when the block ends.

    Raises:
        DataError: a source or a mapped column is missing. Single bad rows never raise.
    """
    path = folder / "staging.duckdb"
    try:
        with connect(path) as connection:
            staging = Staging(dataset, connection)
            for name, table in dataset.description.tables():
                _load(staging, name, table)
            yield staging
    except NO_ROOM as error:
        reason = str(error).splitlines()[0]
        if "No space left" in reason or isinstance(error, duckdb.OutOfMemoryException):
            reason = "no space left: free some and run again"
        raise LlmrecError(f"cannot write in {folder.parent}: {reason}") from error
    finally:
        for left in folder.glob("staging.duckdb*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _load(staging: Staging, name: str, table: Items | Events | Users) -> None:
    """Fill `raw_NAME`."""
    wanted = mapped_columns(table)
    staging.columns[name] = wanted
    staging.malformed[name], staging.examples[name] = 0, []
    texts = ", ".join(f"c{position} VARCHAR" for position in range(len(wanted)))
    staging.connection.execute(f"CREATE TABLE raw_{name} (_file INTEGER, _row BIGINT, {texts})")
    unseen: dict[str, set[str]] = {}
    for chunk in read_source(table.source, wanted, staging.dataset.root):
        if chunk.file not in staging.files:
            staging.files.append(chunk.file)
        staging.malformed[name] += len(chunk.malformed)
        staging.examples[name] += chunk.malformed[: EXAMPLES - len(staging.examples[name])]
        if chunk.lines:
            missing = unseen.setdefault(chunk.file, set(wanted))
            _insert_lines(staging, name, chunk, wanted, missing)
        elif len(chunk.rows):
            _insert_columns(staging, name, chunk, wanted)
    for file, missing in unseen.items():
        rows = staging.number(f"SELECT count(*) FROM raw_{name} WHERE _file = {staging.files.index(file)}")
        if missing and rows:
            raise DataError(f"{file}: no line has {', '.join(map(repr, sorted(missing)))}: correct data.yaml")
    if not staging.number(f"SELECT count(*) FROM raw_{name}") and not staging.malformed[name]:
        raise DataError(f"the {name} table has no rows: check its source in {staging.dataset.path}")


def _insert(staging: Staging, name: str, chunk: Chunk, table: pa.Table, texts: list[str]) -> None:
    with_rows = table.append_column("_row", pa.array(chunk.rows, pa.int64()))
    staging.connection.register("chunk", with_rows)
    file = staging.files.index(chunk.file)
    staging.connection.execute(f"INSERT INTO raw_{name} SELECT {file}, _row, {', '.join(texts)} FROM chunk")
    staging.connection.unregister("chunk")


def _insert_columns(staging: Staging, name: str, chunk: Chunk, wanted: list[str]) -> None:
    """Columns of any Arrow type as text: nested ones as JSON, times as ISO text, the rest as written."""
    table = chunk.table.select(wanted)
    texts = [
        f"CAST(to_json(c{position}) AS VARCHAR)"
        if pa.types.is_nested(kind)
        else f"CAST(c{position} AS VARCHAR)"
        for position, kind in enumerate(table.schema.types)
    ]
    _insert(staging, name, chunk, table.rename_columns([f"c{n}" for n in range(len(wanted))]), texts)


def _insert_lines(staging: Staging, name: str, chunk: Chunk, wanted: list[str], unseen: set[str]) -> None:
    """The wanted members of JSON objects; other lines are set aside, blank ones passed over."""
    connection = staging.connection
    table = pa.table({"line": chunk.table.column("line"), "_row": pa.array(chunk.rows, pa.int64())})
    connection.register("lines", table)
    kinds = connection.execute(
        "SELECT CASE WHEN trim(line, ' \t\r') = '' THEN 0 WHEN NOT json_valid(line) THEN 1 "
        "WHEN json_type(line) <> 'OBJECT' THEN 2 ELSE 3 END AS kind FROM lines"
    ).fetchnumpy()["kind"]
    connection.unregister("lines")
    reasons = {1: "not JSON", 2: "not a JSON object"}
    bad = np.flatnonzero((kinds == 1) | (kinds == 2))
    staging.malformed[name] += len(bad)
    for position in bad[: EXAMPLES - len(staging.examples[name])].tolist():
        reason = reasons[int(kinds[position])]
        staging.examples[name].append(Malformed(chunk.file, int(chunk.rows[position]), reason))
    good = np.flatnonzero(kinds == 3)
    if not len(good):
        return
    lines = table.take(pa.array(good))
    connection.register("lines", lines)
    for column in sorted(unseen):
        if staging.number(f"SELECT bool_or(json_exists(line, {_pointer(column)})) FROM lines"):
            unseen.discard(column)
    connection.unregister("lines")
    members = f"json_extract_string(line, [{', '.join(map(_pointer, wanted))}])"
    texts = [f"m[{position + 1}]" for position in range(len(wanted))]
    connection.register("chunk", lines)
    connection.execute(
        f"INSERT INTO raw_{name} SELECT {staging.files.index(chunk.file)}, _row, {', '.join(texts)} "
        f"FROM (SELECT _row, {members} AS m FROM chunk)"
    )
    connection.unregister("chunk")


def _pointer(column: str) -> str:
    """A member of a JSON object as a SQL literal of a JSON pointer, whatever its name."""
    return "'/" + column.replace("~", "~0").replace("/", "~1").replace("'", "''") + "'"
