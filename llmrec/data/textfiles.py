"""Text files in blocks: delimited rows and JSON or Python-literal lines, with the number of every row.

Everything streams; a row that cannot be read is set aside with its number and the reason. Row numbers
count records from 1, the header included, as a spreadsheet shows them; for JSON lines they are line
numbers. Values stay bytes-exact text here: what they mean is decided later, in one place.
"""

from __future__ import annotations

import ast
import io
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from llmrec.data.description import Source
from llmrec.errors import DataError

BLOCK = 8 << 20
"""Bytes read at a time, and the longest row that can be read."""
UNIT = b"\x1f"
"""Stands for a delimiter of several characters while rows are cut (the ASCII unit separator)."""
TAIL = 16
"""Last bytes of a file that are kept, to see whether a quote closes."""
NEVER = "\x01"
"""A delimiter that valid JSON cannot contain, so that a line stays whole."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that cannot be read."""

    file: str
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of one file: `rows` int64 [n] are their numbers; `table` has n rows.

    When `lines`, the table has one column `line` of JSON objects as text.
    """

    file: str
    rows: np.ndarray
    table: pa.Table
    malformed: tuple[Malformed, ...] = ()
    lines: bool = False


class _Bytes(io.RawIOBase):
    """A byte stream that replaces `old` (empty, or several bytes) by `UNIT` and remembers its last bytes."""

    def __init__(self, stream: Any, old: bytes) -> None:
        self.stream, self.old = stream, old
        self.held, self.tail = b"", b""

    def readable(self) -> bool:
        """Always; `io.RawIOBase` asks."""
        return True

    def readinto(self, target: Any) -> int:
        """Fill `target` from the stream; 0 only at its end."""
        data = b""
        while not data:
            block = self.stream.read(max(len(target) - len(self.held), 1))
            data, self.held = self.held + block, b""
            if not block:
                break
            # The beginning of a delimiter at the end of a block waits for the next block.
            keep = next((n for n in range(len(self.old) - 1, 0, -1) if data.endswith(self.old[:n])), 0)
            if keep:
                data, self.held = data[:-keep], data[-keep:]
        if self.old:
            data = data.replace(self.old, UNIT)
        target[: len(data)] = data
        self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        return len(data)


def open_bytes(path: Path) -> Any:
    """Open a file for reading; `.gz` is decompressed. Raises `DataError` with the path."""
    try:
        return pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: check the path in data.yaml, or give --root") from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error}") from error


class _Numbers:
    """Numbers the rows that were read, leaving out those set aside, as blocks come in."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.skipped: deque[int] = deque()

    def take(self, count: int) -> np.ndarray:
        """Numbers of the next `count` good rows, int64 [count]."""
        runs = [np.empty(0, dtype=np.int64)]
        while count:
            while self.skipped and self.skipped[0] == self.next:
                self.skipped.popleft()
                self.next += 1
            run = min(count, self.skipped[0] - self.next) if self.skipped else count
            runs.append(np.arange(self.next, self.next + run, dtype=np.int64))
            self.next += run
            count -= run
        return np.concatenate(runs)


def _utf8(table: pa.Table, rows: np.ndarray, file: str) -> Chunk:
    """Bytes to text; rows that are not UTF-8 are set aside. The slow path runs for bad blocks only."""
    text = pa.schema([(name, pa.string()) for name in table.column_names])
    try:
        return Chunk(file, rows, table.cast(text))
    except pa.ArrowInvalid:
        pass
    good = np.ones(len(rows), dtype=bool)
    bad = []
    for position, record in enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True)):
        for name, value in zip(table.column_names, record, strict=True):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError:
                good[position] = False
                bad.append(Malformed(file, int(rows[position]), f"column {name} is not UTF-8"))
                break
    return Chunk(file, rows[good], table.filter(pa.array(good)).cast(text), tuple(bad))


@dataclass(frozen=True, slots=True)
class _Rows:
    """A delimited file; `names` are the columns of one without a header row, `quote` "" means none."""

    path: Path
    delimiter: str
    quote: str
    names: list[str] | None
    encoding: str

    def chunks(self, wanted: list[str]) -> Iterator[Chunk]:
        """The wanted columns as text, block by block."""
        present = self.names or self._open(None, lambda row: "skip")[0].schema.names
        if len(set(present)) < len(present):
            twice = next(name for name in present if present.count(name) > 1)
            raise DataError(f"{self.path} has two columns named {twice!r}: rename one")
        check_columns(wanted, present, self.path)
        # An unclosed quote swallows the rest of the file into the last column: read it, to notice.
        columns = list(dict.fromkeys([*wanted, present[-1]])) if self.quote else wanted
        malformed: list[Malformed] = []
        numbers = _Numbers(1 if self.names else 2)

        def set_aside(row: Any) -> str:
            over = f", over {row.text.count(chr(10)) + 1} lines" if chr(10) in row.text else ""
            reason = f"{row.actual_columns} columns where {row.expected_columns} are expected{over}"
            malformed.append(Malformed(str(self.path), row.number, reason))
            numbers.skipped.append(row.number)
            return "skip"

        reader, stream = self._open(columns, set_aside)
        held: tuple[np.ndarray, pa.Table] | None = None
        for batch in reader:
            if held is not None:
                yield self._chunk(*held, wanted, malformed)
            held = numbers.take(len(batch)), pa.Table.from_batches([batch])
        if held is None:
            held = (
                np.empty(0, dtype=np.int64),
                pa.table({name: pa.array([], pa.binary()) for name in columns}),
            )
        rows, table = held
        if self.quote and len(table) and self._never_closed(table.column(present[-1])[-1], stream.tail):
            reason = "a quote opens and never closes: the rest of the file stands in this row"
            malformed.append(Malformed(str(self.path), int(rows[-1]), reason))
            rows, table = rows[:-1], table.slice(0, len(table) - 1)
        yield self._chunk(rows, table, wanted, malformed)

    def _never_closed(self, last: pa.Scalar, tail: bytes) -> bool:
        """Whether `last`, the last value of a file that ends with `tail`, runs over lines without an end."""
        return b"\n" in (last.as_py() or b"") and not tail.rstrip().endswith(self.quote.encode())

    def _chunk(
        self, rows: np.ndarray, table: pa.Table, wanted: list[str], malformed: list[Malformed]
    ) -> Chunk:
        chunk = _utf8(table.select(wanted), rows, str(self.path))
        faults = (*malformed, *chunk.malformed)
        malformed.clear()
        return Chunk(chunk.file, chunk.rows, chunk.table, faults)

    def _open(self, columns: list[str] | None, handler: Callable[[Any], str]) -> tuple[Any, _Bytes]:
        several = self.delimiter.encode(self.encoding) if len(self.delimiter) > 1 else b""
        stream = _Bytes(open_bytes(self.path), several)
        reader = pa_csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            pa_csv.ReadOptions(
                use_threads=False, block_size=BLOCK, column_names=self.names, encoding=self.encoding.lower()
            ),
            pa_csv.ParseOptions(
                delimiter=UNIT.decode() if several else self.delimiter,
                quote_char=self.quote or False,
                newlines_in_values=bool(self.quote),
                ignore_empty_lines=self.delimiter != NEVER,
                invalid_row_handler=handler,
            ),
            pa_csv.ConvertOptions(
                include_columns=columns, column_types={name: pa.binary() for name in columns or []}
            ),
        )
        return reader, stream


def check_columns(wanted: list[str], present: list[str], where: Path | str) -> None:
    """Raise `DataError` when a mapped column is not there."""
    for name in wanted:
        if name not in present:
            raise DataError(f"{where} has no column {name!r}; it has {', '.join(present)}: correct data.yaml")


def _guarded(path: Path, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Turn what the readers raise in the middle of a file into one line."""
    try:
        yield from chunks
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {error.encoding} text (byte {error.start}): set `encoding`"
        ) from error
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise DataError(f"{path} is empty") from error
        if "straddling" in str(error):
            raise DataError(
                f"{path} has a row of more than {BLOCK >> 20} MiB: is a quote never closed? "
                'Correct it, or set `quote: ""` when quotes mean nothing'
            ) from error
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_delimited(path: Path, source: Source, wanted: list[str], default: str) -> Iterator[Chunk]:
    """Rows of a CSV or TSV file (`default` is its delimiter), all values text.

    Raises:
        DataError: the file or a wanted column is missing, it is empty, or not in `source.encoding`.
    """
    delimiter = source.delimiter or default
    rows = _Rows(path, delimiter, source.quote, source.header, source.encoding)
    return _guarded(path, rows.chunks(wanted))


def _to_json(chunk: Chunk) -> Chunk:
    """Python literals to JSON, by `ast.literal_eval`, which builds values and runs nothing."""
    good, lines, bad = [], [], []
    for number, line in zip(chunk.rows.tolist(), chunk.table.column("line").to_pylist(), strict=True):
        if not line.strip():
            continue
        try:
            lines.append(json.dumps(ast.literal_eval(line.strip()), ensure_ascii=True, default=str))
            good.append(number)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            bad.append(Malformed(chunk.file, number, "not a Python literal"))
    table = pa.table({"line": pa.array(lines, pa.string())})
    return Chunk(chunk.file, np.array(good, dtype=np.int64), table, (*chunk.malformed, *bad), lines=True)


def read_lines(path: Path, source: Source, python: bool) -> Iterator[Chunk]:
    """Lines of a JSON-lines file, or of one with a Python literal a line (`python`), not yet parsed."""
    rows = _Rows(path, NEVER, "", ["line"], source.encoding)
    for chunk in _guarded(path, rows.chunks(["line"])):
        bad = tuple(
            Malformed(fault.file, fault.row, fault.reason if "UTF-8" in fault.reason else "control character")
            for fault in chunk.malformed
        )
        whole = Chunk(chunk.file, chunk.rows, chunk.table, bad, lines=True)
        yield _to_json(whole) if python else whole
