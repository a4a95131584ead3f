"""The service over HTTP: lists, scores, reasons, live histories, what changes, OpenAI's shape."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from served import OTHER, USER, Served, copied, served

from llmrec.data.events import Event
from llmrec.engines.counts import PromptTokens
from llmrec.recommend import Shop
from llmrec.serving.client import Client, ServiceError
from llmrec.serving.metrics import Metrics
from llmrec.serving.people import merged
from llmrec.serving.problems import Refused
from llmrec.versions import link_tree


@pytest.fixture(scope="module")
def shop(tiny_bundle: Path) -> Shop:
    return Shop.open(tiny_bundle)


def test_it_answers_as_the_shop_does(service: Served, shop: Shop):
    """The same lists and scores, in words and with limits, alone and many at once."""
    cases = [
        {"user": USER, "words": "bags under 3 pounds, not pink"},
        {"user": OTHER, "words": "preferably something for tea", "k": 3},
        {"history": ["22423", "84879"], "words": "a varied list", "k": 4},
        {"history": [], "words": "a red bag"},
        {"user": USER, "enforce": False, "hear": False, "words": "bags"},
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: service.ask(**case), cases * 4))
    for case, answer in zip(cases * 4, found, strict=True):
        names = {"user", "history", "enforce", "hear", "k"}
        expected = shop.ask(say=case["words"], **{name: case[name] for name in names & case.keys()})
        assert [each["item"] for each in answer["items"]] == [each.item for each in expected.items]
        assert [each["score"] for each in answer["items"]] == pytest.approx(
            [each.score for each in expected.items], abs=1e-3
        )
        assert tuple(answer["enforced"]) == expected.enforced and tuple(answer["left"]) == expected.left
    assert {answer["bundle"] for answer in found} == {"bundle@1"}
    metrics = service.http.get("/metrics").text
    assert (
        "llmrec_invalid_items_total 0.0" in metrics and 'llmrec_stage_seconds_count{stage="model"}' in metrics
    )


def test_goals_and_limits(service: Served, shop: Shop):
    goals = {"include_words": ["bags"], "max_price": 2, "long_tail": True, "diverse": True}
    answer = service.ask(user=USER, objective=goals, weights={"long_tail": 0.5}, k=4)
    assert answer["favoured"] == ["not among the most popular"]
    assert {'with the word "bag"', "price at most 2 pounds"} <= set(answer["enforced"])
    assert all("Bag" in each["title"] and each["price"] <= 2 for each in answer["items"])
    limits = {
        "categories": ["Baking"],
        "not_words": ["pink"],
        "only": ["22423", "21212", "22720"],
        "seen": True,
    }
    assert {each["item"] for each in service.ask(user=USER, filters=limits)["items"]} <= set(limits["only"])
    assert len(service.ask(user=USER, filters={"seen": True}, k=1000)["items"]) == len(shop.catalog)
    assert service.ask(user=USER, k=1000)["notes"][0].startswith("only ")


def test_scores(service: Served):
    names = ["84879", "22423", "20724"]
    found = service.post("/v1/score", {"user": USER, "candidates": names, "filters": {"max_price": 3}}).json()
    assert [each["item"] for each in found["items"]] == names
    listed = service.ask(user=USER, k=1000, filters={"seen": True, "only": names})
    known = {each["item"]: each["score"] for each in listed["items"]}
    assert found["items"][1]["score"] is None  # 12.75 pounds
    assert found["items"][2]["score"] == pytest.approx(known["20724"], abs=1e-3)


def test_items_are_looked_up(service: Served, shop: Shop):
    """As people read them, each once, in the order asked; what is not known is said."""
    found = service.http.get("/v1/items", params={"ids": ["84879", "none", "22423", "84879", "none"]}).json()
    known = [shop.catalog[shop.catalog.index(name)] for name in ("84879", "22423")]
    assert found["items"] == [
        {
            "item": each.id,
            "title": each.title,
            "price": each.price,
            "categories": list(each.categories),
            "retired": False,
        }
        for each in known
    ]
    assert (found["unknown"], found["bundle"]) == (["none"], "bundle@1")


def test_reasons_are_streamed(service: Served):
    with Client(service.url) as client:
        first, *lines = list(client.explain(user=USER, words="bags", k=3))
    assert [line["item"] for line in lines] == [each["item"] for each in first["items"]]
    assert all(line["said"].endswith("for it.") for line in lines)
    weighed = service.ask(user=USER, words="bags", k=3, why=True)["items"]
    for line, item in zip(lines, weighed, strict=True):
        assert [each["title"] for each in line["because"]] == [each["title"] for each in item["because"]]


def test_a_history_grows_and_goes(service: Served):
    """The next answer knows what was just told; a deleted user is as good as never there."""
    with Client(service.url) as client:
        before = [each["item"] for each in client.recommend(user=OTHER, k=5)["items"]]
        told = client.append(OTHER, [before[0], {"item": before[1], "time": 1_400_000_000}], key="one")
        assert client.append(OTHER, [before[0], {"item": before[1], "time": 1_400_000_000}], "one")[
            "repeated"
        ]
        assert (told["count"], told["repeated"]) == (2, False)
        after = [each["item"] for each in client.recommend(user=OTHER, k=5)["items"]]
        assert not {before[0], before[1]} & set(after)
        seen = client.user(OTHER, 2)
        assert [each["item"] for each in seen["events"]] == [before[1], before[0]]
        assert seen["events"][0]["time"] == "2014-05-13T16:53:20Z" and seen["in_store"] == 2
        client.append("new/one", ["22423"])
        client.put_profile("new/one", {"country": "Malta"})
        assert client.user("new/one")["profile"] == {"country": "Malta"}
        assert len(client.recommend(user="new/one")["items"]) == 10
        assert client.delete_user("new/one")["deleted"] and client.delete_user(OTHER)["deleted"]
        for user in ("new/one", OTHER):
            with pytest.raises(ServiceError, match="is not known") as raised:
                client.recommend(user=user)
            assert raised.value.status == 404


def test_histories_are_merged_by_time():
    known = (Event(0, 10), Event(1, 20))
    assert merged(known, ()) == known
    later = (Event(2, 15), Event(3, None), Event(4, 20), Event(5, 30))
    assert [event.item for event in merged(known, later)] == [0, 2, 1, 3, 4, 5]
    assert [event.item for event in merged((Event(0), Event(1)), (Event(2), Event(3, 5)))] == [0, 1, 2, 3]


def test_items_change_while_it_answers(tiny_bundle: Path, tmp_path: Path):
    """No request fails while versions change; a new item can come up, a retired one cannot; restarts know."""
    bundle, failures, done = copied(tiny_bundle, tmp_path), [], threading.Event()
    with served(bundle) as running:

        def keep_asking() -> None:
            with Client(running.url) as client:
                while not done.is_set():
                    try:
                        client.recommend(user=USER, k=3)
                    except Exception as error:
                        failures.append(error)

        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for each in threads:
            each.start()
        with Client(running.url) as client:
            row = {
                "id": "zebra",
                "title": "Zebra Lunch Bag",
                "price": 1.65,
                "categories": ["Bags & shoppers"],
            }
            assert client.change_items(add=[row])["items"] == 62
            found = client.recommend(user=USER, words="zebra", k=3)
            assert [each["item"] for each in found["items"]] == ["zebra"] and found["bundle"] == "bundle@2"
            client.append(USER, ["zebra"])
            assert client.change_items(update=[{"id": "zebra", "price": 9}])["version"] == 3
            assert client.change_items(retire=["zebra", "22423"])["log"] == 4
            with pytest.raises(ServiceError, match="nothing was changed: retired already"):
                client.change_items(retire=["22423"])
            (gone,) = running.http.get("/v1/items", params={"ids": "22423"}).json()["items"]
            assert gone["retired"] and gone["title"] == "Regency Cakestand 3 Tier"
            assert "22423" not in [i["item"] for i in client.recommend(history=[], k=1000)["items"]]
            first = running.post("/v1/bundles", {"version": 1}).json()["id"]
            assert running.post("/v1/bundles/switch", {"id": first}).json()["version"] == 1
            assert client.recommend(user=USER)["bundle"] == "bundle@1"
            with pytest.raises(ServiceError, match="items change in the newest version") as raised:
                client.change_items(retire=["84879"])
            assert raised.value.status == 409
            assert running.post("/v1/bundles/rollback", None).json()["version"] == 4
            running.refused(404, running.post("/v1/bundles", {"version": 9}))
            running.refused(404, running.post("/v1/bundles", {"name": "other"}))
            running.refused(422, running.post("/v1/bundles", {"name": "../bundle"}))
            running.refused(404, running.post("/v1/bundles/switch", {"id": "bundle@9"}))
        done.set()
        for each in threads:
            each.join()
    assert failures == []
    with served(bundle) as again:
        assert again.http.get("/v1/bundles").json()["answers"]["log"] == 4


def test_another_bundle_is_loaded_by_its_name(tiny_bundle: Path, tmp_path: Path, run: Callable[..., Any]):
    """Beside the one that answers, which goes on until it is told to switch, and again after a rollback."""
    bundle, other, ids = copied(tiny_bundle, tmp_path), tmp_path / "other", tmp_path / "ids"
    link_tree(tiny_bundle, other)
    ids.write_text("22423\n")
    assert run("items", "retire", other, ids)[0] == 0  # so that one can tell which of them answers
    with served(bundle) as running:

        def answered() -> tuple[str, int]:
            listed = running.ask(history=[], k=1000)
            return listed["bundle"], len(listed["items"])

        assert answered() == ("bundle@1", 61)
        loaded = running.post("/v1/bundles", {"name": "other"}).json()
        assert (loaded["id"], loaded["version"], loaded["modes"]) == ("other@2", 2, ["retrieve"])
        known = running.http.get("/v1/bundles").json()
        assert known["answers"]["id"] == "bundle@1"
        assert [each["id"] for each in known["loaded"]] == ["bundle@1", "other@2"]
        assert answered() == ("bundle@1", 61)
        assert running.post("/v1/bundles/switch", {"id": "other@2"}).json() == {**loaded, "kept": True}
        assert answered() == ("other@2", 60)
        assert running.post("/v1/bundles/rollback", None).json()["id"] == "bundle@1"
        assert answered() == ("bundle@1", 61)
        older = running.post("/v1/bundles", {"name": "other", "version": 1, "switch": True}).json()
        assert older["id"] == "other@1" and answered() == ("other@1", 61)
        assert "llmrec_bundle_version 1.0" in running.http.get("/metrics").text


def test_a_store_is_replayed(tiny_bundle: Path, tmp_path: Path):
    """A bundle that knows nothing of a store's log catches up; what cannot be made any more is left out."""
    for name in ("one", "two"):
        copied(tiny_bundle, tmp_path / name)
    url = f"sqlite:///{tmp_path}/store.db"
    with served(tmp_path / "one" / "bundle", store=url) as running:
        running.post("/v1/items", {"add": [{"id": "a", "title": "A bag"}, {"id": "b", "title": "B bag"}]})
        running.post("/v1/items", {"retire": ["a"]})
    with served(tmp_path / "two" / "bundle", store=url) as running:
        assert running.http.get("/v1/bundles").json()["answers"]["items"] == 63
        listed = running.ask(history=[], words="bag", k=1000)["items"]
        assert "b" in [each["item"] for each in listed] and "a" not in [each["item"] for each in listed]


def test_too_many_wait_and_too_long(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who cannot be answered in time is told so, and when to come back; nobody hangs."""
    go, entered = threading.Event(), threading.Event()
    with served(copied(tiny_bundle, tmp_path), waiting=2, together=1, deadline=0.3) as running:
        readout = next(iter(running.own.bundles.current.shops.values())).recommender
        read = readout.read_apart

        def held(requests):
            entered.set()
            go.wait(30)
            return read(requests)

        monkeypatch.setattr(readout, "read_apart", held)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(running.post, "/v1/recommend", {"history": []}) for _ in range(6)]
            assert entered.wait(30)
            responses = [each.result() for each in asked]
            go.set()
        said = [running.refused(503, each) for each in responses]
        assert all(each.headers["retry-after"] == "1" for each in responses)
        assert any("too busy: 2 requests wait" in each for each in said)
        assert any("took longer than 0.3 s" in each for each in said)
        until = time.monotonic() + 30
        while running.post("/v1/recommend", {"history": []}).status_code != 200:
            assert time.monotonic() < until


def test_prompts_are_counted_where_an_engine_knows(service: Served):
    """Transformers has no cache, so nothing is said of one; tests/test_vllm_bundles.py asks vLLM."""
    service.ask(user=USER)
    assert "llmrec_prompt_tokens" not in service.http.get("/metrics").text
    counted = PromptTokens()
    metrics = Metrics(counted)
    assert b"llmrec_prompt_tokens" not in metrics.page()
    counted.add(70, 0)
    counted.add(6, 64)
    page = metrics.page().decode()
    assert 'llmrec_prompt_tokens_total{read="computed"} 76.0' in page
    assert 'llmrec_prompt_tokens_total{read="cached"} 64.0' in page


def test_what_stops_does_not_take_more(service: Served):
    from llmrec.serving.batching import Batcher

    closed = Batcher(lambda jobs: None, 1, 1, service.own.metrics)
    closed.close()
    with pytest.raises(Refused, match="is stopping"):
        closed.put("x", time.monotonic() + 1)


def test_the_api_describes_itself(service: Served):
    described = service.http.get("/openapi.json").json()
    assert {"/v1/recommend", "/v1/score", "/v1/events", "/v1/items", "/v1/explain", "/v1/bundles"} <= set(
        described["paths"]
    )
    for name in ("Ask", "Score", "Explain", "Events", "Items", "BundleChoice", "Chat", "ItemsOut"):
        assert described["components"]["schemas"][name]["examples"]
    (ids,) = described["paths"]["/v1/items"]["get"]["parameters"]
    assert (ids["schema"]["maxItems"], ids["schema"]["examples"]) == (100, [["22423", "none"]])
    assert service.http.get("/readyz").json()["status"] == "ok"
