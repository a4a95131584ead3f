"""Facts of items against their definitions, item by item, and on the bundled sample."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import NO_TIME, Event, Histories
from llmrec.data.facts import FRESH_SHARE, HIGH, LOW, MIDDLE, NO_LEVEL, ItemFacts

NAMES = ("Mugs", "mugs", "Lamps", "Garden")
ITEMS = st.lists(
    st.tuples(
        st.none() | st.integers(0, 5).map(float),
        st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=12,
)


def catalog_of(rows):
    return Catalog(Item(f"i{n}", f"Item {n}", price=price, categories=c) for n, (price, c) in enumerate(rows))


@st.composite
def shops(draw):
    catalog = catalog_of(draw(ITEMS))
    event = st.builds(Event, st.integers(0, len(catalog) - 1), st.none() | st.integers(0, 30))
    users = draw(st.lists(st.lists(event, max_size=8), max_size=4))
    return catalog, Histories.from_lists((f"u{n}", events) for n, events in enumerate(users))


def events_of(histories):
    return [event for _, history in histories for event in history]


@given(shops())
def test_counts_times_and_head_follow_their_definitions(shop):
    catalog, histories = shop
    facts, events = ItemFacts.from_histories(*shop), events_of(histories)
    for index in range(len(catalog)):
        times = [event.time for event in events if event.item == index and event.time is not None]
        assert facts.counts[index] == sum(event.item == index for event in events)
        assert facts.first_seen[index] == min(times, default=NO_TIME)
    times = [event.time for event in events if event.time is not None]
    assert facts.newest == max(times, default=NO_TIME)
    head, tail = facts.counts[~facts.tail], facts.counts[facts.tail]
    if events:
        assert 2 * head.sum() >= len(events) > 2 * (head.sum() - head.min())
        assert head.min() >= tail.max(initial=0)
    else:
        assert facts.tail.all()


@given(shops(), st.none() | st.integers(-5, 40))
def test_fresh_items_are_the_newest_of_their_moment(shop, now):
    facts = ItemFacts.from_histories(*shop)
    fresh, moment = facts.fresh(now), facts.newest if now is None else now
    known = (facts.first_seen != NO_TIME) & (facts.first_seen <= moment)
    assert not (fresh & ~known).any()
    if len(set(facts.first_seen[known].tolist())) > 1:
        assert fresh.sum() >= max(1, int(FRESH_SHARE * known.sum())) and (known & ~fresh).any()
        assert facts.first_seen[fresh].min() > facts.first_seen[known & ~fresh].max()
    else:
        assert not fresh.any()


@given(ITEMS)
def test_price_levels_keep_the_order_of_prices(rows):
    catalog = catalog_of(rows)
    facts = ItemFacts(catalog, np.zeros(len(rows)), np.zeros(len(rows)))
    levels = dict(zip(catalog.prices.tolist(), facts.price_level.tolist(), strict=True))
    known = sorted(price for price in levels if not math.isnan(price))
    assert [levels[price] for price in known] == sorted(levels[price] for price in known)
    assert all((level == NO_LEVEL) == math.isnan(price) for price, level in levels.items())
    prices = catalog.prices[np.isfinite(catalog.prices)]
    for level in (LOW, HIGH):
        assert (facts.price_level == level).sum() <= max(2, len(prices) * 2 / 3)


@pytest.mark.parametrize(
    ("prices", "levels"),
    [
        ([1, 2, 3, 4, 5, 6], [LOW, LOW, MIDDLE, MIDDLE, HIGH, HIGH]),
        ([1, 2, 2, 2, 2, 9, None], [LOW, MIDDLE, MIDDLE, MIDDLE, MIDDLE, HIGH, NO_LEVEL]),
        ([3, 3, 3], [MIDDLE, MIDDLE, MIDDLE]),
        ([None], [NO_LEVEL]),
    ],
)
def test_thirds(prices, levels):
    facts = ItemFacts(catalog_of([(p, ()) for p in prices]), np.zeros(len(prices)), np.zeros(len(prices)))
    assert facts.price_level.tolist() == levels


@given(ITEMS, st.data())
def test_new_categories_are_those_that_the_history_has_not(rows, data):
    catalog = catalog_of(rows)
    facts = ItemFacts(catalog, np.zeros(len(rows)), np.zeros(len(rows)))
    seen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=4))
    own = [{name.casefold() for name in item.categories} for item in catalog.items]
    known = set().union(*(own[index] for index in seen))
    assert facts.categories.outside(seen).tolist() == [bool(each - known) for each in own]
    names = facts.categories.names
    assert {names[at].casefold() for at in facts.categories.of(seen)} == known
    assert {name for item in catalog.items for name in item.categories} >= set(names)


def test_the_sample_has_a_small_head_and_new_arrivals(sample):
    facts = ItemFacts.from_histories(sample.catalog, sample.train("leave-last-out"))
    head = ~facts.tail
    assert 0.05 < head.mean() < 0.4 and facts.counts[head].min() >= facts.counts[facts.tail].max()
    assert facts.fresh().sum() == pytest.approx(FRESH_SHARE * len(sample.catalog), rel=0.5)
    middle = int(np.median(facts.first_seen))
    assert facts.fresh(middle).any() and not (facts.fresh(middle) & (facts.first_seen > middle)).any()
    shares = [(facts.price_level == level).mean() for level in (LOW, MIDDLE, HIGH)]
    assert min(shares) > 0.2 and sum(shares) == pytest.approx(1)


def test_facts_of_another_catalogue_are_refused(sample):
    with pytest.raises(ValueError, match="of a catalogue of 1 items"):
        ItemFacts.from_histories(Catalog([Item("a", "A")]), sample.histories)
    with pytest.raises(ValueError, match="0 counts and 2 times for a catalogue of 1 items"):
        ItemFacts(Catalog([Item("a", "A")]), np.zeros(0), np.zeros(2))
