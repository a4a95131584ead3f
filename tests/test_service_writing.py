"""The service over HTTP where the model writes what it recommends: codes of a bundle, and titles."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import OTHER, USER, Served, copied, served

from llmrec.decode.contract import Filters, Request
from llmrec.decode.filters import FilterIndex
from llmrec.recommend import Shop
from llmrec.serving.client import Client

MODES = ("codes", "text")


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def running(code_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of both modes; its bundle and items stay as they are."""
    copy = copied(code_bundle, tmp_path_factory.mktemp("writing"))
    with served(copy, modes=MODES, deadline=60) as one:
        yield one


@pytest.fixture(scope="module")
def shop(mode: str, code_bundle: Path) -> Shop:
    return Shop.open(code_bundle, mode)


def pairs(answer: Any) -> tuple[list[str], list[float]]:
    """The ids and the scores of a list that came over HTTP."""
    return [each["item"] for each in answer["items"]], [each["score"] for each in answer["items"]]


def test_it_answers_as_the_shop_does(running: Served, shop: Shop, mode: str):
    """The same lists and scores, in words and with limits, alone and many at once."""
    cases: list[dict[str, Any]] = [
        {"user": USER, "words": "bags under 3 pounds, not pink"},
        {"user": OTHER, "words": "preferably something for tea", "k": 3},
        {"history": ["22423", "84879"], "words": "a varied list", "k": 4},
        {"history": [], "words": "a red bag"},
        {"user": USER, "enforce": False, "hear": False, "words": "bags"},
        {"user": OTHER, "k": 30},
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: running.ask(mode=mode, **case), cases * 2))
    for case, answer in zip(cases * 2, found, strict=True):
        asked = {"say" if name == "words" else name: value for name, value in case.items()}
        expected = shop.ask(**asked)
        items, scores = pairs(answer)
        assert items == [each.item for each in expected.items]
        assert scores == pytest.approx([each.score for each in expected.items], abs=1e-4)
        assert tuple(answer["enforced"]) == expected.enforced and tuple(answer["left"]) == expected.left
        assert tuple(answer["favoured"]) == expected.favoured and tuple(answer["notes"]) == expected.notes
        assert (answer["bundle"], answer["mode"]) == ("bundle@1", mode)


def test_the_first_mode_answers_where_none_is_named(running: Served):
    assert running.ask(user=USER) == running.ask(user=USER, mode="codes")


@pytest.mark.parametrize(
    ("given", "filters"),
    [
        ({"max_price": 2}, Filters(max_price=2, exclude_seen=True)),
        ({"categories": ["Baking"], "seen": True}, Filters(include_categories=("Baking",))),
        ({"not_words": ["pink"], "min_price": 1.5}, Filters(1e9, 1.5, (), ("pink",), exclude_seen=True)),
        ({"attributes": {"colour": ["Red"]}}, Filters(attributes=(("colour", ("Red",)),), exclude_seen=True)),
        ({"again": True}, Filters(seen_before=True)),
    ],
)
def test_limits_are_exact(running: Served, shop: Shop, mode: str, given: dict[str, Any], filters: Filters):
    """A list as long as the catalogue has all that is allowed, and nothing else; a short one is full."""
    histories = shop.prepared.histories
    allowed = FilterIndex(shop.catalog).mask(filters, histories.history(histories.index(USER)))
    expected = {shop.catalog[item].id for item in np.flatnonzero(allowed).tolist()}
    for k in (5, 1000):
        items, scores = pairs(running.ask(user=USER, filters=given, k=k, mode=mode))
        assert len(items) == len(set(items)) == min(k, len(expected)) and set(items) <= expected
        assert scores == sorted(scores, reverse=True)


def test_scores(running: Served, shop: Shop, mode: str):
    """Those that the whole catalogue has; none where the limits forbid an item, or all of them."""
    names = ["84879", "22423", "20724"]
    body = {"user": USER, "candidates": names, "filters": {"max_price": 3}, "mode": mode}
    found = running.post("/v1/score", body).json()
    assert [each["item"] for each in found["items"]] == names and found["mode"] == mode
    histories = shop.prepared.histories
    at = histories.index(USER)
    known = shop.recommender.scores([Request(histories.history(at), user=at)])[0]
    for name, each in zip(names, found["items"], strict=True):
        expected = None if name == "22423" else float(known[shop.catalog.index(name)])  # 12.75 pounds
        assert each["score"] == (None if expected is None else pytest.approx(expected, abs=1e-4))
    none = running.post("/v1/score", {**body, "candidates": ["22423"]}).json()
    assert [each["score"] for each in none["items"]] == [None]


def test_reasons_are_streamed(running: Served, shop: Shop, mode: str):
    with Client(running.url) as client:
        first, *lines = list(client.explain(user=USER, words="bags", k=3, mode=mode))
    expected = shop.ask(user=USER, say="bags", k=3, why=True).items
    assert [line["item"] for line in lines] == pairs(first)[0] == [each.item for each in expected]
    for line, item in zip(lines, expected, strict=True):
        assert [each["title"] for each in line["because"]] == [each.title for each in item.because]
        assert [each["weight"] for each in line["because"]] == pytest.approx(
            [each.weight for each in item.because], abs=1e-4
        )
        assert line["said"].endswith("for it.")
    weighed = running.ask(user=USER, words="bags", k=3, why=True, mode=mode)["items"]
    assert [each["because"] for each in weighed] == [each["because"] for each in lines]
    assert any(each.because for each in expected) == (mode == "codes")  # of titles it is not measured


def test_a_history_grows(running: Served, shop: Shop, mode: str):
    """The next answer knows what was just told, as the shop does of the same history."""
    with Client(running.url) as client:
        for told in (["22423"], ["84879", "20724"]):
            client.append(mode, told)
            past = [each["item"] for each in client.user(mode)["events"]]
            items, scores = pairs(client.recommend(user=mode, k=5, mode=mode))
            expected = shop.ask(history=past, k=5).items
            assert items == [each.item for each in expected] and not set(past) & set(items)
            assert scores == pytest.approx([each.score for each in expected], abs=1e-4)
        assert len(past) == 3 and client.delete_user(mode)["deleted"]


def test_retired_items_do_not_come_and_new_ones_do(code_bundle: Path, tmp_path: Path):
    row = {"id": "zebra", "title": "Zebra Lunch Bag", "price": 1.65, "categories": ["Bags & shoppers"]}
    with served(copied(code_bundle, tmp_path), modes=MODES, deadline=60) as own, Client(own.url) as client:
        assert client.change_items(add=[row])["items"] == 62
        assert client.change_items(retire=["22423"])["version"] == 3
        for mode in MODES:
            items, _ = pairs(own.ask(history=[], k=1000, mode=mode))
            assert len(items) == 61 and "zebra" in items and "22423" not in items
            scored = own.post("/v1/score", {"history": [], "candidates": ["22423", "zebra"], "mode": mode})
            assert [each["score"] is None for each in scored.json()["items"]] == [True, False]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"user": "nobody"}, 404, "user 'nobody' is not known"),
        ({"history": ["none"]}, 404, "item 'none' is not in the catalogue"),
        ({"user": USER, "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ({"user": USER, "filters": {"categories": ["Cars"]}}, 404, "no item is of the category 'Cars'"),
        ({"user": USER, "filters": {"max_price": 1, "min_price": 5}}, 422, "no item of the catalogue"),
        ({"user": USER, "mode": "retrieve"}, 422, "'retrieve' is not served here, there is: codes, text"),
    ],
)
def test_mistakes_are_one_line(running: Served, mode: str, body: dict[str, Any], status: int, said: str):
    response = running.post("/v1/recommend", {"mode": mode, **body})
    assert said in running.refused(status, response)
