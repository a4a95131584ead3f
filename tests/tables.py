"""The same small tables in every format that a source may have."""

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from llmrec.data.description import Dataset, load_description

Row = dict[str, Any]
FORMATS = ("csv", "tsv", "jsonl", "parquet", "csv.gz", "tsv.gz", "jsonl.gz")


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write `rows`, all with the same keys, in the format that the suffix of `path` tells."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    text = io.StringIO(newline="")
    if name.endswith(".jsonl"):
        text.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        delimiter = "\t" if name.endswith(".tsv") else ","
        writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def describe(
    folder: Path, items: str = "items.csv", events: str = "events.csv", changes: Row | None = None
) -> Dataset:
    """A data.yaml over columns id, title, price and user, item, time; `changes` override its fields."""
    value = {
        "version": 1,
        "name": "small",
        "items": {"source": items, "columns": {"id": "id", "title": "title", "price": "price"}},
        "events": {"source": events, "columns": {"user": "user", "item": "item", "time": "time"}},
        **(changes or {}),
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(value))
    return load_description(path)


ITEMS: list[Row] = [
    {"id": f"i{number}", "title": f"Thing {number}", "price": number + 0.5} for number in range(6)
]


def events_of(histories: dict[str, Sequence[int]], start: int = 1_300_000_000) -> list[Row]:
    """Event rows, one second apart over all users."""
    pairs = [(user, item) for user, items in histories.items() for item in items]
    return [
        {"user": user, "item": f"i{item}", "time": start + second}
        for second, (user, item) in enumerate(pairs)
    ]
