"""Bad input and bad luck, one test each: every answer is a problem of one clear line, and nothing hangs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from served import OTHER, USER, Served, copied, served
from store_places import empty_place

from llmrec.errors import LlmrecError
from llmrec.serving.settings import ServiceSettings

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"user": ', "is no JSON"),
        (b"", "missing"),
        (b"[]", "valid"),
        (b'{"user": "\xff"}', "UTF-8"),
        (b'{"user": "\\ud800"}', "user"),
        (b'{"user": "12562", "k": NaN}', "k"),
        (b'{"user": "12562", "filters": {"max_price": Infinity}}', "max_price"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b'{"user": "12562", "k": ' + b"9" * 5000 + b"}", ""),
    ],
)
def test_bodies(service: Served, body: bytes, said: str):
    response = service.http.post("/v1/recommend", content=body, headers=JSON)
    assert response.status_code in (400, 422)
    assert said in service.refused(response.status_code, response)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"user": "nobody"}, 404, "user 'nobody' is not known"),
        ({"history": ["none"]}, 404, "item 'none' is not in the catalogue"),
        ({}, 422, "say who asks: either user or history"),
        ({"user": USER, "history": []}, 422, "say who asks"),
        ({"user": USER, "k": -3}, 422, "k: Input should be greater than or equal to 1"),
        ({"user": USER, "k": 10**6}, 422, "k: Input should be less than or equal to 1000"),
        ({"user": USER, "k": "5"}, 422, "k: Input should be a valid integer"),
        ({"user": USER, "wish": "x"}, 422, "wish: there is no such field"),
        ({"user": USER, "words": "x" * 2001}, 422, "words: String should have at most 2000"),
        ({"user": USER, "mode": "magic"}, 422, "the mode 'magic' is not served here, there is: retrieve"),
        ({"user": USER, "weights": {"fresh": 1}}, 422, "give objective too"),
        ({"user": USER, "objective": {}, "weights": {"fresh": 1}}, 422, "'fresh' is no part of the"),
        ({"user": USER, "objective": {"season": "lent"}}, 404, "there is no season 'lent'"),
        ({"user": USER, "objective": {"event": "theft"}}, 404, "events have no type 'theft'"),
        ({"user": USER, "objective": {"scenario": [["planet", "Mars"]]}}, 404, "have no column 'planet'"),
        ({"user": USER, "objective": {"include_words": ["!"]}}, 422, "no word that can be looked for"),
        ({"user": USER, "objective": {"like": "none"}}, 404, "item 'none' is not in the catalogue"),
        ({"user": USER, "filters": {"categories": ["Cars"]}}, 404, "no item is of the category 'Cars'"),
        ({"user": USER, "filters": {"attributes": {"size": ["1"]}}}, 404, "items have no attribute 'size'"),
        ({"user": USER, "filters": {"max_price": -1}}, 422, "filters.max_price"),
        ({"user": USER, "filters": {"again": True, "seen": False}}, 422, "contradicts seen: false"),
        ({"user": USER, "filters": {"words": ["-"]}}, 422, "has nothing to look for"),
        ({"history": [{"item": "22423", "type": "theft"}]}, 404, "events have no type 'theft'"),
        ({"history": ["22423"] * 1001}, 422, "history"),
    ],
)  # fmt: skip
def test_questions(service: Served, body: dict[str, Any], status: int, said: str):
    assert said in service.refused(status, service.post("/v1/recommend", body))


def test_contradictions_are_named(service: Served):
    """Those that contradict each other, and no others."""
    limits = {"max_price": 1, "min_price": 5, "not_words": ["red"], "seen": True}
    said = service.refused(422, service.post("/v1/recommend", {"user": USER, "filters": limits}))
    assert (
        said
        == "no item of the catalogue is all of: price at most 1 pound; price at least 5 pounds: ask for less"
    )
    asked = {"user": USER, "words": "over 5 pounds", "filters": {"max_price": 1}}
    assert '"enforce": false' in service.refused(422, service.post("/v1/recommend", asked))


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/events", {"user": "ann", "events": [{"item": "none"}]}, 404, "item 'none'"),
        ("/v1/events", {"user": "ann", "events": []}, 422, "events"),
        ("/v1/events", {"user": "ann", "events": [{"item": "22423", "time": 1.5}]}, 422, "time"),
        ("/v1/events", {"user": "a", "events": [{"item": "22423", "scenario": {"x": "y"}}]}, 404, "no scen"),
        ("/v1/score", {"user": USER, "candidates": ["none"]}, 404, "item 'none'"),
        ("/v1/explain", {"user": USER, "k": 21}, 422, "k: Input"),
        ("/v1/items", {}, 422, "give one of add, update and retire"),
        ("/v1/items", {"add": [{"title": "x"}]}, 422, "add: row 1 has no id"),
        ("/v1/items", {"add": [{"id": "x", "colour": 1}]}, 422, "unknown field at item 1: colour"),
        ("/v1/items", {"add": [{"id": "x", "price": -1}]}, 422, "negative price (price) at item 1: -1"),
        ("/v1/items", {"add": [{"id": "22423"}]}, 422, "in the catalogue already"),
        ("/v1/items", {"update": [{"id": "none", "price": 1}]}, 422, "not in the catalogue"),
        ("/v1/chat/completions", {"messages": []}, 422, "messages"),
        (
            "/v1/chat/completions",
            {"user": USER, "messages": [{"role": "user", "content": "please " * 290 + "under 3 pounds"}]},
            422,
            "the last one of the user has 2,044 characters, 2,000 are read at most",
        ),
        ("/v1/nothing", {}, 404, "there is nothing at this address"),
    ],
)  # fmt: skip
def test_other_calls(service: Served, path: str, body: dict[str, Any], status: int, said: str):
    assert said in service.refused(status, service.post(path, body))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "ids is missing"),
        ("ids=", "ids.0: String should have at least 1 character"),
        ("ids=" + "x" * 257, "ids.0: String should have at most 256 characters"),
        ("&".join(["ids=22423"] * 101), "ids: List should have at most 100 items"),
    ],
)
def test_looking_up(service: Served, query: str, said: str):
    assert said in service.refused(422, service.http.get(f"/v1/items?{query}"))


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "applicationjson"])
def test_a_body_says_that_it_is_json(service: Served, kind: str | None):
    for content in (b'{"history": []}', iter([b'{"history": []}'])):
        headers = {} if kind is None else {"Content-Type": kind}
        response = service.http.post("/v1/recommend", content=content, headers=headers)
        assert "send Content-Type: application/json" in service.refused(415, response)
    said = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert service.http.post("/v1/recommend", content=b'{"history": []}', headers=said).status_code == 200


def test_methods(service: Served):
    """What an address takes is said; those that machines watch answer HEAD too."""
    response = service.http.get("/v1/recommend")
    assert "does not take GET, it takes POST" in service.refused(405, response)
    assert response.headers["allow"] == "POST"
    for path in ("/", "/page.js", "/healthz", "/readyz"):
        head = service.http.head(path)
        assert (head.status_code, head.content) == (200, b"")


def test_ten_megabytes(service: Served):
    """With its length and without."""
    large = b'{"user": "' + b"x" * 10_000_000 + b'"}'
    for content in (large, iter([large[at : at + 65536] for at in range(0, len(large), 65536)])):
        response = service.http.post("/v1/recommend", content=content, headers=JSON)
        assert "at most 1,048,576 bytes" in service.refused(413, response)


def test_a_key_means_one_write(service: Served):
    told = {"user": "carl", "events": [{"item": "22423"}], "key": "k"}
    assert service.post("/v1/events", told).status_code == 200
    other = {**told, "events": [{"item": "84879"}]}
    assert "came before with something else" in service.refused(409, service.post("/v1/events", other))
    service.http.delete("/v1/users/carl")


def test_a_base_model_that_is_missing(tiny_bundle: Path, tmp_path: Path):
    """One line before anything listens."""
    bundle = copied(tiny_bundle, tmp_path)
    manifest = (bundle / "manifest.json").read_text()
    base = str(tiny_bundle.parent / "base")
    assert base in manifest
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").write_text(manifest.replace(base, str(tmp_path / "gone")))
    with pytest.raises(LlmrecError, match="gone") as raised, served(bundle):
        pass
    assert "\n" not in str(raised.value)


def test_an_address_that_is_taken(service: Served):
    from llmrec.serving.run import bound

    port = int(service.url.rpartition(":")[2])
    with pytest.raises(LlmrecError, match="cannot be had"), bound(ServiceSettings(Path("x"), port=port)):
        pass


def test_a_store_that_is_gone(tiny_bundle: Path, tmp_path: Path):
    """Answers go on from memory, writes are refused, and it is used again when it is back."""
    with served(copied(tiny_bundle, tmp_path)) as running:
        running.post("/v1/events", {"user": "ann", "events": [{"item": "22423"}]})
        running.ask(user="ann")
        running.ask(user=USER)
        place = tmp_path / "bundle.store.db"
        place.rename(tmp_path / "away")
        for user in ("ann", USER):
            assert running.ask(user=user, k=2)["remembered"] is True
        assert running.ask(history=["22423"])["items"]
        tell = {"user": "ann", "events": [{"item": "84879"}], "key": "k"}
        refused = running.post("/v1/events", tell)
        assert "is gone" in running.refused(503, refused) and refused.headers["retry-after"] == "1"
        running.refused(503, running.post("/v1/recommend", {"user": OTHER}))  # of whom nothing is remembered
        running.refused(503, running.http.delete("/v1/users/ann"))
        running.refused(503, running.post("/v1/items", {"retire": ["22423"]}))
        running.refused(503, running.http.get("/readyz"))
        assert 'llmrec_fallbacks_total{kind="memory"} 2.0' in running.http.get("/metrics").text
        (tmp_path / "away").rename(place)
        until_it_works(running, tell)
        assert running.ask(user="ann")["remembered"] is False
        assert running.ask(user=OTHER)["items"]


@pytest.mark.parametrize("what", ["full", "read-only"])
def test_a_store_without_writes(
    what: str, tiny_bundle: Path, tmp_path: Path, server_of: Callable[[str], Any]
):
    """Reads go on from the store itself."""
    url = empty_place("redis", server_of, tmp_path)
    wrong = ("CONFIG", "SET", "maxmemory", 1) if what == "full" else ("REPLICAOF", "127.0.0.1", 1)
    right = ("CONFIG", "SET", "maxmemory", 0) if what == "full" else ("REPLICAOF", "NO", "ONE")
    with served(copied(tiny_bundle, tmp_path), store=url) as running, redis.Redis.from_url(url) as server:
        server.execute_command(*wrong)
        try:
            tell = {"user": "ann", "events": [{"item": "84879"}], "key": "k"}
            assert f"is {what}" in running.refused(503, running.post("/v1/events", tell))
            assert running.ask(user=OTHER, k=2)["remembered"] is False
        finally:
            server.execute_command(*right)
        until_it_works(running, tell)


def until_it_works(running: Served, tell: dict[str, Any]) -> None:
    """Write again and again, as a client would that is told to come back."""
    for _ in range(10_000):
        response = running.post("/v1/events", tell)
        if response.status_code == 200:
            return
        running.refused(503, response)
    pytest.fail("the store stayed away")


def test_a_store_of_something_else(tiny_bundle: Path, tmp_path: Path):
    bundle = copied(tiny_bundle, tmp_path)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE notes (text TEXT)")
    other.close()
    with (
        pytest.raises(LlmrecError, match="something else"),
        served(bundle, store=f"sqlite:///{tmp_path}/other.db"),
    ):
        pass
    shutil.rmtree(bundle)
    with pytest.raises(LlmrecError, match="is not a bundle"), served(bundle):
        pass
