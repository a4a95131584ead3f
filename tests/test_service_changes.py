"""What is switched to stays, and changes of items and loads of bundles hold up nobody who asks."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import USER, Served, copied, served

from llmrec.errors import LlmrecError
from llmrec.recommend import Shop
from llmrec.serving.chosen import Choice, choice_path, read_choice, write_choice
from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import Refused
from llmrec.serving.service import Service
from llmrec.serving.settings import ServiceSettings
from llmrec.serving.turns import WAITING, Turns
from llmrec.versions import link_tree


def answers(running: Served) -> str:
    found = running.http.get("/v1/bundles").json()["answers"]["id"]
    assert running.ask(history=[], k=1)["bundle"] == found
    return found


def test_what_was_switched_to_answers_after_a_restart(tiny_bundle: Path, tmp_path: Path):
    bundle = copied(tiny_bundle, tmp_path)
    link_tree(tiny_bundle, tmp_path / "other")
    with served(bundle) as running:
        running.post("/v1/items", {"retire": ["22423"]}).raise_for_status()
        switched = running.post("/v1/bundles", {"version": 1, "switch": True}).json()
        assert (switched["id"], switched["kept"]) == ("bundle@1", True)
    assert read_choice(bundle) == Choice(None, 1)
    with served(bundle) as running:
        assert answers(running) == "bundle@1"
        said = running.refused(409, running.post("/v1/items", {"retire": ["84879"]}))
        assert "bundle@1 answers, items change in the newest version" in said
        assert "since the start" in running.refused(409, running.post("/v1/bundles/rollback", None))
        running.post("/v1/bundles", {"name": "other", "switch": True}).raise_for_status()
    with served(bundle) as running:
        assert answers(running) == "other@1"
        running.post("/v1/bundles", {"version": 2, "switch": True}).raise_for_status()
        assert not choice_path(bundle).exists()  # the newest answers, whichever it is
        running.post("/v1/items", {"retire": ["84879"]}).raise_for_status()
    with served(bundle) as running:
        assert answers(running) == "bundle@3"
        running.post("/v1/bundles", {"version": 2, "switch": True}).raise_for_status()
        assert running.post("/v1/bundles/rollback", None).json()["kept"]
    with served(bundle) as running:
        assert answers(running) == "bundle@3"


def test_a_log_does_not_undo_a_choice(tiny_bundle: Path, tmp_path: Path):
    """What another service logged is made when the newest version answers again."""
    for name in ("one", "two"):
        copied(tiny_bundle, tmp_path / name)
    url = f"sqlite:///{tmp_path}/store.db"
    with served(tmp_path / "one" / "bundle", store=url) as running:
        running.post("/v1/items", {"retire": ["22423"]}).raise_for_status()
        running.post("/v1/bundles", {"version": 1, "switch": True}).raise_for_status()
        with served(tmp_path / "two" / "bundle", store=url) as other:
            other.post("/v1/items", {"retire": ["84879"]}).raise_for_status()
        running.refused(409, running.post("/v1/items", {"retire": ["20724"]}))
        assert answers(running) == "bundle@1"
    with served(tmp_path / "one" / "bundle", store=url) as running:
        assert answers(running) == "bundle@1"
        running.post("/v1/bundles", {"version": 2, "switch": True}).raise_for_status()
        running.post("/v1/items", {"retire": ["20724"]}).raise_for_status()
        assert running.http.get("/v1/bundles").json()["answers"]["items"] == 61
        assert len(running.ask(history=[], k=1000)["items"]) == 58


def test_a_switch_that_cannot_be_kept_is_made_and_says_so(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    bundle = copied(tiny_bundle, tmp_path)
    with served(bundle, store=f"sqlite:///{tmp_path}/store.db") as running:
        running.post("/v1/items", {"retire": ["22423"]}).raise_for_status()
        choice_path(bundle).mkdir()  # nothing can be written there
        with caplog.at_level(logging.WARNING):
            switched = running.post("/v1/bundles", {"version": 1, "switch": True}).json()
        assert (switched["id"], switched["kept"]) == ("bundle@1", False)
        assert "bundle@1 answers until the next restart only" in caplog.text
        assert answers(running) == "bundle@1"
        assert running.post("/v1/bundles/rollback", None).json()["kept"] is False


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('{"format": 1, "name": null, "version": 7}', "no version 7.*it was switched to: remove"),
        ('{"format": 1, "name": "../up", "version": 1}', "without any path.*it was switched to: remove"),
        ('{"format": 2, "name": null, "version": 1}', "says nothing of this llmrec: remove it"),
        ('{"format": 1, "version": "one"}', "version"),
        ("{", "answers.json"),
    ],
)
def test_a_choice_that_cannot_be(tiny_bundle: Path, tmp_path: Path, written: str, said: str):
    """One line before anything listens: what answers must not be guessed."""
    bundle = copied(tiny_bundle, tmp_path)
    choice_path(bundle).write_text(written)
    with pytest.raises(LlmrecError, match=said) as raised:
        Service(ServiceSettings(bundle))
    assert "\n" not in str(raised.value)


def test_choices_round_trip(tmp_path: Path):
    root = tmp_path / "a@b"
    for choice in (None, Choice("other", 3), Choice(None, 1), None, None):
        write_choice(root, choice)
        assert read_choice(root) == choice


def test_a_wrong_store_is_told_before_a_model_is_loaded(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Shop, "open", lambda *_, **__: pytest.fail("the bundle was loaded"))
    with pytest.raises(LlmrecError, match="the store's address begins with 'mysql'"):
        Service(ServiceSettings(tiny_bundle, store="mysql://x"))
    with pytest.raises(LlmrecError, match="none"):
        Service(ServiceSettings(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []  # no store of a bundle that is not there


def test_changes_that_wait_hold_up_nobody(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """More than there are threads: lists, users, readiness and the page go on; too many are refused."""
    go, count = threading.Event(), 60
    with served(copied(tiny_bundle, tmp_path), deadline=2) as running:
        make = running.own.catalogue.make
        begun = threading.Semaphore(0)

        def held(changes: Any) -> Any:
            begun.release()
            assert go.wait(60)
            return make(changes)

        monkeypatch.setattr(running.own.catalogue, "make", held)
        limits = httpx.Limits(max_connections=count)
        with (
            httpx.Client(base_url=running.url, timeout=60, limits=limits) as http,
            ThreadPoolExecutor(count) as pool,
        ):
            sent = [pool.submit(http.post, "/v1/items", json={"retire": ["22423"]}) for _ in range(count)]
            assert begun.acquire(timeout=30)
            began = time.monotonic()
            assert len(running.ask(user=USER, k=3)["items"]) == 3
            for path in ("/readyz", "/v1/models", "/v1/bundles", f"/v1/users/{USER}", "/"):
                assert running.http.get(path).status_code == 200
            assert time.monotonic() - began < 20  # the changes are still held: nothing waited for them
            until = time.monotonic() + 30
            while sum(each.done() for each in sent) < count - 1:
                assert time.monotonic() < until
                time.sleep(0.05)
            go.set()
            responses = [each.result() for each in sent]
        said = [running.refused(503, each) for each in responses if each.status_code != 200]
        assert len(said) == count - 1  # what had begun was done
        assert (
            sum(f"{WAITING} changes and loads wait already" in line for line in said) == count - 1 - WAITING
        )
        assert sum("those before this one took longer than 2 s" in line for line in said) == WAITING
        assert all("retry-after" in each.headers for each in responses if each.status_code == 503)
        assert not begun.acquire(blocking=False)  # those that were refused never began
        assert running.http.get("/v1/bundles").json()["answers"]["version"] == 2


def test_turns():
    """One after the other, errors come through, and what had begun when all ends is done."""
    metrics, order = Metrics(), []

    async def all_of_it() -> None:
        turns = Turns(5, metrics)

        def work(number: int) -> int:
            time.sleep(0.01 * (3 - number))
            order.append(number)
            if number == 1:
                raise Refused(409, "no")
            return number

        found = await asyncio.gather(
            *(turns.run(lambda n=n: work(n)) for n in range(3)), return_exceptions=True
        )
        assert found[0] == 0 and isinstance(found[1], Refused) and found[2] == 2
        turns.close()

    asyncio.run(all_of_it())
    assert order == [0, 1, 2]


def test_events_told_without_a_time_are_of_now(service: Served):
    """With a key too: sent again later it is the same write."""
    told = {
        "user": "dora",
        "events": [{"item": "22423"}, {"item": "84879", "time": 1_300_000_000}],
        "key": "k",
    }
    before = int(time.time())
    assert service.post("/v1/events", told).json() == {"user": "dora", "count": 2, "repeated": False}
    time.sleep(1.1)
    assert service.post("/v1/events", told).json() == {"user": "dora", "count": 2, "repeated": True}
    late, early = reversed(service.own.store.read("dora", 9).events)
    assert (late.item, early.item) == ("22423", "84879") and before <= (late.time or 0) <= before + 60
    service.http.delete("/v1/users/dora")


def test_a_time_that_has_not_come_is_refused(service: Served):
    """Milliseconds above all, which would stand before everything for ages."""
    event = {"item": "22423", "time": 1_700_000_000_000}
    for path, body in (
        ("/v1/events", {"user": "eve", "events": [event]}),
        ("/v1/recommend", {"history": [event]}),
    ):
        assert "not come yet: give seconds since 1970 (not milliseconds)" in service.refused(
            422, service.post(path, body)
        )
    assert service.http.get("/v1/users/eve").status_code == 404
    soon = {"item": "22423", "time": int(time.time()) + 3600}  # a clock that is ahead
    assert json.loads(service.post("/v1/recommend", {"history": [soon], "k": 1}).text)["events"] == 1
