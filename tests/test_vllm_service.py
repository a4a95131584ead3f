"""The service on vLLM: the lists of transformers, and nothing else while items and bundles change under load.

vLLM changes the process it runs in, so these tests run when they are named: pytest tests/test_vllm_service.py
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sample_slice import save_roomy_checkpoint
from served import OTHER, USER, copied, served
from tiny_bundles import code_recipe, louder, tiny_recipe

from llmrec.codes.fitting import fit_codes
from llmrec.engines.vllm.running import _open
from llmrec.fit import fit
from llmrec.recommend import Shop
from llmrec.serving.client import Client
from llmrec.serving.live import KEPT
from llmrec.versions import link_tree

# Threads that silence warnings for a while take each other's silence away; here warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore")
TRAIN = {"epochs": 1, "batch": 8, "learning_rate": 0.01, "precision": "no"}
PROMPT = {"queries": 2, "max_events": 16, "gaps": False}
ASKED = (
    {"user": USER, "words": "bags under 3 pounds, not pink"},
    {"user": OTHER, "words": "preferably something for tea"},
    {"user": USER},
    {"history": [], "words": "a red bag"},
)
"""What is asked again and again; in all versions of the tests these have answers."""
Lists = Mapping[tuple[str, int], list[dict[str, float]]]
"""By the bundle that answered and the number of the question: the lists, items in their order with scores."""


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_roomy_checkpoint(tmp_path_factory.mktemp("base") / "llama", head_dim=32)


@pytest.fixture(scope="module")
def bundle(slice_of_sample, base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    return louder(
        fit(tiny_recipe(slice_of_sample.directory, out, base, train=TRAIN, prompt=PROMPT)).directory
    )


@pytest.fixture(scope="module")
def other(slice_of_sample, tmp_path_factory) -> Path:
    """A bundle of the same items whose model is another."""
    folder = tmp_path_factory.mktemp("other")
    base = save_roomy_checkpoint(folder / "llama", head_dim=32, seed=1)
    recipe = tiny_recipe(slice_of_sample.directory, folder / "other", base, train=TRAIN, prompt=PROMPT)
    return louder(fit(recipe).directory)


@pytest.fixture(scope="module")
def codes(slice_of_sample, base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("codes") / "bundle"
    return fit_codes(code_recipe(slice_of_sample.directory, out, base, train=TRAIN)).directory


@contextlib.contextmanager
def asked_without_pause(url: str, clients: int = 3) -> Iterator[Lists]:
    """Clients that ask while the block runs; each answer is noted, and one that fails fails the test."""
    found: defaultdict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    failures: list[Exception] = []
    done = threading.Event()

    def work(first: int) -> None:
        number = first
        with Client(url) as client:
            while not done.is_set():
                number = (number + 1) % len(ASKED)
                try:
                    answer = client.recommend(**ASKED[number], k=5)
                except Exception as error:
                    failures.append(error)
                else:
                    found[answer["bundle"], number].append(listed(answer))

    threads = [threading.Thread(target=work, args=[first]) for first in range(clients)]
    for each in threads:
        each.start()
    try:
        yield found
    finally:
        done.set()
        for each in threads:
            each.join(60)
    assert failures == [] and not any(each.is_alive() for each in threads)


def asked_once(found: Lists, client: Client) -> str:
    """The bundle that answers now; its answer is noted too."""
    answer = client.recommend(**ASKED[2], k=5)
    found[answer["bundle"], 2].append(listed(answer))
    return str(answer["bundle"])


def listed(answer: Any) -> dict[str, float]:
    return {each["item"]: each["score"] for each in answer["items"]}


def expected(shop: Shop, number: int) -> dict[str, float]:
    case = dict(ASKED[number])
    return {each.item: each.score for each in shop.ask(say=case.pop("words", ""), **case, k=5).items}


def check(found: Lists, name: str, shop: Shop) -> None:
    """What the bundle `name` answered is what transformers answers with it."""
    for (own, number), lists in found.items():
        if own == name:
            right = expected(shop, number)
            for each in lists:
                assert list(each) == list(right) and each == pytest.approx(right, abs=1e-3), (name, number)


def engines() -> int:
    """How many models there are in vLLM."""
    return len({id(each._engine) for each in _open})


@pytest.mark.parametrize("made", ["bundle", "codes"])
def test_it_answers_as_transformers_does(made: str, request, tmp_path: Path) -> None:
    directory = request.getfixturevalue(made)
    with (
        served(copied(directory, tmp_path), deadline=60) as running,
        asked_without_pause(running.url) as found,
    ):
        alone = {
            ("bundle@1", number): [listed(running.ask(**case, k=5))] for number, case in enumerate(ASKED)
        }
    shop = Shop.open(directory)
    check(found, "bundle@1", shop)
    check(alone, "bundle@1", shop)


def test_items_and_bundles_change_while_it_answers(bundle: Path, other: Path, tmp_path: Path) -> None:
    """No request fails, and each list is that of transformers with the version that gave it."""
    link_tree(other, tmp_path / "other")
    row = {"title": "Zebra Lunch Bag", "price": 1.65, "categories": ["Bags & shoppers"]}
    with (
        served(copied(bundle, tmp_path)) as running,
        asked_without_pause(running.url) as found,
        Client(running.url) as client,
    ):
        for number in range(2):
            added = client.change_items(add=[{"id": f"zebra{number}", **row}])
            assert client.change_items(retire=[f"zebra{number}"])["version"] == added["version"] + 1
            before = added["version"] + 1
            loaded = running.post("/v1/bundles", {"name": "other", "switch": True}).json()
            assert loaded["id"] == "other@1"
            assert asked_once(found, client) == "other@1"
            assert running.post("/v1/bundles/rollback", None).json()["version"] == before
            first = running.post("/v1/bundles", {"version": 1}).json()["id"]
            running.post("/v1/bundles/switch", {"id": first}).raise_for_status()
            assert asked_once(found, client) == "bundle@1"
            assert running.post("/v1/bundles/rollback", None).json()["version"] == before
            if number == 0:
                assert engines() == 2  # all versions of the bundle run on one
        assert len(_open) == len(running.http.get("/v1/bundles").json()["loaded"]) == KEPT
        assert engines() <= 2
    answered = {name for name, _ in found}
    assert {"bundle@1", "bundle@5", "other@1"} <= answered
    assert list(found["other@1", 2][0]) != list(found["bundle@1", 2][0])  # the model counts
    for name in answered:
        root, _, version = name.partition("@")
        older = tmp_path / f"{root}.versions" / version
        check(found, name, Shop.open(older if older.exists() else tmp_path / root))
