"""Held-out goals: what they ask never trains, under whichever name."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from goal_shop import SPLIT, maker_of

from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError

OTHERS = {
    "one goal for a combination": (
        {"ltail": {"says": {"long_tail": True, "price_level": "low"}}},
        "long-tail+cheap",
        {"ltail"},
    ),
    "several kinds in one wish": (
        {"foo": {"wish": "keyword+price"}, "bar": {"wish": "keyword"}},
        "keyword+price",
        {"foo", "bar+price", "foo+bar"},
    ),
    "another name for a single goal": ({"rare": {"says": {"long_tail": True}}}, "long-tail", {"rare"}),
    "what is not said": (
        {"rare": {"says": {"long_tail": True}, "when": {"event": "purchase"}, "horizon": 3}},
        "long-tail",
        {"rare"},
    ),
    "a wish for what another says": (
        {"never": {"says": {"new_for_user": True}}, "gift": {"says": {"season": "christmas"}}},
        "new+season",
        {"never+gift", "new+gift"},
    ),
    "one value of any": (
        {"mugs": {"says": {"include_categories": ["Mug"]}}, "red": {"wish": "price"}},
        "category",
        {"mugs", "mugs+red"},
    ),
    "any value for one": (
        {"reds": {"says": {"include_attributes": {"colour": ["Red"]}}}, "paint": {"says": {
            "include_attributes": {"colour": "target"}}}},
        "reds",
        {"attribute", "paint"},
    ),
    "a goal of each": ({"bought": {"says": {"event": "purchase"}}}, "event", {"bought", "event=view"}),
    "both bounds of a price": (
        {"middle": {"says": {"min_price": 5, "max_price": 9}}, "dear": {"says": {"min_price": 5}}},
        "middle",
        {"price"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_what_asks_the_same_as_a_held_out_goal_never_trains(shop: Prepared, case: str) -> None:
    add, held, gone = OTHERS[case]
    rows = {**add, **{name: {} for name in gone if "+" in name}}
    before, after = maker_of(shop, add=rows), maker_of(shop, add=rows, held_out=(held,))
    assert gone <= set(before.trained) and not gone & set(after.trained)
    for name in gone:
        with pytest.raises(LlmrecError) as error:
            maker_of(shop, add=rows, only=("again", name), held_out=(held,))
        assert str(error.value) == (
            f"goals: {name!r} is in `only` and held out: it can ask all that {held!r} asks, "
            "take one of them out"
        )


STILL: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "a part of what is held out": ({}, "long-tail+cheap", {"long-tail", "cheap", "category+cheap"}),
    "another value": (
        {
            "mugs": {"says": {"include_categories": ["Mug"]}},
            "bowls": {"says": {"include_categories": ["Bowl"]}},
        },
        "mugs",
        {"bowls"},
    ),
    "one word where two are held out": (
        {"both": {"says": {"include_words": ["red", "mug"]}}},
        "both",
        {"keyword", "keyword+price"},
    ),
    "one bound of two": (
        {"middle": {"says": {"min_price": 5, "max_price": 9}}, "dear": {"says": {"min_price": 5}}},
        "middle",
        {"dear"},
    ),
    "all but a goal that says nothing": ({"watch": {}}, "watch", {"long-tail", "cheap", "keyword+price"}),
}  # fmt: skip


@pytest.mark.parametrize("case", STILL)
def test_what_asks_less_or_something_else_still_trains(shop: Prepared, case: str) -> None:
    add, held, still = STILL[case]
    goals = maker_of(shop, add=add, held_out=(held,))
    assert still <= set(goals.trained) and held not in goals.trained


def test_no_question_of_training_is_a_held_out_one(shop: Prepared) -> None:
    rows = {"ltail": {"says": {"long_tail": True, "price_level": "low"}}, "level": {"says": {
        "price_level": "target"}}, "level+long-tail": {}}  # fmt: skip
    goals, rng = maker_of(shop, add=rows, held_out=("long-tail+cheap",)), np.random.default_rng(0)
    for _, history in shop.train(SPLIT):
        ask = goals.on(history)
        for cut, _ in product(range(len(history)), range(3)):
            for asked in ask(cut, rng, 9):
                assert not (asked.objective.long_tail and asked.objective.price_level == "low")
    assert "level" in goals.trained
