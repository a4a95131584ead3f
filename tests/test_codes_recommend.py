"""Asking a bundle whose model writes codes: contract, limits, causes, lists of several wishes, reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from contract import RecommenderContract

from llmrec.codes.recommender import CodeRecommender
from llmrec.data.events import Event
from llmrec.decode.contract import Filters, Request
from llmrec.decode.filters import FilterIndex
from llmrec.decode.why import MOST_ITEMS
from llmrec.errors import LlmrecError
from llmrec.evaluate.report import read_report
from llmrec.model.code_tokens import CodePrompts
from llmrec.recommend import Shop

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def shop(code_bundle: Path) -> Shop:
    return Shop.open(code_bundle)


@pytest.fixture(scope="module")
def user(shop: Shop) -> str:
    return shop.prepared.histories.users[0]


class TestContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, shop: Shop) -> CodeRecommender:
        return shop.recommender

    @pytest.fixture
    def requests_of_users(self, shop: Shop) -> list[Request]:
        histories = shop.prepared.histories
        return [
            Request(histories.history(at)[: 2 + 3 * at], words, user=at)
            for at, words in enumerate(["", "a bag for Christmas", "", "something under 2 pounds"])
        ]


def test_prompts_leave_room_for_the_codes(code_bundle: Path) -> None:
    """Beyond their context some models fail, and vLLM refuses to go on."""
    model = Shop.open(code_bundle).recommender
    request = Request(model.bundle.prepared.histories.history(0))
    whole = model.read([request])[0].tokens
    levels = model.bundle.ids().codes.shape[1]
    model._tokens.tokenizer.model_max_length = len(whole) + levels - 1
    assert len(model.read([request])[0].tokens) < len(whole)
    model._tokens.tokenizer.model_max_length = len(whole) + levels
    assert model.read([request])[0].tokens == whole


def test_the_mode_is_the_bundles_own_and_another_one_is_refused(
    shop: Shop, code_bundle: Path, tiny_bundle: Path, user: str
) -> None:
    assert isinstance(shop.recommender, CodeRecommender)
    assert Shop.open(code_bundle, "codes").ask(user=user) == shop.ask(user=user)
    for place, mode in ((code_bundle, "retrieve"), (tiny_bundle, "codes")):
        with pytest.raises(LlmrecError, match=f"cannot answer in the mode {mode}: leave --mode out") as error:
            Shop.open(place, mode)
        assert "\n" not in str(error.value)
    with pytest.raises(LlmrecError, match="must be one of: retrieve, codes, text"):
        Shop.open(code_bundle, "telepathy")


def test_its_base_model_writes_titles_too(code_bundle: Path) -> None:
    answers = Shop.open(code_bundle, "text").ask(history=["22423"], k=3)
    assert len(answers.items) == 3


def test_what_a_wish_enforces_is_exact_and_the_rest_is_heard(shop: Shop, user: str) -> None:
    answers = shop.ask(user=user, say="a bag under 3 pounds, not red", k=4)
    assert answers.enforced and len(answers.items) == 4
    for answer in answers.items:
        assert answer.price <= 3 and "bag" in answer.title.lower() and "red" not in answer.title.lower()
    heard, unheard = (
        shop.ask(user=user, say="something for Christmas", enforce=False, hear=hear) for hear in (True, False)
    )
    assert heard.items != unheard.items and unheard.items == shop.ask(user=user).items


def test_limits_hold_and_lists_are_full(shop: Shop, user: str) -> None:
    history = shop.prepared.histories.history(0)
    for filters in (
        Filters(max_price=2.0, exclude_seen=True),
        Filters(include_categories=("Baking",)),
        Filters(seen_before=True),
        Filters(allowed_items=(1, 2, 3)),
    ):
        allowed = FilterIndex(shop.catalog).mask(filters, history)
        found = [shop.catalog.index(each.item) for each in shop.ask(user=user, filters=filters, k=8).items]
        assert len(found) == len(set(found)) == min(8, allowed.sum()) and allowed[found].all()


def test_weights_are_what_asking_again_gives(shop: Shop) -> None:
    position, say = 1, "a bag for Christmas"
    events = shop.prepared.histories.history(position)

    def log_probability(history: tuple[Event, ...], words: str, item: str) -> float:
        scores = shop.recommender.scores([Request(history, words, user=position)])[0]
        return float(scores[shop.catalog.index(item)])

    answers = shop.ask(user=shop.prepared.histories.users[position], say=say, k=3, why=True)
    newest = list(dict.fromkeys(event.item for event in reversed(events)))[:MOST_ITEMS]
    assert any(answer.because for answer in answers.items)
    for answer in answers.items:
        whole = log_probability(events, say, answer.item)
        assert whole == pytest.approx(answer.score, abs=1e-4)
        falls = [
            whole - log_probability(tuple(e for e in events if e.item != item), say, answer.item)
            for item in newest
        ]
        falls.append(whole - log_probability(events, "", answer.item))
        strongest = sorted((fall for fall in falls if fall > 0), reverse=True)[:2]
        assert [cause.weight for cause in answer.because] == pytest.approx(strongest, abs=1e-4)


def test_causes_are_of_whole_prompts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled to blocks, a prompt without one event could lose thirty more tokens, and the event be blamed."""
    model = shop.recommender
    request = Request(shop.prepared.histories.history(1), "a bag for Christmas", user=1)
    items, allowed = np.arange(3), np.ones(len(shop.catalog), dtype=bool)
    read = model.read([request])[0]
    expected = model.because(request, read, items, allowed)
    monkeypatch.setattr(CodePrompts, "whole_blocks", lambda tokens, prompt: (tokens.prompt(prompt)[:1], 0))
    assert model.because(request, read, items, allowed) == expected
    assert any(expected)


@pytest.mark.parametrize("how", ["weights", "quotas", "round-robin", "mmr", "dpp"])
def test_wishes_are_merged(shop: Shop, user: str, how: str) -> None:
    wishes = ["a bag", "something under 2 pounds"]
    answers = shop.ask_merged(user=user, wishes=wishes, how=how, k=6, why=True)
    assert len(answers.items) == 6 == len({answer.item for answer in answers.items})
    for answer in answers.items:
        right = "bag" in answer.title.lower() if answer.wish == wishes[0] else answer.price <= 2
        assert right


def test_first_codes_say_what_is_alike(shop: Shop) -> None:
    ids = shop.bundle.ids()
    vectors = shop.recommender.item_vectors(np.arange(len(shop.catalog)))
    alike = vectors @ vectors.T
    first = ids.codes[:, 0][:, None] == ids.codes[:, 0]
    other = ~np.eye(len(vectors), dtype=bool)
    assert alike[first & other].min() > alike[~first].max()


def test_a_report_has_wishes_and_goals(run: Run, code_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    options = ("--baselines", "popularity", "--wish-questions", "2", "--goals", "--quiet")
    code, _, err = run("evaluate", code_bundle, "--out", out, *options)
    assert code == 0, err
    rows = read_report(out / "report.json")["rows"]
    kinds = {row["objective"].partition(":")[0] for row in rows if row["model"] == "llmrec-codes"}
    assert kinds == {"next-item", "wish", "goal"}
    (setting,) = {row["setting"] for row in rows if row["model"] == "llmrec-codes" and "setting" in row}
    assert setting == "base, all layers, lora rank 2, codes, 20 beams"


def test_the_commands_ask_and_show_prompts(run: Run, code_bundle: Path, shop: Shop, user: str) -> None:
    code, out, err = run("recommend", code_bundle, "--user", user, "--say", "a bag", "-k", "2", "--json")
    assert code == 0 and '"enforced"' in out, err
    code, out, err = run("recommend", code_bundle, "--user", user, "--mode", "retrieve")
    assert (code, out) == (2, "") and "made with readout: codes" in err and len(err.splitlines()) == 1
    code, out, err = run("prompt", code_bundle, "--user", user, "--say", "a bag")
    assert code == 0 and "a bag" in out, err
    request = Request(shop.prepared.histories.history(0), "a bag", user=0)
    assert f"tokens: {len(shop.recommender.read([request])[0].tokens)}\n" in out
