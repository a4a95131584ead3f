"""Wishes that a purchase fulfils, in every wording, and back from words to the same wish."""

import math

import numpy as np
import pytest

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event, History
from llmrec.errors import LlmrecError
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse
from llmrec.verbalize.seasons import SEASONS, season_of_time
from llmrec.verbalize.templates import Templates
from llmrec.verbalize.wishes import COMBINATIONS, KINDS, WishMaker
from llmrec.verbalize.wordings import PLACEHOLDERS, SETS, Wordings, money
from llmrec.verbalize.words import stems

DECEMBER = 1322697600  # 2011-12-01
SHOP = Catalog(
    [
        Item("a", "Velvet Lipstick Red", price=4.5, categories=("Makeup", "Beauty & Care")),
        Item("b", "Matte Lipstick Pink", price=6.0, categories=("Makeup",)),
        Item("c", "Garden Gnome", price=12.0, categories=("Garden", "Out of Doors")),
        Item("d", "Garden Rake Red", price=9.99, categories=("Garden",)),
        Item("e", "Christmas Stocking Velvet", price=3.0, categories=("Home Decor",)),
        Item("f", "Pink Cushion", price=None),
    ],
    "USD",
)


@pytest.fixture(scope="module")
def maker(sample) -> WishMaker:
    return WishMaker(sample.catalog)


def cases(sample, count: int) -> list[tuple[Event, History]]:
    histories = (sample.histories.history(user) for user in range(count))
    return [(history[-1], history[:-1]) for history in histories]


def fulfils(wish: Objective, target: Event, history: History, catalog: Catalog) -> bool:
    """Whether the target satisfies a wish, computed without the code under test."""
    item = catalog[target.item]
    words = set(stems(f"{item.title} {item.text}"))
    price = math.nan if item.price is None else item.price
    return (
        (wish.max_price is None or price <= wish.max_price)
        and (wish.min_price is None or price >= wish.min_price)
        and set(wish.include_words) <= words
        and not set(wish.exclude_words) & words
        and set(wish.include_categories) <= set(item.categories)
        and not set(wish.exclude_categories) & set(item.categories)
        and wish.like != target.item
        and (wish.like is None or bool(set(stems(catalog[wish.like].title)) & words))
        and not (wish.new_for_user and target.item in {event.item for event in history})
    )


@pytest.mark.parametrize("wordings", SETS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS + COMBINATIONS if "category" not in kind])
def test_a_wish_is_fulfilled_by_its_target_and_survives_words(maker, sample, kind, wordings):
    rng = np.random.default_rng(7)
    derived = 0
    for target, history in cases(sample, 120):
        wish = maker.derive(kind, target, history, rng)
        if wish is None:
            continue
        derived += 1
        assert not wish.empty and fulfils(wish, target, history, sample.catalog)
        said = maker.say(wish, rng, wordings)
        assert parse(said, maker.lexicon) == wish, said
    assert derived > 30


@pytest.mark.parametrize("wordings", SETS)
@pytest.mark.parametrize("kind", KINDS + COMBINATIONS)
def test_wishes_with_categories_survive_words(kind, wordings):
    shop = WishMaker(SHOP)
    rng = np.random.default_rng(3)
    history = (Event(1, DECEMBER), Event(3, DECEMBER))
    for target in range(len(SHOP)):
        for _ in range(15):
            wish = shop.derive(kind, Event(target, DECEMBER), history, rng)
            if wish is not None:
                assert fulfils(wish, Event(target), history, SHOP)
                assert parse(shop.say(wish, rng, wordings), shop.lexicon) == wish


@pytest.mark.parametrize("wordings", SETS)
def test_every_single_wording_is_understood(maker, sample, wordings):
    """No wording is drawn so rarely that the tests above may miss it."""
    catalog, lexicon = sample.catalog, maker.lexicon
    like = next(i for i in range(len(catalog)) if catalog[i].title == "Red Retrospot Bowl")
    values = {"price": "£2.50", "low": "2 pounds", "high": "4 pounds", "word": "mugs", "a_word": "a mug"}
    values |= {"title": "Red Retrospot Bowl", "season": "Valentine's Day"}
    expected = {
        "price_max": Objective(max_price=2.5),
        "price_min": Objective(min_price=2.5),
        "price_between": Objective(min_price=2, max_price=4),
        "season": Objective(season="valentine"),
        "not_word": Objective(exclude_words=("mug",)),
        "like": Objective(like=like),
        "new": Objective(new_for_user=True),
        "keyword": Objective(include_words=("mug",)),
    }
    lists = Wordings(Templates.load())
    for part, wish in expected.items():
        for wording in lists.of(part, wordings):
            assert parse(wording.format(**values), lexicon) == wish, wording


def test_there_are_enough_wordings_and_none_in_both_sets():
    lists = Wordings(Templates.load())
    for part in PLACEHOLDERS.keys() - {"joins"}:
        train, heldout = (set(lists.of(part, name)) for name in SETS)
        assert len(train) >= 8 and len(heldout) >= 3 and not train & heldout, part


def test_kinds_follow_the_catalogue(maker):
    assert WishMaker(SHOP).kinds_for() == KINDS + COMBINATIONS
    assert not [kind for kind in maker.kinds_for() if "category" in kind]
    bare = WishMaker(Catalog([Item("a", ""), Item("b", "")]))
    assert not [kind for kind in bare.kinds_for() if "price" in kind]
    assert bare.draw(Event(0), (Event(0),), np.random.default_rng(0)) is None
    assert bare.wish(0, (Event(0),), np.random.default_rng(0)) == ""
    with pytest.raises(LlmrecError, match="no wish kind 'colour'"):
        maker.derive("colour", Event(0), (), np.random.default_rng(0))


def test_the_same_seed_gives_the_same_wishes(sample):
    first, second = (
        [maker.wish(target.item, history, rng, target.time) for target, history in cases(sample, 20)]
        for maker, rng in ((WishMaker(sample.catalog), np.random.default_rng(5)) for _ in range(2))
    )
    assert first == second and len(set(first)) > 10


def test_seasons_come_from_the_text_or_else_from_the_time():
    shop, rng = WishMaker(SHOP), np.random.default_rng(0)
    assert shop.derive("season", Event(4, None), (), rng) == Objective(season="christmas")
    assert shop.derive("season", Event(0, DECEMBER), (), rng) == Objective(season="christmas")
    assert shop.derive("season", Event(0, 1309478400), (), rng) is None  # 1 July 2011
    assert season_of_time(1303257600) == "easter"  # 20 April 2011, Easter on the 24th
    assert season_of_time(None) is None and season_of_time(2**62) is None
    assert all(season_of_time(day * 86400) in {None, *SEASONS} for day in range(0, 20_000, 5))


@pytest.mark.parametrize(
    ("value", "currency", "symbol", "said"),
    [
        (5.0, "GBP", False, "5 pounds"), (1.0, "GBP", False, "1 pound"), (2.5, "GBP", True, "£2.50"),
        (5.0, "SEK", True, "5 SEK"), (5.0, "", False, "5"), (0.15, "USD", True, "$0.15"),
    ],
)  # fmt: skip
def test_money(value, currency, symbol, said):
    assert money(value, currency, symbol) == said


@pytest.mark.parametrize("currency", ["", "GBP", "USD", "EUR", "JPY", "SEK", "points"])
def test_prices_survive_words_in_any_currency(currency):
    shop = WishMaker(Catalog(SHOP.items, currency))
    rng = np.random.default_rng(1)
    for number in range(120):
        wish = shop.derive("price", Event(number % 5), (), rng)
        assert wish is not None
        for wordings in SETS:
            assert parse(shop.say(wish, rng, wordings), shop.lexicon) == wish


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("- a", "joins.train must be a list"),
        ("{", "not valid YAML"),
        ("price_max: {train: [under 5], heldout: [x]}", "must name {price}"),
        ("price_max: {train: ['under {cost}'], heldout: [x]}", "must name {price}"),
        ("price_max: {train: 'under {price}'}", "price_max.train must be a list"),
    ],
)
def test_faulty_wordings_are_explained(source, message):
    with pytest.raises(LlmrecError) as raised:
        Wordings(Templates({"wishes.yaml": source}, "mine"))
    assert message in str(raised.value) or "price_max" not in source
    assert str(raised.value).startswith("mine/wishes.yaml") and "\n" not in str(raised.value)


def test_an_unknown_set_of_wordings_is_refused(maker):
    with pytest.raises(LlmrecError, match="must be one of: train, heldout"):
        maker.say(Objective(season="easter"), np.random.default_rng(0), "test")
