"""Ray for real, two workers on this machine: its answers are those of `llmrec batch` and of the service."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve
from served import OTHER, USER, Served, copied

from llmrec.errors import LlmrecError
from llmrec.serving.on_ray.service import Scale, start
from llmrec.serving.settings import ServiceSettings

ASKED = [{"user": USER, "words": "bags", "k": 3}, {"history": ["22423"], "k": 2}, {"user": OTHER}]


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    """A cluster with two CPUs, whose services hear every second how many requests are under way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "1")
        ray.init(
            "local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20
        )
    yield
    ray.shutdown()


def running() -> int:
    """Replicas that answer."""
    found = serve.status().applications["llmrec"].deployments["llmrec"].replica_states
    return found.get("RUNNING", 0)


@contextlib.contextmanager
def asked_by(clients: int, url: str) -> Iterator[None]:
    """That many clients ask all the time; none may be refused."""
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while not done.is_set():
                http.post("/v1/recommend", json=ASKED[0]).raise_for_status()

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            yield
        finally:
            done.set()
    for each in asking:
        each.result()


def test_a_file_is_answered_as_batch_does(
    two_workers: None, tiny_bundle: Path, tmp_path: Path, run: Callable[..., Any]
):
    lines = [json.dumps(each) for each in (*ASKED, {"user": "nobody"}) * 4]
    lines[1] = "{not json"
    requests, plain, out = (tmp_path / name for name in ("requests.jsonl", "plain.jsonl", "out.jsonl"))
    requests.write_text("\n".join(lines))
    assert run("batch", tiny_bundle, requests, "--out", plain, "--together", "3")[0] == 0
    expected = plain.read_text().splitlines(keepends=True)
    out.write_text("".join(expected[:3]) + expected[3][:20])  # as after a kill
    command = ("ray-batch", requests, "--bundle", tiny_bundle, "--out", out, "--together", "3")
    code, said, error = run(*command)
    assert (code, said) == (0, f"wrote {out}: 16 answers\n")
    assert "answers: 13/13, a second " in error  # three were there
    assert out.read_text().splitlines(keepends=True) == expected
    assert run(*command)[0] == 0 and out.read_text() == "".join(expected)
    code, _, error = run("ray-batch", requests, "--bundle", tmp_path, "--out", tmp_path / "none.jsonl")
    assert code == 2 and "is no version of a bundle" in error.splitlines()[-1]
    other = (*command[:5], tmp_path / "none.jsonl", *command[6:], "--engine", "steam")
    code, _, error = run(*other)
    assert code == 2 and "steam" in error.splitlines()[-1]


def test_replicas_answer_as_the_service_does(two_workers: None, service: Served, tmp_path: Path):
    """One of them, and a second one that is started when more is asked than the first should have."""
    bundle = copied(service.own.bundles.root, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    settings = ServiceSettings(bundle, port=port)
    try:
        start(settings, Scale(1, 2, target=1.0, delay=1.0))
        assert running() == 1
        with asked_by(6, f"http://127.0.0.1:{port}"):
            until = time.monotonic() + 120
            while running() < 2:
                assert time.monotonic() < until, serve.status()
                time.sleep(0.2)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            for body in ASKED * 3:
                assert http.post("/v1/recommend", json=body).json() == service.ask(**body)
            assert http.get("/readyz", headers={"Host": "elsewhere.example"}).status_code == 421
            assert http.post("/v1/recommend", json={"user": "nobody"}).status_code == 404
            sent = http.post("/v1/events", json={"user": "new", "events": [{"item": "22423"}]})
            assert sent.status_code == 200, sent.text
            known = {http.get("/v1/users/new").json()["in_store"] for _ in range(8)}
            assert known == {1}  # by whichever replica
        assert running() == 2
    finally:
        serve.shutdown()


@pytest.mark.parametrize(
    "scale", [{"fewest": 0}, {"fewest": 3, "most": 2}, {"target": 0}, {"gpus": -1}, {"delay": -1}]
)
def test_a_scale_that_cannot_be_is_refused(scale: dict[str, Any]):
    with pytest.raises(LlmrecError):
        Scale(**scale)
