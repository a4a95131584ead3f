"""The service as a process of its own: what it acknowledged is there after `kill -9`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from served import USER, copied

MAIN = Path(__file__).parents[1] / "serve" / "main.py"
SECONDS = 240
"""For a start on a machine with much other work."""


@contextlib.contextmanager
def started(bundle: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """`serve/main.py BUNDLE`, ready, and a client of it; killed at the end if it still runs."""
    command = [sys.executable, str(MAIN), str(bundle), "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    said = bundle.with_name("said")
    with (
        said.open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as http,
    ):
        try:
            until = time.monotonic() + SECONDS
            while not ready(http):
                assert process.poll() is None and time.monotonic() < until, said.read_text()
                time.sleep(0.1)
            yield process, http
        finally:
            process.kill()


def ready(http: httpx.Client) -> bool:
    """Whether it answers as it should."""
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_what_is_acknowledged_outlives_a_kill(tiny_bundle: Path, tmp_path: Path):
    """Killed as soon as an event is acknowledged; the next process knows it, and answers with it."""
    bundle = copied(tiny_bundle, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with started(bundle, port) as (process, http):
        best = http.post("/v1/recommend", json={"user": USER, "k": 1}).json()["items"][0]["item"]
        told = {"user": USER, "events": [{"item": best}], "key": "order-7"}
        acknowledged = http.post("/v1/events", json=told)
        process.kill()
        assert acknowledged.json() == {"user": USER, "count": 1, "repeated": False}
        assert process.wait(SECONDS) == -9
    with started(bundle, port) as (_, http):
        known = http.get(f"/v1/users/{USER}", params={"newest": 1}).json()
        assert known["in_store"] == 1 and [event["item"] for event in known["events"]] == [best]
        listed = http.post("/v1/recommend", json={"user": USER, "k": 1000}).json()["items"]
        assert listed and best not in [each["item"] for each in listed]
        assert http.post("/v1/events", json=told).json()["repeated"]
