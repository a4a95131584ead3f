"""The service under load, beside a plain loop over the same questions, and what it adds to the model's time.

    python benchmarks/serving.py BUNDLE
    python benchmarks/serving.py BUNDLE --engines transformers vllm    # where vLLM is installed
    python benchmarks/serving.py BUNDLE --soak 600 --clients 16
    python benchmarks/serving.py BUNDLE --reload 20 --clients 8

The service runs in a process of its own, asked over the loopback. A question is a user of the bundle's data
with a wish now and then. Overhead is the time at the client less the model's own (Server-Timing: reading the
wish, prompts, the model, the list), for one client. Memory in the soak is sampled each second; what is
printed is the median of each tenth of the time, and how far the line through them rises or falls. A reload
changes an item, so that a new version is made, loaded and switched to, then loads an older one and switches
to that and back, all of it in a copy of the bundle.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from llmrec.recommend import Shop
from llmrec.serving.client import Client
from llmrec.versions import link_tree

WISHES = ("", "", "", "something for tea", "under 5 pounds", "not pink")
K = 10


def questions(users: Sequence[str], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Bodies of requests."""
    rng = random.Random(seed)
    return [{"user": rng.choice(users), "words": rng.choice(WISHES), "k": K} for _ in range(count)]


@contextlib.contextmanager
def running(bundle: Path, store: str, engine: str) -> Iterator[tuple[str, int]]:
    """A service of its own: its address and its process."""
    main = Path(__file__).parents[1] / "serve" / "main.py"
    command = [sys.executable, str(main), str(bundle), "--port", "0", "--store", store, "--no-log"]
    command += ["--engine", engine]
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


def copied(bundle: Path, folder: str) -> Path:
    """A copy whose versions may step."""
    copy = Path(folder) / "bundle"
    link_tree(bundle, copy)
    return copy


def load(
    url: str, bodies: Sequence[dict[str, Any]], clients: int, until: Callable[[], float] | None = None
) -> tuple[np.ndarray, np.ndarray, float, Counter[int]]:
    """Milliseconds of each answer and of the model for it, seconds in all, and how often each status came.

    With `until` (it gives monotonic seconds, which may change) the questions are asked again and again.
    """
    times: list[float] = []
    models: list[float] = []
    statuses: Counter[int] = Counter()
    lock, place = threading.Lock(), iter(range(len(bodies)) if until is None else range(1 << 60))

    def work() -> None:
        with httpx.Client(base_url=url, timeout=120) as http:
            while until is None or time.monotonic() < until():
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


def plain_loop(shop: Shop, bodies: Sequence[dict[str, Any]]) -> None:
    """Print the row of questions asked one after another, in this process."""
    for body in bodies[:20]:
        shop.ask(user=body["user"], say=body["words"], k=K)
    plain = []
    for body in bodies:
        start = time.perf_counter()
        shop.ask(user=body["user"], say=body["words"], k=K)
        plain.append(1000 * (time.perf_counter() - start))
    row("plain loop", np.array(plain), sum(plain) / 1000, "", 0)


def measure(name: str, url: str, bodies: Sequence[dict[str, Any]], clients: Sequence[int]) -> None:
    """Print the rows of one service."""
    load(url, bodies[:20], 1)
    for number in clients:
        times, models, seconds, statuses = load(url, bodies, number)
        over = f"{np.median(times - models):.1f}" if number == 1 else ""
        what = f"{name}, {number} client{'s' if number > 1 else ''}"
        row(what, times, seconds, over, sum(statuses.values()) - statuses[200])


def row(what: str, times: np.ndarray, seconds: float, over: str, refused: int) -> None:
    """Print one row."""
    p50, p99 = np.percentile(times, [50, 99])
    rate = len(times) / seconds
    print(
        f"| {what} | {len(times):,} | {p50:.1f} | {p99:.1f} | {rate:.1f} | {over} | {refused} |", flush=True
    )


def soak(users: Sequence[str], url: str, pid: int, seconds: float, clients: int) -> bool:
    """Ask for a while; print statuses and memory; whether there was nothing but answers, 429 and 503."""
    bodies = questions(users, 2_000)
    warm = time.monotonic() + seconds / 10
    load(url, bodies, clients, lambda: warm)
    sizes: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1):
            sizes.append(memory(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    end = time.monotonic() + seconds
    seen = load(url, bodies, clients, lambda: end)[3]
    done.set()
    watching.join()
    tenths = [float(np.median(each)) for each in np.array_split(np.array(sizes), 10)]
    slope, first = np.polyfit(np.arange(10), tenths, 1)
    shown = ", ".join(f"{each:.0f}" for each in tenths)
    print(f"{seconds:.0f} s, {clients} clients: {dict(seen)}; MiB {shown} ({100 * 9 * slope / first:+.1f}%)")
    return not set(seen) - {200, 429, 503}


def reloads(users: Sequence[str], url: str, rounds: int, clients: int) -> bool:
    """Ask while bundles are loaded and switched; print what came; whether every request was answered."""
    bodies, ends = questions(users, 2_000), time.monotonic() + 3_600
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(load(url, bodies, clients, lambda: ends)))
    asking.start()
    taken: dict[str, list[float]] = {"change": [], "load": [], "switch": []}
    with Client(url, seconds=120) as client:

        def timed(what: str, call: Callable[[], Any]) -> Any:
            start = time.perf_counter()
            answer = call()
            taken[what].append(time.perf_counter() - start)
            return answer

        item = client.recommend(history=[], k=1)["items"][0]["item"]
        for number in range(1, rounds + 1):
            newest = timed("change", lambda: client.change_items(update=[{"id": item, "price": number}]))  # noqa: B023
            older = timed("load", lambda: client.load_bundle(version=number))  # noqa: B023
            timed("switch", lambda: client.switch_bundle(older["id"]))  # noqa: B023
            timed("switch", lambda: client.switch_bundle(newest["id"]))  # noqa: B023
        ends = time.monotonic()
        asking.join()
        answers = client.bundles()["answers"]
    times, _, seconds, statuses = found[0]
    p50, p99 = np.percentile(times, [50, 99])
    done = ", ".join(
        f"{len(each)} of {what} (median {np.median(each):.2f} s)" for what, each in taken.items()
    )
    print(
        f"{seconds:.0f} s, {clients} clients: {dict(statuses)}, p50 {p50:.0f} ms, p99 {p99:.0f} ms; {done}; "
        f"version {answers['version']} answers at the end"
    )
    return set(statuses) == {200}


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--engines", nargs="+", default=["transformers"])
    parser.add_argument("--soak", type=float, default=0.0, help="Seconds to ask for, and watch the memory.")
    parser.add_argument("--reload", type=int, default=0, help="Times to reload while it is asked.")
    arguments = parser.parse_args()
    shop = Shop.open(arguments.bundle)
    users = shop.prepared.histories.users
    bodies = questions(users, arguments.requests)
    if not (arguments.soak or arguments.reload):
        print("| | requests | p50 ms | p99 ms | a second | overhead p50 ms | refused |")
        print(f"|---|{'---:|' * 6}")
        plain_loop(shop, bodies)
    fine = True
    for engine in arguments.engines:
        with (
            tempfile.TemporaryDirectory(prefix="serving-") as folder,
            running(copied(arguments.bundle, folder), f"sqlite:///{folder}/store.db", engine) as (url, pid),
        ):
            if arguments.reload:
                fine &= reloads(users, url, arguments.reload, max(arguments.clients))
            elif arguments.soak:
                fine &= soak(users, url, pid, arguments.soak, max(arguments.clients))
            else:
                measure(engine, url, bodies, arguments.clients)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
