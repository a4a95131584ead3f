"""Limits that leave nothing: exactly those that contradict each other are named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_catalog

from llmrec.data.events import Event
from llmrec.decode.contract import Filters
from llmrec.decode.contradiction import contradiction
from llmrec.decode.filters import FilterIndex

CATALOG = tiny_catalog()
INDEX = FilterIndex(CATALOG)
SEEN = tuple(Event(item) for item in range(4))


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (
            Filters(max_price=4, min_price=5, include_words=("red",), exclude_seen=True),
            Filters(max_price=4, min_price=5),
        ),
        (
            Filters(include_words=("red", "mug", "blue"), exclude_categories=("bag",)),
            Filters(include_words=("red", "blue")),
        ),
        (
            Filters(max_price=90, include_categories=("mug",), exclude_seen=True),
            Filters(include_categories=("mug",), exclude_seen=True),
        ),
        (Filters(allowed_items=(), exclude_words=("bag",)), Filters(allowed_items=())),
        (Filters(include_words=("elephant", "red")), Filters(include_words=("elephant",))),
    ],
)
def test_what_contradicts(limits: Filters, left: Filters):
    assert contradiction(INDEX, limits, SEEN) == left


WORDS = st.lists(st.sampled_from(("red", "blue", "mug", "bag", "cat")), max_size=3, unique=True).map(tuple)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Filters,
        max_price=st.none() | st.integers(0, 14),
        min_price=st.none() | st.integers(0, 14),
        include_words=WORDS,
        exclude_words=WORDS,
        include_categories=WORDS,
        exclude_seen=st.booleans(),
        seen_before=st.booleans(),
    )
)
def test_nothing_more_can_go(limits: Filters):
    if INDEX.mask(limits, SEEN).any():
        return
    found = contradiction(INDEX, limits, SEEN)
    assert not INDEX.mask(found, SEEN).any()
    assert contradiction(INDEX, found, SEEN) == found
