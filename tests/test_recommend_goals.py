"""Several wishes of one person: the list of each alone from one reading of the history, and one of all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundles import tiny_recipe
from tiny_models import save_checkpoint, tiny_prepared

from llmrec.data.events import Event
from llmrec.decode.contract import Request
from llmrec.decode.filters import FilterIndex, from_objective, merge
from llmrec.errors import LlmrecError
from llmrec.fit import fit
from llmrec.language_recommender import LanguageRecommender
from llmrec.recommend import NOTHING_SEEN, VARIED, Answers, Shop
from llmrec.retrieve.diversity import likeness_within
from llmrec.retrieve.merge import MERGES
from llmrec.verbalize.parse import parse

WISHES = ("", "bags under 3 pounds", "for Christmas", "not pink", "something new", "red", "")


@pytest.fixture(scope="module")
def shop(tiny_bundle: Path) -> Shop:
    return Shop.open(tiny_bundle)


@pytest.fixture(scope="module")
def user(shop: Shop) -> str:
    return shop.bundle.prepared.histories.users[0]


class Recorder:
    """An engine that notes what it is asked, and asks another."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.asked: list[tuple[int, int]] = []

    def hidden_states(self, prompts, at):
        return self.engine.hidden_states(prompts, at)

    def branch_states(self, branchings, at):
        self.asked += [(len(each.head), len(each.tails)) for each in branchings]
        return self.engine.branch_states(branchings, at)


# --- vectors ----------------------------------------------------------------------------------------------


def test_wishes_of_several_users_share_each_users_head(shop: Shop):
    """Batch equals single, in any order of users and wishes, and each history is read once."""
    histories = shop.bundle.prepared.histories
    requests = [
        Request(histories.history(user)[:size], wish, user=user)
        for wish in WISHES[:4]
        for user, size in ((0, 9), (1, 3), (2, 1), (3, 0))
    ]
    engine = Recorder(shop.recommender.engine)
    together = LanguageRecommender(shop.bundle, engine).user_vectors(requests)
    assert [tails for _, tails in engine.asked] == [4, 4, 4, 4]
    for request, vectors in zip(requests, together, strict=True):
        np.testing.assert_allclose(shop.recommender.user_vectors([request])[0], vectors, atol=1e-4, rtol=1e-4)
    assert shop.recommender.user_vectors([]).shape[0] == len(shop.recommender.read([])) == 0


def test_many_wishes_of_one_user_are_the_single_ones(shop: Shop):
    history = shop.bundle.prepared.histories.history(0)
    requests = [Request(history, wish, user=0) for wish in WISHES]
    many = shop.recommender.read(requests)
    alone = np.concatenate([shop.recommender.user_vectors([request]) for request in requests])
    np.testing.assert_allclose(np.stack([each.vectors for each in many]), alone, atol=1e-4, rtol=1e-4)
    scores = np.stack([shop.recommender.scores_of(each) for each in many])
    np.testing.assert_allclose(scores, shop.recommender.scores(requests), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="not of one user"):
        shop.recommender.read([requests[0], replace(requests[1], user=None)])


def test_items_of_one_title_do_not_share_what_the_newest_items_add(tmp_path: Path):
    """Histories whose words are the same are one head, yet not one user vector."""
    data = tiny_prepared(tmp_path / "data", users=8)
    model = save_checkpoint("llama", tmp_path / "base")
    prompt = {"queries": 2, "items": "title"}
    bundle = fit(tiny_recipe(data.directory, tmp_path / "bundle", model, prompt=prompt))
    recommender = LanguageRecommender(bundle)
    titles = recommender._verbalizer
    titles.catalog = type(bundle.catalog)([replace(item, title="Mug") for item in bundle.catalog.items])
    both = [Request((Event(1),)), Request((Event(20),))]
    assert recommender.prompt(both[0]) == recommender.prompt(both[1])
    one, other = recommender.user_vectors(both)
    assert not np.allclose(one, other, atol=1e-3)


def test_a_small_context_keeps_one_history_for_all_wishes(tmp_path: Path):
    """GPT-2 of 256 positions: the longest wish decides how many events all are asked with."""
    data = tiny_prepared(tmp_path / "data", users=8)
    model = save_checkpoint("gpt2", tmp_path / "base")
    prompt = {"queries": 2, "items": "title", "max_events": 60}
    bundle = fit(tiny_recipe(data.directory, tmp_path / "bundle", model, prompt=prompt))
    engine = Recorder(bundle.engine())
    recommender = LanguageRecommender(bundle, engine)
    history = tuple(Event(at % 24, 86_400 * 20 * at) for at in range(200))
    wishes = ("", "red mug", "something under 5 for Christmas, blue or red, for tea, in a bag")
    requests = [Request(history, wish) for wish in wishes]
    kept = [len(recommender._fitted(request)[1]) for request in requests]
    assert kept[0] > kept[2] > 1
    many = np.stack([each.vectors for each in recommender.read(requests)])
    assert len(engine.asked) == 1 and engine.asked[0][1] == 3
    cut = [replace(request, history=history[-kept[2] :]) for request in requests]
    np.testing.assert_allclose(many, recommender.user_vectors(cut), atol=1e-4, rtol=1e-4)
    with pytest.raises(LlmrecError, match="shorten the wish"):
        recommender.read([*requests, Request(history, "👜" * 240)])


# --- lists ------------------------------------------------------------------------------------------------


def test_each_list_is_that_of_the_wish_alone(shop: Shop, user: str):
    engine = Recorder(shop.recommender.engine)
    shop.recommender.engine = engine
    try:
        together = shop.ask_many(user=user, wishes=WISHES, k=7)
    finally:
        shop.recommender.engine = engine.engine
    assert [tails for _, tails in engine.asked] == [len(WISHES)]
    for wish, answers in zip(WISHES, together, strict=True):
        alone = shop.ask(user=user, say=wish, k=7)
        assert [each.item for each in answers.items] == [each.item for each in alone.items]
        np.testing.assert_allclose(
            [each.score for each in answers.items], [each.score for each in alone.items], atol=1e-4
        )
        assert (answers.enforced, answers.left, answers.notes) == (alone.enforced, alone.left, alone.notes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wishes=st.lists(st.sampled_from(WISHES), min_size=1, max_size=4),
    how=st.sampled_from(MERGES),
    k=st.integers(1, 70),
)
def test_a_merged_list_is_full_and_every_item_keeps_to_its_wish(shop: Shop, wishes, how: str, k: int):
    index = FilterIndex(shop.catalog)
    events = shop.bundle.prepared.histories.history(0)
    masks = {
        wish: index.mask(merge(NOTHING_SEEN, from_objective(parse(wish, shop.lexicon))), events)
        for wish in wishes
    }
    answers = shop.ask_merged(user=shop.bundle.prepared.histories.users[0], wishes=wishes, how=how, k=k)
    items = [shop.catalog.index(answer.item) for answer in answers.items]
    allowed = int(np.any(list(masks.values()), axis=0).sum())
    assert len(items) == len(set(items)) == min(k, allowed)
    assert all(masks[answer.wish][item] for answer, item in zip(answers.items, items, strict=True))
    assert ("items may be shown" in str(answers.notes)) == (allowed < k)


def test_a_merged_list_says_what_holds_for_all_and_what_for_some(shop: Shop, user: str):
    answers = shop.ask_merged(user=user, wishes=["bags under 3 pounds", "not pink for Christmas"], k=4)
    assert answers.enforced == (
        "nothing that is in the history",
        'price at most 3 pounds (for "bags under 3 pounds")',
        'with the word "bag" (for "bags under 3 pounds")',
        'without the word "pink" (for "not pink for Christmas")',
    )
    assert answers.left == ('for Christmas (for "not pink for Christmas")',)


def test_quotas_of_a_merged_list(shop: Shop, user: str):
    answers = shop.ask_merged(user=user, wishes=["red", ""], how="quotas", weights=[1, 2], k=6)
    assert [answer.wish for answer in answers.items].count("red") == 2


def test_a_merged_item_is_explained_by_its_own_wish(shop: Shop, user: str):
    wishes = ["bags", "for Christmas"]
    merged = shop.ask_merged(user=user, wishes=wishes, how="round-robin", k=6, why=True)
    for wish in wishes:
        alone = shop.ask(user=user, say=wish, k=60, why=True)
        because = {answer.item: answer.because for answer in alone.items}
        for answer in merged.items:
            if answer.wish == wish:
                assert [cause.item for cause in answer.because] == [c.item for c in because[answer.item]]
                np.testing.assert_allclose(
                    [cause.weight for cause in answer.because],
                    [cause.weight for cause in because[answer.item]],
                    atol=1e-4,
                )


def test_a_list_that_is_to_differ_within_itself_does(shop: Shop, user: str):
    def likeness(answers: Answers) -> float:
        items = np.array([shop.catalog.index(answer.item) for answer in answers.items])
        return likeness_within(shop.recommender.item_vectors(items))

    varied = shop.ask(user=user, say="a varied list")
    free = shop.ask(user=user, say="a varied list", enforce=False)
    assert likeness(varied) < likeness(free) - 0.05
    assert varied.items[0].item == free.items[0].item
    assert VARIED in varied.enforced and VARIED not in free.enforced
    assert not varied.left
    more = shop.ask(user=user, say="above all a varied list")
    assert likeness(more) < likeness(varied)
    merged = shop.ask_merged(user=user, wishes=["a varied list", ""])
    assert likeness(merged) < likeness(shop.ask_merged(user=user, wishes=["", ""]))
    limited = shop.ask(user=user, say="bags, a varied list", k=60)
    bags = shop.ask(user=user, say="bags", k=60)
    assert {answer.item for answer in limited.items} == {answer.item for answer in bags.items}


def test_what_is_preferred_is_favoured_and_not_enforced(shop: Shop, user: str):
    plain = shop.ask(user=user, say="bags")
    gentle = shop.ask(user=user, say="bags, preferably under 2 pounds", hear=False)
    firm = shop.ask(user=user, say="bags, above all under 2 pounds")
    assert gentle.favoured == ("price at most 2 pounds",) and not gentle.left
    assert set(gentle.enforced) == set(plain.enforced) and plain.favoured == firm.favoured == ()
    assert "price at most 2 pounds" in firm.enforced
    assert all(answer.price <= 2 for answer in firm.items)

    def place_of_cheap(answers: Answers) -> float:
        places = [place for place, answer in enumerate(answers.items) if answer.price <= 2]
        assert 0 < len(places) < len(answers.items)
        return float(np.mean(places))

    assert place_of_cheap(gentle) < place_of_cheap(shop.ask(user=user, say="bags", hear=False))
    assert len(gentle.items) == len(plain.items)
    scores = [answer.score for answer in gentle.items]
    assert scores == sorted(scores, reverse=True)


def test_a_preference_that_nothing_has_is_said(shop: Shop, user: str):
    answers = shop.ask(user=user, say="bags, preferably under 0.01 pounds")
    assert answers.notes[0] == "nothing that may be shown is price at most 0.01 pounds"
    assert answers.favoured == () and len(answers.items) == len(shop.ask(user=user, say="bags").items)


def test_mistakes_are_one_line(shop: Shop, user: str):
    with pytest.raises(LlmrecError, match="^the wish .under 0.01 pounds.: no item of the catalogue"):
        shop.ask_merged(user=user, wishes=["red", "under 0.01 pounds"])
    with pytest.raises(LlmrecError, match="^no item of the catalogue is all of"):
        shop.ask_many(user=user, wishes=["under 0.01 pounds"])
    with pytest.raises(LlmrecError, match="there is no wish"):
        shop.ask_many(user=user, wishes=[])
    with pytest.raises(LlmrecError, match="k is 0"):
        shop.ask_merged(user=user, wishes=["red"], k=0)
    with pytest.raises(LlmrecError, match="merged by 'best'"):
        shop.ask_merged(user=user, wishes=["red"], how="best")
    with pytest.raises(LlmrecError, match="1 weights for 2 wishes"):
        shop.ask_merged(user=user, wishes=["red", "blue"], weights=[1])


def test_the_command_line_asks_several_wishes(
    run: Callable[..., tuple[int, str, str]], tiny_bundle: Path, user: str
):
    asked = (
        "recommend",
        tiny_bundle,
        "--user",
        user,
        "--say",
        "red",
        "--say",
        "for Christmas",
        "--no-why",
        "-k",
        "4",
    )
    code, out, err = run(*asked)
    assert code == 0, err
    assert f'For customer {user}: "red"' in out and f'For customer {user}: "for Christmas"' in out
    code, out, _ = run(*asked, "--json")
    assert code == 0 and [len(answers["items"]) for answers in json.loads(out)] == [4, 4]
    code, out, _ = run(*asked, "--merge", "quotas", "--weights", "3,1", "--json")
    assert code == 0
    assert [each["wish"] for each in json.loads(out)["items"]].count("red") == 3
    for wrong, complaint in (
        (("--weights", "2,1"), "give --merge too"),
        (("--merge", "quotas", "--weights", "2;1"), "must be numbers with commas"),
        (("--merge", "quotas", "--weights", "1"), "1 weights for 2 wishes"),
        (("--merge", "sum"), "merged by 'sum'"),
    ):
        code, out, err = run(*asked, *wrong)
        assert code == 2 and not out and complaint in err and len(err.splitlines()) == 1
