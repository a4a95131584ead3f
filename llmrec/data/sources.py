"""Every kind of source as one stream of chunks: files, Hugging Face datasets, SQL through DuckDB."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.description import HuggingFace, Source
from llmrec.data.textfiles import Chunk, check_columns, read_delimited, read_lines
from llmrec.errors import DataError, require_extra
from llmrec.files import sha256_of

BATCH = 1 << 17
"""Rows of a chunk where the source lets us choose."""
MEMORY = "1200MB"
"""What DuckDB may keep in memory; beyond it, it writes to disk."""
HUGE = 1 << 30
"""Files of more bytes than this are told apart by size and time, not by a hash."""


def paths_of(source: Source, root: Path) -> list[Path]:
    """The files of a `path` source, sorted within each pattern. Raises `DataError` when one is missing."""
    patterns = [source.path] if isinstance(source.path, str) else source.path or []
    found: list[Path] = []
    for pattern in patterns:
        whole = str(root / pattern)
        matches = sorted(glob.glob(whole, recursive=True)) if glob.has_magic(pattern) else [whole]
        if not matches or not Path(matches[0]).exists():
            raise DataError(f"{whole} does not exist: check the path in data.yaml, or give --root")
        if folder := next((match for match in matches if Path(match).is_dir()), None):
            raise DataError(f"{folder} is a folder: name a file or a pattern such as {pattern}/*.parquet")
        found.extend(Path(match) for match in matches)
    if not found:
        raise DataError("a source has an empty list of paths")
    return found


def read_source(source: Source, wanted: list[str], root: Path) -> Iterator[Chunk]:
    """The wanted columns of a source, in order, as chunks of bounded size.

    Raises:
        DataError: something is missing or cannot be read at all. Single bad rows are in the chunks.
    """
    if source.huggingface is not None:
        yield from _read_huggingface(source.huggingface, wanted, root)
    elif source.sql is not None:
        yield from _read_sql(source, wanted, root)
    else:
        for path in paths_of(source, root):
            yield from _read_file(path, source, wanted)


def fingerprint(source: Source, root: Path) -> list[dict[str, Any]]:
    """What the manifest says of a source: path, size and SHA-256 of files (time if huge), or its address."""
    if source.huggingface is not None:
        return [{"huggingface": source.huggingface.model_dump(exclude_none=True)}]
    if source.sql is not None:
        return [{"sql": source.sql, **({"database": source.database} if source.database else {})}]
    marks: list[dict[str, Any]] = []
    for path in paths_of(source, root):
        state = path.stat()
        mark: dict[str, Any] = {
            "path": str(path.relative_to(root)) if path.is_relative_to(root) else str(path),
            "bytes": state.st_size,
        }
        if state.st_size > HUGE:
            mark["modified"] = state.st_mtime_ns
        else:
            mark["sha256"] = sha256_of(path)
        marks.append(mark)
    return marks


def _read_file(path: Path, source: Source, wanted: list[str]) -> Iterator[Chunk]:
    kind = source.format_of(path)
    if kind == "parquet":
        return _read_parquet(path, wanted)
    if kind in ("jsonl", "python-literal"):
        return read_lines(path, source, python=kind == "python-literal")
    return read_delimited(path, source, wanted, "\t" if kind == "tsv" else ",")


def _numbered(batches: Iterator[pa.RecordBatch], file: str) -> Iterator[Chunk]:
    start = 1
    for batch in batches:
        yield Chunk(file, np.arange(start, start + len(batch), dtype=np.int64), pa.table(batch))
        start += len(batch)


def _read_parquet(path: Path, wanted: list[str]) -> Iterator[Chunk]:
    try:
        with pq.ParquetFile(path) as file:
            check_columns(wanted, file.schema_arrow.names, path)
            yield from _numbered(file.iter_batches(batch_size=BATCH, columns=wanted), str(path))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: check the path in data.yaml, or give --root") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _read_huggingface(address: HuggingFace, wanted: list[str], root: Path) -> Iterator[Chunk]:
    require_extra("train", ["datasets"], "a huggingface source")
    import datasets

    files = address.data_files
    if files is not None:
        files = [str(root / name) for name in ([files] if isinstance(files, str) else files)]
    try:
        dataset = datasets.load_dataset(
            address.name, address.config, split=address.split, revision=address.revision, data_files=files
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"Hugging Face dataset {address.name}: {' '.join(str(error).split())}") from error
    where = f"{address.name}/{address.split}"
    check_columns(wanted, dataset.column_names, where)
    tables = dataset.select_columns(wanted).with_format("arrow").iter(batch_size=BATCH)
    yield from _numbered((batch for table in tables for batch in table.to_batches()), where)


def _read_sql(source: Source, wanted: list[str], root: Path) -> Iterator[Chunk]:
    """Rows of one SELECT. Files it names start from the root; it never fetches an extension."""
    database = root / source.database if source.database else None
    if database is not None and not database.is_file():
        raise DataError(f"database {database} does not exist: correct data.yaml, or give --root")
    try:
        with connect(database or ":memory:", read_only=database is not None) as connection:
            connection.execute(f"SET file_search_path = {literal(str(root))}")
            statements = connection.extract_statements(source.sql or "")
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise DataError("sql is not one SELECT statement: correct data.yaml")
            relation = connection.sql(source.sql or "")
            check_columns(wanted, relation.columns, "the sql source")
            reader = pa.RecordBatchReader.from_stream(relation)
            yield from _numbered((batch.select(wanted) for batch in reader), "sql")
    except duckdb.Error as error:
        raise DataError(f"sql source: {' '.join(str(error).split())}") from error


def connect(path: Path | str, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection of bounded memory, in UTC, that fetches nothing from the network."""
    return duckdb.connect(
        str(path),
        read_only=read_only,
        config={
            "memory_limit": MEMORY,
            "autoinstall_known_extensions": "false",
            "TimeZone": "UTC",
        },
    )


def literal(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def identifier(value: str) -> str:
    """A SQL name."""
    return '"' + value.replace('"', '""') + '"'
