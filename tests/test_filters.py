from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event, Histories
from llmrec.data.facts import HIGH, LOW, ItemFacts
from llmrec.decode.contract import Filters
from llmrec.decode.filters import FilterIndex, from_objective, merge
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.words import stems

WORDS = ("mug", "garden", "red", "lantern", "christmas")
CATEGORIES = ("Home", "Garden", "Gifts")
COLOURS = ("red", "blue")
YEARS = (1989.0, 1990.0, 1995.0, 1999.0)
RANGES = ("1990-1999", "1989-1990", "1995-1995", "1980-1985")


def item(number, words, price, categories, colour, year=None):
    attributes = {} if colour is None else {"colour": colour}
    attributes |= {} if year is None else {"year": year}
    return Item(f"i{number}", " ".join(words), " ".join(words), price, tuple(categories), attributes)


@st.composite
def catalogs(draw):
    items = []
    for number in range(draw(st.integers(1, 12))):
        words = draw(st.lists(st.sampled_from(WORDS), max_size=4))
        price = draw(st.one_of(st.none(), st.integers(0, 4).map(float)))
        categories = draw(st.lists(st.sampled_from(CATEGORIES), max_size=2, unique=True))
        colour, year = draw(st.sampled_from((None, *COLOURS))), draw(st.sampled_from((None, *YEARS)))
        items.append(item(number, words, price, categories, colour, year))
    items.append(item(len(items), ["mug"], 1.0, [], "red", 1995.0))
    return Catalog(items)


@st.composite
def facts_of(draw, catalog):
    events = st.builds(Event, st.integers(0, len(catalog) - 1), st.integers(0, 20))
    return ItemFacts.from_histories(
        catalog, Histories.from_lists([("u", draw(st.lists(events, max_size=15)))])
    )


def some(values, most=2):
    return st.lists(st.sampled_from(values), max_size=most).map(tuple)


@st.composite
def limits(draw, items):
    return Filters(
        max_price=draw(st.one_of(st.none(), st.integers(0, 4).map(float))),
        min_price=draw(st.one_of(st.none(), st.integers(0, 4).map(float))),
        include_words=draw(some((*WORDS, "unheard"))),
        exclude_words=draw(some(WORDS)),
        include_categories=draw(some((*CATEGORIES, "nowhere"), 1)),
        exclude_categories=draw(some(CATEGORIES, 1)),
        attributes=draw(attributes()),
        exclude_attributes=draw(attributes()),
        exclude_items=draw(some(range(items))),
        allowed_items=draw(st.one_of(st.none(), some(range(items), 8))),
        exclude_seen=draw(st.booleans()),
        seen_before=draw(rarely),
        new_category=draw(rarely),
        long_tail=draw(rarely),
        fresh=draw(rarely),
        price_levels=draw(some(("low", "high"), 1)),
    )


rarely = st.sampled_from((False, False, True))


def attributes():
    colour = st.tuples(st.just("colour"), some(COLOURS))
    year = st.tuples(st.just("year"), some(("1990", "1995.0", *RANGES)))
    return st.lists(st.one_of(colour, year), max_size=1).map(tuple)


def has(each, name, values):
    value = each.attributes.get(name)
    if isinstance(value, float):
        ends = [tuple(map(float, wanted.split("-"))) for wanted in values]
        return any(bounds[0] <= value <= bounds[-1] for bounds in ends)
    return value in values


def allows(filters, each, index, seen, facts, categories_seen):
    """The definition, one item at a time."""
    found = set(stems(each.text))
    categories = {name.casefold() for name in each.categories}
    return all(
        (
            filters.max_price is None or (each.price is not None and each.price <= filters.max_price),
            filters.min_price is None or (each.price is not None and each.price >= filters.min_price),
            all(word in found for word in filters.include_words),
            not any(word in found for word in filters.exclude_words),
            all(name.casefold() in categories for name in filters.include_categories),
            not any(name.casefold() in categories for name in filters.exclude_categories),
            all(has(each, *part) for part in filters.attributes),
            not any(has(each, *part) for part in filters.exclude_attributes),
            index not in filters.exclude_items,
            filters.allowed_items is None or index in filters.allowed_items,
            not (filters.exclude_seen and index in seen),
            not (filters.seen_before and index not in seen),
            not (filters.new_category and categories <= categories_seen),
            not (filters.long_tail and not facts.tail[index]),
            not (filters.fresh and not facts.fresh(15)[index]),
            all(
                facts.price_level[index] == {"low": LOW, "high": HIGH}[name] for name in filters.price_levels
            ),
        )
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mask_is_the_definition_and_merge_is_the_conjunction(data):
    catalog = data.draw(catalogs())
    first, second = data.draw(limits(len(catalog))), data.draw(limits(len(catalog)))
    seen = data.draw(some(range(len(catalog)), 4))
    history = tuple(Event(index) for index in seen)
    facts = data.draw(facts_of(catalog))
    index = FilterIndex(catalog, facts)
    known = {name.casefold() for number in seen for name in catalog[number].categories}
    expected = [allows(first, each, n, seen, facts, known) for n, each in enumerate(catalog.items)]
    assert index.mask(first, history, 15).tolist() == expected
    both = index.mask(first, history, 15) & index.mask(second, history, 15)
    np.testing.assert_array_equal(index.mask(merge(first, second), history, 15), both)
    np.testing.assert_array_equal(index.mask(merge(second, first), history, 15), both)


@pytest.fixture
def shop():
    return Catalog(
        [
            item(0, ["Red", "Mugs"], 2.0, ["Home"], "red"),
            item(1, ["garden", "lantern"], None, ["Garden", "Gifts"], None),
            item(2, ["mug", "for", "the", "garden"], 4.5, [], "Blue"),
        ]
    )


def allowed(catalog, history=(), **parts):
    return np.flatnonzero(FilterIndex(catalog).mask(Filters(**parts), history)).tolist()


def test_each_part_on_a_shop(shop):
    assert allowed(shop) == [0, 1, 2]
    assert allowed(shop, max_price=2.0) == [0]
    assert allowed(shop, min_price=2.0) == [0, 2]
    assert allowed(shop, include_words=("mug",)) == [0, 2]
    assert allowed(shop, include_words=("MUGS",)) == [0, 2]
    assert allowed(shop, include_words=("garden mug",)) == [2]
    assert allowed(shop, exclude_words=("garden mugs",)) == [0, 1]
    assert allowed(shop, include_categories=("GARDEN",)) == [1]
    assert allowed(shop, include_categories=("garden", "gifts")) == [1]
    assert allowed(shop, attributes=(("colour", ("blue", "red")),)) == [0, 2]
    assert allowed(shop, exclude_seen=True, history=(Event(2), Event(0))) == [1]
    assert allowed(shop, history=(Event(2),)) == [0, 1, 2]
    assert allowed(shop, allowed_items=()) == []
    assert allowed(shop, max_price=0.0) == []
    assert allowed(shop, exclude_attributes=(("colour", ("blue",)),)) == [0, 1]
    assert allowed(shop, seen_before=True, history=(Event(2), Event(2))) == [2]
    assert allowed(shop, seen_before=True) == []
    assert allowed(shop, new_category=True, history=(Event(0), Event(2))) == [1]
    assert allowed(shop, new_category=True) == [0, 1]
    assert allowed(shop, price_levels=("high",)) == [2]
    assert allowed(shop, price_levels=("low", "high")) == []


def test_what_is_popular_and_what_is_new_comes_from_facts(shop):
    events = [Event(0, 10), Event(0, 20), Event(1, 30), Event(2, 40)]
    index = FilterIndex(shop)
    for part in ("long_tail", "fresh"):
        with pytest.raises(
            LlmrecError, match=f"the filter {part} needs to know .* give FilterIndex the facts"
        ):
            index.mask(Filters(**{part: True}))
    index.facts = ItemFacts.from_histories(shop, Histories.from_lists([("u", events)]))
    assert np.flatnonzero(index.mask(Filters(long_tail=True))).tolist() == [1, 2]
    assert np.flatnonzero(index.mask(Filters(fresh=True))).tolist() == [2]
    assert np.flatnonzero(index.mask(Filters(fresh=True), now=39)).tolist() == [1]


def test_numbers_as_attributes_compare_as_numbers():
    catalog = Catalog(
        [Item("a", "A", attributes={"year": 2010.0}), Item("b", "B", attributes={"year": 1999.0})]
    )
    assert allowed(catalog, attributes=(("year", ("2010",)),)) == [0]
    assert allowed(catalog, attributes=(("year", ("1990-1999",)),)) == [1]
    assert allowed(catalog, exclude_attributes=(("year", ("1990-1999", "2000-2009")),)) == [0]


def test_what_cannot_be_meant_is_one_clear_error(shop):
    index = FilterIndex(shop)
    with pytest.raises(LlmrecError, match="nothing to look for"):
        index.mask(Filters(include_words=("!?",)))
    with pytest.raises(LlmrecError, match="not a number"):
        index.mask(Filters(max_price=float("nan")))
    with pytest.raises(UnknownIdError, match="no attribute 'size'; they have: colour"):
        index.mask(Filters(attributes=(("size", ("large",)),)))
    with pytest.raises(LlmrecError, match="the price level is 'medium', it must be one of: low, high"):
        index.mask(Filters(price_levels=("medium",)))
    with pytest.raises(UnknownIdError, match="outside the catalogue of 3 items"):
        index.mask(Filters(exclude_items=(3,)))


def test_an_empty_catalogue_allows_nothing():
    assert FilterIndex(Catalog([])).mask(Filters(max_price=1.0)).tolist() == []


def test_an_objective_gives_every_part_that_can_be_enforced():
    objective = Objective(1.0, 0.5, ("mug",), ("red",), ("Home",), ("Gifts",), 3, "christmas", True, "cosy")
    assert from_objective(objective) == Filters(
        1.0, 0.5, ("mug",), ("red",), ("Home",), ("Gifts",), exclude_seen=True
    )
    assert from_objective(Objective(like=3, season="easter", rest="cosy")) == Filters()
    named = {field.name for field in fields(Filters)} & {field.name for field in fields(Objective)}
    assert named == {
        "max_price", "min_price", "include_words", "exclude_words", "include_categories",
        "exclude_categories", "exclude_attributes", "seen_before", "new_category", "long_tail", "fresh",
    }  # fmt: skip
    goals = Objective(
        long_tail=True, seen_before=True, new_category=True, fresh=True, diverse=True, price_level="low",
        include_attributes=(("year", "1990-1999"), ("colour", "red"), ("year", "1984")),
        exclude_attributes=(("colour", "blue"),), event="buy", min_value=4.0, scenario=(("country", "UK"),),
        weights=(("fresh", 2.0),),
    )  # fmt: skip
    assert from_objective(goals) == Filters(
        attributes=(("year", ("1990-1999", "1984")), ("colour", ("red",))),
        exclude_attributes=(("colour", ("blue",)),),
        seen_before=True,
        new_category=True,
        long_tail=True,
        fresh=True,
        price_levels=("low",),
    )
