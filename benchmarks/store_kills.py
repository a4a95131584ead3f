"""Kill -9 at random moments of writing: what a store had acknowledged must all be there afterwards.

    python benchmarks/store_kills.py

Four threads append events and one logs changes, each with a key, in a process that prints what was
acknowledged. With SQLite that process is killed, with Redis and PostgreSQL the server. Then the store is
opened again and read, and what was under way is sent once more with its key: it must be there once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from private_servers import Server, memory_or_disk, postgres_server, redis_server

from llmrec.serving.store.contract import ItemChange, Store, StoredEvent, StoreUnavailable
from llmrec.serving.store.opening import open_real

THREADS = 4
LONGEST = 0.3
"""Seconds after the first acknowledged write in which the kill comes."""
COLUMNS = (
    "store", "kills", "opened again", "acknowledged events", "acknowledged changes", "lost", "twice",
    "out of order", "done though not acknowledged",
)  # fmt: skip


def user_of(number: int, thread: int) -> str:
    """The user to whom a thread appends until a kill."""
    return f"{number}-{thread}"


def send(store: Store, number: int, thread: int, place: int) -> None:
    """One write: an event of the thread's user, or of the last thread a change; all events have one time."""
    if thread == THREADS:
        store.change_items([ItemChange("update", f"{number}-{place}")], f"{number}-{place}")
    else:
        store.append(user_of(number, thread), [StoredEvent(str(place), 0)], str(place))


def write_until_killed(url: str, number: int) -> None:
    """What the writing process does: it prints thread and place of each write that returned."""
    store = open_real(url)

    def write(thread: int) -> None:
        with contextlib.suppress(StoreUnavailable):
            for place in range(1_000_000):
                send(store, number, thread, place)
                os.write(1, f"{thread} {place}\n".encode())

    threads = [threading.Thread(target=write, args=[thread]) for thread in range(THREADS + 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def killed(url: str, number: int, server: Server | None, delay: float) -> list[int]:
    """Writes that each thread had acknowledged when the kill came."""
    command = [sys.executable, __file__, "--write", url, "--number", str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline()]
        time.sleep(delay)
        if server is None:
            writer.kill()
        else:
            server.kill()
        said += writer.stdout.read().splitlines()
    acknowledged = [0] * (THREADS + 1)
    for line in said:
        thread, place = map(int, line.split())
        acknowledged[thread] = place + 1
    return acknowledged


def places_of(store: Store, number: int, thread: int) -> list[int]:
    """The places of what is in the store of a thread's writes, in its order."""
    if thread < THREADS:
        return [int(event.item) for event in store.read(user_of(number, thread), 10**6).events]
    logged = [each.change.item.split("-") for each in store.changes(0, 10**6)]
    return [int(place) for of, place in logged if int(of) == number]


def checked(store: Store, number: int, acknowledged: list[int]) -> Counter[str]:
    """Count what is wrong after a kill, and again after what was under way is sent once more."""
    found: Counter[str] = Counter()
    for thread, count in enumerate(acknowledged):
        places = places_of(store, number, thread)
        found["done though not acknowledged"] += len(set(places) - set(range(count)))
        send(store, number, thread, count)
        places = places_of(store, number, thread)
        found["lost"] += len(set(range(count + 1)) - set(places))
        found["twice"] += len(places) - len(set(places))
        found["out of order"] += places != sorted(places)
        found["acknowledged changes" if thread == THREADS else "acknowledged events"] += count
    return found


def trial(name: str, server: Server | None, url: str, kills: int, rng: random.Random) -> Counter[str]:
    """Kill one store `kills` times; what was found."""
    found: Counter[str] = Counter()
    if server is not None:
        server.start()
    open_real(url).close()  # tables are made before the first kill
    everything = []
    for number in range(kills):
        everything.append(killed(url, number, server, rng.uniform(0, LONGEST)))
        if server is not None:
            server.start()
        store = open_real(url)
        found["opened again"] += 1
        found += checked(store, number, everything[-1])
        store.close()
    store = open_real(url)
    for number, acknowledged in enumerate(everything):  # and all the earlier ones are still there
        for thread, count in enumerate(acknowledged):
            found["lost"] += len(set(range(count + 1)) - set(places_of(store, number, thread)))
    store.close()
    return found


def main() -> None:
    """Print a table; exit with 1 when something was lost, twice or out of order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stores", nargs="*", default=["sqlite", "redis", "postgresql"])
    parser.add_argument("--where", type=Path, default=memory_or_disk(), help="Directory for the files.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_until_killed(arguments.write, arguments.number)
        return
    servers: dict[str, Callable[[Path], Server]] = {"redis": redis_server, "postgresql": postgres_server}
    print(f"| {' | '.join(COLUMNS)} |\n|---|{'---:|' * (len(COLUMNS) - 1)}")
    wrong = 0
    for name in arguments.stores:
        folder = Path(tempfile.mkdtemp(prefix="kills-", dir=arguments.where))
        folder.chmod(0o755)  # PostgreSQL may run as another user
        server = servers[name](folder) if name in servers else None
        url = f"sqlite:///{folder}/store.db" if server is None else server.url
        try:
            found = trial(name, server, url, arguments.kills, random.Random(arguments.seed))
        finally:
            if server is not None:
                server.stop()
            shutil.rmtree(folder)
        cells = [name, arguments.kills, *(f"{found[column]:,}" for column in COLUMNS[2:])]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        wrong += found["lost"] + found["twice"] + found["out of order"]
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
