from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.decode.contract import Filters
from llmrec.decode.filters import FilterIndex, from_objective, merge
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.words import stems

WORDS = ("mug", "garden", "red", "lantern", "christmas")
CATEGORIES = ("Home", "Garden", "Gifts")
COLOURS = ("red", "blue")


def item(number, words, price, categories, colour):
    attributes = {} if colour is None else {"colour": colour}
    return Item(f"i{number}", " ".join(words), " ".join(words), price, tuple(categories), attributes)


@st.composite
def catalogs(draw):
    items = []
    for number in range(draw(st.integers(1, 12))):
        words = draw(st.lists(st.sampled_from(WORDS), max_size=4))
        price = draw(st.one_of(st.none(), st.integers(0, 4).map(float)))
        categories = draw(st.lists(st.sampled_from(CATEGORIES), max_size=2, unique=True))
        items.append(item(number, words, price, categories, draw(st.sampled_from((None, *COLOURS)))))
    if not any(each.attributes for each in items):
        items.append(item(len(items), ["mug"], 1.0, [], "red"))
    return Catalog(items)


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
        attributes=draw(st.lists(st.tuples(st.just("colour"), some(COLOURS)), max_size=1).map(tuple)),
        exclude_items=draw(some(range(items))),
        allowed_items=draw(st.one_of(st.none(), some(range(items), 8))),
        exclude_seen=draw(st.booleans()),
    )


def allows(filters, each, index, seen):
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
            all(each.attributes.get(name) in values for name, values in filters.attributes),
            index not in filters.exclude_items,
            filters.allowed_items is None or index in filters.allowed_items,
            not (filters.exclude_seen and index in seen),
        )
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mask_is_the_definition_and_merge_is_the_conjunction(data):
    catalog = data.draw(catalogs())
    first, second = data.draw(limits(len(catalog))), data.draw(limits(len(catalog)))
    seen = data.draw(some(range(len(catalog)), 4))
    history = tuple(Event(index) for index in seen)
    index = FilterIndex(catalog)
    expected = [allows(first, each, number, seen) for number, each in enumerate(catalog.items)]
    assert index.mask(first, history).tolist() == expected
    both = index.mask(first, history) & index.mask(second, history)
    np.testing.assert_array_equal(index.mask(merge(first, second), history), both)
    np.testing.assert_array_equal(index.mask(merge(second, first), history), both)


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


def test_numbers_as_attributes_compare_as_numbers():
    catalog = Catalog(
        [Item("a", "A", attributes={"year": 2010.0}), Item("b", "B", attributes={"year": 1999.0})]
    )
    assert allowed(catalog, attributes=(("year", ("2010",)),)) == [0]


def test_what_cannot_be_meant_is_one_clear_error(shop):
    index = FilterIndex(shop)
    with pytest.raises(LlmrecError, match="nothing to look for"):
        index.mask(Filters(include_words=("!?",)))
    with pytest.raises(LlmrecError, match="not a number"):
        index.mask(Filters(max_price=float("nan")))
    with pytest.raises(UnknownIdError, match="no attribute 'size'; they have: colour"):
        index.mask(Filters(attributes=(("size", ("large",)),)))
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
        "max_price", "min_price", "include_words", "exclude_words", "include_categories", "exclude_categories"
    }  # fmt: skip
