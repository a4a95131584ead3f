"""Kill -9 of the service at random moments of writing: what it had acknowledged must all be there afterwards.

    python benchmarks/service_kills.py BUNDLE

Four clients send events and one changes an item's price, again and again, in a copy of the bundle with a
SQLite store; the service is killed. Then it is started again, asked what it knows, and what was under way is
sent once more with its key: every event must be there once, in order, and the price that was acknowledged
last, or the next one, must be that of the item.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
from serving import copied, running

from llmrec.recommend import Shop
from llmrec.serving.client import Client, ServiceError

CLIENTS = 4
LONGEST = 4.0
"""Seconds after all clients began in which the kill comes: a change of the catalogue takes one or two."""
MOMENT = 1_300_000_000
"""The time of all events: their order is that in which they came."""
COLUMNS = (
    "kills", "started again", "acknowledged events", "acknowledged changes", "lost", "twice", "out of order",
    "wrong price", "done though not acknowledged",
)  # fmt: skip


class Writers:
    """What clients tell a service until it is gone; `acknowledged` writes of each, the changes last."""

    def __init__(self, url: str, number: int, item: str) -> None:
        self._url, self._number, self._item = url, number, item
        self.acknowledged = [0] * (CLIENTS + 1)
        self._threads = [threading.Thread(target=self._write, args=[at]) for at in range(CLIENTS + 1)]
        for each in self._threads:
            each.start()

    def join(self) -> None:
        """Wait until none of them gets an answer any more."""
        for each in self._threads:
            each.join()

    def send(self, client: Client, at: int, place: int) -> None:
        """One write, with all that makes it this one."""
        if at == CLIENTS:
            client.change_items(update=[{"id": self._item, "price": price_of(self._number, place)}])
        else:
            event = {"item": self._item, "time": MOMENT, "value": place}
            client.append(user_of(self._number, at), [event], str(place))

    def _write(self, at: int) -> None:
        with contextlib.suppress(httpx.HTTPError, ServiceError), Client(self._url, seconds=60) as client:
            while True:
                self.send(client, at, self.acknowledged[at])
                self.acknowledged[at] += 1


def user_of(number: int, at: int) -> str:
    """To whom a client appends until a kill."""
    return f"{number}-{at}"


def price_of(number: int, place: int) -> float:
    """A price that nothing else is given."""
    return 1_000.0 * (number + 1) + place


def places_of(client: Client, number: int, at: int) -> list[int]:
    """What the service knows of a client's events, in its order; the newest thousand."""
    try:
        return [int(event["value"]) for event in client.user(user_of(number, at), 1_000)["events"]]
    except ServiceError as error:
        if error.status != 404:
            raise
        return []


def lost(client: Client, writers: Writers, number: int) -> int:
    """Events that the service does not know: those acknowledged, and the one that was sent once more."""
    missing = 0
    for at, count in enumerate(writers.acknowledged[:CLIENTS]):
        expected = range(max(0, count + 1 - 1_000), count + 1)
        missing += len(set(expected) - set(places_of(client, number, at)))
    return missing


def checked(client: Client, writers: Writers, before: float, number: int, item: str) -> Counter[str]:
    """Count what is wrong after a kill, with what was under way sent once more; `before`: the price."""
    found: Counter[str] = Counter()
    for at, count in enumerate(writers.acknowledged[:CLIENTS]):
        places = places_of(client, number, at)
        found["done though not acknowledged"] += len(set(places) - set(range(count)))
        writers.send(client, at, count)
        places = places_of(client, number, at)
        found["twice"] += len(places) - len(set(places))
        found["out of order"] += places != sorted(places)
        found["acknowledged events"] += count
    found["lost"] += lost(client, writers, number)
    changes = writers.acknowledged[CLIENTS]
    found["acknowledged changes"] += changes
    price = client.items([item])["items"][0]["price"]
    last = price_of(number, changes - 1) if changes else before
    found["done though not acknowledged"] += price == price_of(number, changes)
    found["wrong price"] += price not in (last, price_of(number, changes))
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Print a table; exit with 1 when something was lost, twice, out of order or wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words)
    rng, found = random.Random(arguments.seed), Counter[str]()
    item = Shop.open(arguments.bundle).catalog[0].id
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        bundle, store = copied(arguments.bundle, folder), f"sqlite:///{folder}/store.db"
        killed: list[tuple[Writers, float]] = []
        for number in range(arguments.kills + 1):
            with running(bundle, store, "transformers") as (url, pid), Client(url, seconds=60) as client:
                if killed:
                    found["started again"] += 1
                    found += checked(client, *killed[-1], number - 1, item)
                if number == arguments.kills:  # and all the earlier ones are still there
                    found["lost"] += sum(lost(client, each, at) for at, (each, _) in enumerate(killed))
                    break
                price = client.items([item])["items"][0]["price"]
                killed.append((Writers(url, number, item), price))
                time.sleep(rng.uniform(0, LONGEST))
                os.kill(pid, signal.SIGKILL)
                killed[-1][0].join()
        print(f"| {' | '.join(COLUMNS)} |\n|{'---:|' * len(COLUMNS)}")
        print(f"| {arguments.kills} | {' | '.join(f'{found[name]:,}' for name in COLUMNS[1:])} |")
    sys.exit(any(found[name] for name in ("lost", "twice", "out of order", "wrong price")))


if __name__ == "__main__":
    main()
