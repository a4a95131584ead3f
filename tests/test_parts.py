"""Weighted parts of a wish become wishes of their own that have all the unweighted ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.retrieve.parts import split_weighted
from llmrec.verbalize.objective import Objective

SAMPLES = {
    "include_words": ("bag",),
    "max_price": 3.0,
    "long_tail": True,
    "fresh": True,
    "season": "christmas",
    "event": "rating",
    "min_value": 4.0,
    "diverse": True,
    "scenario": (("country", "France"),),
    "rest": "cheerful",
}


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.sampled_from(sorted(SAMPLES))),
    st.dictionaries(st.sampled_from(sorted(SAMPLES)), st.sampled_from([0.5, 1.0, 2.0])),
)
def test_the_wishes_together_say_what_the_objective_says(parts: set[str], weights: dict[str, float]):
    objective = Objective(**{part: SAMPLES[part] for part in parts}, weights=tuple(weights.items()))
    split = split_weighted(objective)
    assert set().union(*(wish.parts for wish, _ in split)) == parts
    for wish, weight in split:
        assert weight > 0
        assert all(getattr(wish, part) == SAMPLES[part] for part in wish.parts)
        steady = {part for part in parts if objective.weight(part) == 1} - {"min_value"}
        assert steady <= set(wish.parts)
    assert len({wish for wish, _ in split}) == len(split)


def test_a_wish_without_weights_is_itself():
    wish = Objective(include_words=("bag",), long_tail=True)
    assert split_weighted(wish) == [(wish, 1.0)]
    assert split_weighted(Objective()) == [(Objective(), 1.0)]


def test_weighted_parts_are_asked_beside_the_others():
    wish = Objective(
        include_words=("bag",), long_tail=True, fresh=True, weights=(("long_tail", 0.5), ("fresh", 2))
    )
    assert split_weighted(wish) == [
        (Objective(include_words=("bag",)), 1.0),
        (Objective(include_words=("bag",), long_tail=True), 0.5),
        (Objective(include_words=("bag",), fresh=True), 2.0),
    ]


def test_only_weighted_parts_are_only_those():
    wish = Objective(long_tail=True, season="christmas", weights=(("long_tail", 0.5), ("season", 2)))
    assert split_weighted(wish) == [(Objective(season="christmas"), 2.0), (Objective(long_tail=True), 0.5)]


def test_a_preference_alone_is_asked_beside_anything():
    wish = Objective(long_tail=True, weights=(("long_tail", 0.5),))
    assert split_weighted(wish) == [(Objective(), 1.0), (Objective(long_tail=True), 0.5)]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((("event", 2.0),), [({"long_tail"}, 1.0), ({"event", "min_value", "long_tail"}, 2.0)]),
        ((("long_tail", 2.0),), [({"event", "min_value"}, 1.0), ({"event", "min_value", "long_tail"}, 2.0)]),
    ],
)
def test_a_least_value_goes_with_its_event(weights, expected):
    wish = Objective(event="rating", min_value=4.0, long_tail=True, weights=weights)
    assert [(set(part.parts), weight) for part, weight in split_weighted(wish)] == expected


def test_diversity_is_the_lists_own():
    wish = Objective(diverse=True, long_tail=True, weights=(("diverse", 3.0), ("long_tail", 2.0)))
    assert split_weighted(wish) == [
        (Objective(diverse=True, long_tail=True, weights=(("diverse", 3.0),)), 2.0)
    ]
