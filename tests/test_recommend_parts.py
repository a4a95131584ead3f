"""Goals in words, asked of a bundle: what is enforced holds for every item, by the facts of its data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.data.facts import HIGH, LOW, ItemFacts
from llmrec.errors import LlmrecError
from llmrec.recommend import Shop
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.wishes import WishMaker

PARTS = {
    "long_tail": [True],
    "fresh": [True],
    "new_category": [True],
    "seen_before": [True],
    "new_for_user": [True],
    "price_level": ["low", "high"],
    "include_attributes": [(("colour", "Red"),), (("colour", "Pink"), ("colour", "White"))],
    "exclude_attributes": [(("colour", "Red"),), (("colour", "Pink"), ("colour", "White"))],
    "event": ["event"],
    "min_value": [4.0],
}


@pytest.fixture(scope="module")
def shop(tiny_bundle: Path) -> Shop:
    return Shop.open(tiny_bundle)


@pytest.fixture(scope="module")
def facts(shop: Shop) -> ItemFacts:
    bundle = shop.bundle
    return ItemFacts.from_histories(bundle.catalog, bundle.prepared.train(bundle.recipe.split))


def holds(wish: Objective, shop: Shop, facts: ItemFacts, item: int, seen: set[int]) -> bool:
    """Whether an item is what the wish asks, computed without the filters."""
    own = shop.catalog[item]
    known = {name for other in seen for name in shop.catalog[other].categories}
    colours = {value for _, value in wish.include_attributes}
    return (
        (not wish.long_tail or bool(facts.tail[item]))
        and (not wish.fresh or bool(facts.fresh()[item]))
        and (not wish.new_category or bool(set(own.categories) - known))
        and (not wish.seen_before or item in seen)
        and (not wish.new_for_user or item not in seen)
        and (not wish.price_level or facts.price_level[item] == {"low": LOW, "high": HIGH}[wish.price_level])
        and (not colours or own.attributes.get("colour") in colours)
        and own.attributes.get("colour") not in {value for _, value in wish.exclude_attributes}
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=3, unique=True),
    seed=st.integers(0, 2**32 - 1),
    wordings=st.sampled_from(["train", "heldout"]),
)
def test_every_item_is_what_the_words_ask(
    shop: Shop, facts: ItemFacts, chosen: list[str], seed: int, wordings: str
):
    rng = np.random.default_rng(seed)
    wish = Objective(**{name: PARTS[name][int(rng.integers(len(PARTS[name])))] for name in chosen})
    say = WishMaker(shop.catalog, None, shop.lexicon).say(wish, rng, wordings)
    histories = shop.bundle.prepared.histories
    user = int(rng.integers(len(histories)))
    seen = set(histories.items_of(user).tolist())
    fitting = [item for item in range(len(shop.catalog)) if holds(wish, shop, facts, item, seen)]
    if not wish.seen_before:
        fitting = [item for item in fitting if item not in seen]
    if not fitting:
        with pytest.raises(LlmrecError, match="no item of the catalogue is all of"):
            shop.ask(user=histories.users[user], say=say)
        return
    answers = shop.ask(user=histories.users[user], say=say)
    items = {shop.catalog.index(answer.item) for answer in answers.items}
    assert items <= set(fitting) and len(items) == min(10, len(fitting)), say
    assert ("next event: event" in answers.left) == bool(wish.event)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--long-tail"], "hidden gems"),
        (["--fresh"], "the newest"),
        (["--again"], "something I had before"),
        (["--new-category"], "from a category new to me"),
        (["--price-level", "low"], "cheap"),
        (["--attribute", "colour=Red", "--attribute", "colour=Pink"], "colour Red, colour Pink"),
        (["--not-attribute", "colour=Red"], "not colour Red"),
    ],
)
def test_options_say_the_same_as_words(
    run: Callable[..., tuple[int, str, str]],
    tiny_bundle: Path,
    shop: Shop,
    options: list[str],
    words: str,
):
    user = shop.bundle.prepared.histories.users[0]
    asked = ["recommend", tiny_bundle, "--user", user, "--no-why", "--json"]
    by_option = run(*asked, *options)
    by_words = run(*asked, "--say", words, "--no-hear")
    assert by_option[0] == by_words[0] == 0, by_option[2] + by_words[2]
    found, said = (json.loads(result[1]) for result in (by_option, by_words))
    assert set(found["enforced"]) == set(said["enforced"]) and found["items"] == said["items"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--price-level", "medium"], "the price level is 'medium', it must be one of: low, high"),
        (["--not-attribute", "colour"], "--not-attribute 'colour' must be NAME=VALUE"),
        (["--not-attribute", "size=1"], "items have no attribute 'size'; they have: colour"),
        (["--again", "--history", ""], "no item of the catalogue is all of: in the history"),
    ],
)
def test_mistakes_are_one_line(
    run: Callable[..., tuple[int, str, str]], tiny_bundle: Path, shop: Shop, options: list[str], message: str
):
    who = [] if "--history" in options else ["--user", shop.bundle.prepared.histories.users[0]]
    code, out, err = run("recommend", tiny_bundle, *who, *options)
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
