"""What is said about a wish: every part is either enforced or left, and words for limits never fail."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.decode.contract import Filters
from llmrec.decode.filters import from_objective
from llmrec.decode.understand import enforceable, limits_in_words, understand
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective

CATALOG = Catalog(
    [
        Item("a", "Red Garden Mug", "Red Garden Mug", 2.5, ("Mugs",), {"colour": "red"}),
        Item("b", "Blue Garden Lamp", "Blue Garden Lamp", 7.0, ("Lamps",)),
        Item("c", "", "", None),
    ],
    currency="GBP",
)
LEXICON = Lexicon(CATALOG, ("buy", "look"), {"country": ("France", "Japan")})
NO_LIMITS = Filters()


def read(say: str, filters: Filters = NO_LIMITS, **switches: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    wish = understand(say, LEXICON, **switches)
    limits = wish.limits(filters)
    return limits_in_words(limits, CATALOG), wish.left(limits, CATALOG)


def test_each_part_is_enforced_or_left():
    enforced, left = read(
        "garden things under 3 pounds for Christmas, like the Blue Garden Lamp, not a mug, cheerful"
    )
    assert enforced == ("price at most 3 pounds", 'with the word "garden"', 'without the word "mug"')
    assert left == ('like "Blue Garden Lamp"', "for Christmas", '"cheerful"')


def test_goals_are_enforced_or_left():
    enforced, left = read(
        "lesser-known, newly added, something I had before, cheap, colour red, "
        "to buy, rated at least 4, in France, some variety"
    )
    assert enforced == (
        "colour is red",
        "in the history",
        "not among the most popular",
        "among the newest",
        "of a low price",
    )
    assert left == ("next event: buy", "with a value of at least 4", "where country is France")
    wish = understand("some variety, of a genre new to me", LEXICON)
    assert wish.enforced.diverse and wish.enforced.new_category
    assert wish.left(wish.limits(NO_LIMITS), CATALOG) == ()
    assert read("some variety", enforce=False)[1] == ("a list that differs within itself",)


def test_what_is_enforced_keeps_its_weight_and_the_models_parts_have_none():
    enforced = understand("if possible under 3 pounds, above all for Christmas", LEXICON).enforced
    assert enforced == Objective(max_price=3, weights=(("max_price", 0.5),))


@pytest.mark.parametrize(
    ("words", "goals", "meant"),
    [
        ("under 3 pounds", {"max_price": 1, "weights": (("max_price", 0.5),)}, {"max_price": 3}),
        ("preferably under 3 pounds", {"max_price": 4}, {"max_price": 4}),
        ("garden", {"include_words": ("red",), "weights": (("include_words", 0.5),)},
         {"include_words": ("garden",)}),
        ("garden", {"include_words": ("red",)}, {"include_words": ("garden", "red")}),
        ("under 3 pounds", {"max_price": 1, "weights": (("max_price", 2),)},
         {"max_price": 1, "weights": (("max_price", 2),)}),
    ],
)  # fmt: skip
def test_what_is_preferred_never_loosens_what_is_asked_for(words: str, goals: dict, meant: dict):
    found = understand(words, LEXICON, goals=Objective(**goals), goals_said="said")
    assert found.meant == Objective(**meant) and found.heard == f"{words}, said"


def test_without_enforcement_all_is_left():
    assert read("mugs under 3 pounds", enforce=False) == (
        (),
        ("price at most 3 pounds", 'with the word "mug"'),
    )


def test_what_the_model_does_not_hear_is_said_to_be_ignored():
    enforced, left = read("mugs for Christmas", hear=False)
    assert enforced == ('with the word "mug"',)
    assert left == ("for Christmas (ignored: the model does not hear it)",)


def test_limits_of_the_caller_join_those_of_the_wish():
    enforced, left = read(
        "under 3 pounds, something new for me", Filters(max_price=2.0, exclude_items=(1, 2))
    )
    assert enforced == (
        "price at most 2 pounds",
        'not "Blue Garden Lamp", "c"',
        "nothing that is in the history",
    )
    assert left == ()


def test_a_part_that_a_limit_holds_anyway_is_not_left():
    assert read("something new for me", Filters(exclude_seen=True), enforce=False)[1] == ()


def test_words_that_nobody_reads_are_left_as_they_are():
    assert read("hello there, please") == ((), ('"hello there, please"',))
    assert read(" \n ") == ((), ())


def test_all_limits_have_words():
    limits = Filters(
        max_price=1e15,
        min_price=0.5,
        include_words=("x\x1b[1m",),
        exclude_words=("y",),
        include_categories=("Mugs",),
        exclude_categories=("Lamps",),
        attributes=(("colour", ("red", "blue")),),
        exclude_items=(0,),
        allowed_items=(),
        exclude_seen=True,
        exclude_attributes=(("size", ("1-2",)),),
        seen_before=True,
        new_category=True,
        long_tail=True,
        fresh=True,
        price_levels=("low",),
    )
    said = limits_in_words(limits, CATALOG)
    assert len(said) == len(dataclasses.fields(Filters))
    assert "colour is red or blue" in said and "one of no items" in said
    assert "size is not 1-2" in said and "among the newest" in said and "of a low price" in said
    assert all(part.isprintable() for part in said)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=500) | st.text("0123456789.,", max_size=400), st.booleans(), st.booleans())
@pytest.mark.parametrize("start", ["", "under £", "between 1 and ", "not "])
def test_any_text_is_understood_somehow(start: str, text: str, enforce: bool, hear: bool):
    wish = understand(start + text, LEXICON, enforce, hear)
    limits = wish.limits(Filters())
    for part in (*limits_in_words(limits, CATALOG), *wish.left(limits, CATALOG)):
        assert part.strip() and "\n" not in part and "\x1b" not in part
    assert limits == (from_objective(wish.enforced) if enforce else Filters())
    assert wish.enforced == (enforceable(wish.meant) if enforce else Objective())
