"""The service under load, beside a plain loop over the same questions, and what it adds to the model's time.

    python benchmarks/serving.py BUNDLE
    python benchmarks/serving.py BUNDLE --soak 600 --clients 16

The service runs in a process of its own, asked over the loopback. A question is a user of the bundle's data
with a wish now and then. Overhead is the time at the client less the model's own (Server-Timing: reading the
wish, prompts, the model, the list), for one client.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from llmrec.recommend import Shop

WISHES = ("", "", "", "something for tea", "under 5 pounds", "not pink")
K = 10


def questions(users: Sequence[str], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Bodies of requests."""
    rng = random.Random(seed)
    return [{"user": rng.choice(users), "words": rng.choice(WISHES), "k": K} for _ in range(count)]


@contextlib.contextmanager
def running(bundle: Path, store: str) -> Iterator[tuple[str, int]]:
    """A service of its own: its address and its process."""
    main = Path(__file__).parents[1] / "serve" / "main.py"
    command = [sys.executable, str(main), str(bundle), "--port", "0", "--store", store, "--no-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"listening at (\S+)", line):
                break
        else:
            raise SystemExit(f"the service did not start: {said}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait(timeout=60)


def load(
    url: str, bodies: Sequence[dict[str, Any]], clients: int, until: float | None = None
) -> tuple[np.ndarray, np.ndarray, float, Counter[int]]:
    """Milliseconds of each answer and of the model for it, seconds in all, and how often each status came.

    With `until` (monotonic seconds) the questions are asked again and again.
    """
    times: list[float] = []
    models: list[float] = []
    statuses: Counter[int] = Counter()
    lock, place = threading.Lock(), iter(range(len(bodies)) if until is None else range(1 << 60))

    def work() -> None:
        with httpx.Client(base_url=url, timeout=120) as http:
            while until is None or time.monotonic() < until:
                with lock:
                    at = next(place, None)
                if at is None:
                    return
                start = time.perf_counter()
                response = http.post("/v1/recommend", json=bodies[at % len(bodies)])
                taken = 1000 * (time.perf_counter() - start)
                with lock:
                    statuses[response.status_code] += 1
                    if response.status_code == 200:
                        times.append(taken)
                        models.append(float(response.headers["server-timing"].rpartition("=")[2]))

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begun = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return np.array(times), np.array(models), time.perf_counter() - begun, statuses


def memory(pid: int) -> float:
    """MiB of a process that are its own and in memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kilobytes) for kilobytes in re.findall(r"^Private\w+:\s+(\d+)", text, re.MULTILINE)) / 1024


def measure(bundle: Path, url: str, count: int, clients: Sequence[int]) -> None:
    """Print the table."""
    shop = Shop.open(bundle)
    bodies = questions(shop.prepared.histories.users, count)
    for body in bodies[: min(20, count)]:
        shop.ask(user=body["user"], say=body["words"], k=K)
    load(url, bodies[: min(20, count)], 1)
    print("| | requests | p50 ms | p99 ms | a second | overhead p50 ms | refused |")
    print(f"|---|{'---:|' * 6}")
    plain = []
    for body in bodies:
        start = time.perf_counter()
        shop.ask(user=body["user"], say=body["words"], k=K)
        plain.append(1000 * (time.perf_counter() - start))
    row("plain loop", np.array(plain), sum(plain) / 1000, "", 0)
    for number in clients:
        times, models, seconds, statuses = load(url, bodies, number)
        over = f"{np.median(times - models):.1f}" if number == 1 else ""
        row(f"{number} clients", times, seconds, over, sum(statuses.values()) - statuses[200])


def row(what: str, times: np.ndarray, seconds: float, over: str, refused: int) -> None:
    """Print one row."""
    p50, p99 = np.percentile(times, [50, 99])
    rate = len(times) / seconds
    print(
        f"| {what} | {len(times):,} | {p50:.1f} | {p99:.1f} | {rate:.1f} | {over} | {refused} |", flush=True
    )


def soak(bundle: Path, url: str, pid: int, seconds: float, clients: int) -> bool:
    """Ask for a while; print statuses and memory; whether there was nothing but answers, 429 and 503."""
    users = Shop.open(bundle).prepared.histories.users
    bodies = questions(users, 2_000)
    load(url, bodies, clients, time.monotonic() + seconds / 10)
    found, seen = [memory(pid)], Counter[int]()
    for _ in range(10):
        seen += load(url, bodies, clients, time.monotonic() + seconds / 10)[3]
        found.append(memory(pid))
    growth = 100 * (found[-1] / found[0] - 1)
    sizes = ", ".join(f"{each:.0f}" for each in found)
    print(f"{seconds:.0f} s, {clients} clients: {dict(seen)}; MiB {sizes} ({growth:+.1f}%)")
    return not set(seen) - {200, 429, 503}


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--soak", type=float, default=0.0, help="Seconds to ask for, and watch the memory.")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="serving-") as folder,
        running(arguments.bundle, f"sqlite:///{folder}/store.db") as (url, pid),
    ):
        if arguments.soak:
            sys.exit(not soak(arguments.bundle, url, pid, arguments.soak, max(arguments.clients)))
        measure(arguments.bundle, url, arguments.requests, arguments.clients)


if __name__ == "__main__":
    main()
