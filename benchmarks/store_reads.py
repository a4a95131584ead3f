"""A store in SQLite with a million users: how long reading one takes, and appending to one.

    python benchmarks/store_reads.py --where /tmp

The users of the store have from 1 to 99 events, 50 on average, all over the file: nobody's lie next to those
of whoever comes before. Reads take the newest 50 events of a user drawn at random; appends bring one event
and are on the disk when they return. The cold rows empty the system's cache of the file before each read.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from llmrec.serving.store import tables
from llmrec.serving.store.contract import StoredEvent
from llmrec.serving.store.documents import event_batch
from llmrec.serving.store.sqlite import SqliteStore

NEWEST, CHUNK = 50, 2_000


def fill(store: SqliteStore, users: int, mean: int, rng: random.Random) -> int:
    """Write all users, round after round, so that a user's events come from different times; their number."""
    lengths = [rng.randrange(1, 2 * mean) for _ in range(users)]
    rounds = 4
    for part in range(rounds):
        for first in range(0, users, CHUNK):
            work = [
                (user, [StoredEvent(str(rng.randrange(100_000)), 1_700_000_000 + part) for _ in range(count)])
                for user in range(first, min(first + CHUNK, users))
                if (count := (lengths[user] + part) // rounds)
            ]
            store.transaction(lambda rows, work=work: write(rows, work))
    return sum(lengths)


def write(rows: tables.Rows, work: Sequence[tuple[int, list[StoredEvent]]]) -> None:
    """Append to some users in the transaction of `rows`."""
    for user, events in work:
        tables.append_events(rows, str(user).encode(), event_batch(events, None))


def timed(call: Callable[[], object], count: int) -> np.ndarray:
    """Milliseconds of each of `count` calls, float64 [count]."""
    found = np.empty(count)
    for number in range(count):
        start = time.perf_counter()
        call()
        found[number] = 1000 * (time.perf_counter() - start)
    return found


def forget(path: Path) -> None:
    """Let the system forget what it holds of a file in memory."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def row(what: str, found: np.ndarray, seconds: float | None = None) -> None:
    """Print one row of the table."""
    p50, p99 = np.percentile(found, [50, 99])
    rate = len(found) / (found.sum() / 1000 if seconds is None else seconds)
    print(f"| {what} | {len(found):,} | {p50:.2f} | {p99:.2f} | {rate:,.0f} |", flush=True)


def together(call: Callable[[], object], threads: int, count: int) -> tuple[np.ndarray, float]:
    """Calls of several threads at once: milliseconds of each, and the seconds of all."""
    found: list[np.ndarray] = []
    workers = [
        threading.Thread(target=lambda: found.append(timed(call, count // threads))) for _ in range(threads)
    ]
    start = time.perf_counter()
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    return np.concatenate(found), time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=50, help="Mean number of events of a user.")
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--where", type=Path, default=Path("/tmp"), help="Directory for the file.")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="reads-", dir=arguments.where))
    try:
        rng = random.Random(0)
        store = SqliteStore(folder / "store.db")
        start = time.perf_counter()
        events = fill(store, arguments.users, arguments.events, rng)
        seconds = time.perf_counter() - start
        store.transaction(lambda rows: rows.rows("SELECT 1"))
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e9
        print(f"{arguments.users:,} users, {events:,} events: {size:.2f} GB, written in {seconds:.0f} s\n")
        print("| | calls | p50 ms | p99 ms | a second |\n|---|---:|---:|---:|---:|")

        def read() -> object:
            return store.read(str(rng.randrange(arguments.users)), NEWEST)

        def append() -> object:
            return store.append(str(rng.randrange(arguments.users)), [StoredEvent("7", 1_800_000_000)])

        def cold() -> object:
            forget(folder / "store.db")
            began = time.perf_counter()
            read()
            taken.append(1000 * (time.perf_counter() - began))
            return None

        taken: list[float] = []
        timed(cold, min(200, arguments.reads))
        row("read, file not in memory", np.array(taken))
        timed(read, arguments.reads // 10)
        row("read", timed(read, arguments.reads))
        row("read, 8 threads", *together(read, 8, arguments.reads))
        row("append", timed(append, arguments.reads // 20))
        row("append, 8 threads", *together(append, 8, arguments.reads // 10))
        store.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
