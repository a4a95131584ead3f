"""Time and peak memory of `llmrec prepare` and `llmrec validate` on a large synthetic file of events.

    python benchmarks/prepare_events.py --events 10000000 --format csv

Users and items are drawn from skewed distributions; a share of the times is missing. Everything is made in a
temporary folder (about 2.5 GB for ten million events) and removed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

BLOCK = 1_000_000
DESCRIPTION = """\
version: 1
name: synthetic
items: {{source: items.jsonl, columns: {{id: id, title: title, price: price}}}}
events:
  source: events.{format}
  columns: {{user: user, item: item, time: time, type: type, value: value, scenarios: [country]}}
"""


def make(folder: Path, events: int, users: int, items: int, form: str) -> None:
    """Write items.jsonl, events.csv (or .parquet) and data.yaml."""
    rng = np.random.default_rng(0)
    with (folder / "items.jsonl").open("w") as lines:
        for item in range(items):
            row = {"id": f"I{item:07d}", "title": f"Product number {item}", "price": round(item % 997 / 7, 2)}
            lines.write(json.dumps(row) + "\n")
    schema = pa.schema(
        [
            ("user", pa.string()),
            ("item", pa.string()),
            ("time", pa.int64()),
            ("type", pa.string()),
            ("value", pa.float64()),
            ("country", pa.string()),
        ]
    )
    path = folder / f"events.{form}"
    writer = pa_csv.CSVWriter(path, schema) if form == "csv" else pq.ParquetWriter(path, schema)
    with writer:
        for start in range(0, events, BLOCK):
            count = min(BLOCK, events - start)
            user = (rng.random(count) ** 2 * users).astype(np.int64)
            item = (rng.random(count) ** 3 * items).astype(np.int64)
            times = rng.integers(1_300_000_000, 1_400_000_000, count)
            kind = np.array(["view", "cart", "purchase"])[rng.choice(3, count, p=[0.8, 0.15, 0.05])]
            columns = [
                pa.array([f"U{number:08d}" for number in user]),
                pa.array([f"I{number:07d}" for number in item]),
                pa.array(times, mask=rng.random(count) < 0.01),
                pa.array(kind),
                pa.array(rng.integers(1, 6, count).astype(np.float64)),
                pa.array([f"Country {number}" for number in (rng.random(count) ** 3 * 40).astype(int)]),
            ]
            writer.write_table(pa.table(columns, schema=schema))
    (folder / "data.yaml").write_text(DESCRIPTION.format(format=form))


def run(command: list[str]) -> str:
    """Run a command; what to print: its seconds, and the peak memory of the largest child so far."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "llmrec.cli", *command], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{seconds:.1f} s ({busy:.1f} s of processor time), peak memory {after.ru_maxrss // 1024:,} MiB"


def main() -> None:
    """Make the file, then measure each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--validate", action="store_true", help="measure validate too, after prepare")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, args.events, args.users, args.items, args.format)
        size = (folder / f"events.{args.format}").stat().st_size / 2**20
        print(f"{args.events:,} events, {size:,.0f} MiB {args.format}")
        commands = {"prepare": ["prepare", str(folder / "data.yaml"), "--out", str(folder / "out")]}
        commands["prepare"] += ["--split-date", "2014-01-01"]
        if args.validate:
            commands["validate"] = ["validate", str(folder / "data.yaml")]
        for what, command in commands.items():
            print(f"{what}: {run(command)}")


if __name__ == "__main__":
    main()
