"""The columns of facts: what they say of items, and what they leave open."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event, Histories
from llmrec.data.fact_columns import FACTS, fact_columns, repeats
from llmrec.data.facts import ItemFacts

CATALOG = Catalog(
    [Item(str(at), f"Thing {at}", f"Thing {at}", price, ()) for at, price in enumerate((1.0, 2.0, 9.0, None))]
)
TRAIN = Histories.from_lists(
    [
        ("a", (Event(0, 100, value=5.0), Event(0, 200, value=5.0), Event(1, 300, value=1.0))),
        ("b", (Event(0, 150, value=4.0), Event(1, 400))),
    ]
)


def columns(train: Histories = TRAIN) -> dict[str, np.ndarray]:
    found = fact_columns(ItemFacts.from_histories(CATALOG, train), train)
    assert found.shape == (len(CATALOG), len(FACTS)) and found.dtype == np.float32
    return dict(zip(FACTS, found.T, strict=True))


def test_the_columns_say_what_events_and_prices_say() -> None:
    found = columns()
    assert found["long_tail"].tolist() == [0, 1, 1, 1]
    assert found["cheap"][:3].tolist() == [1, 0, 0] and found["premium"][:3].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found["popularity"][:2], np.log1p([3, 2]), rtol=1e-6)
    np.testing.assert_allclose(found["price"][:3], np.log1p([1, 2, 9]), rtol=1e-6)
    mean = (5 + 5 + 1 + 4) / 4
    np.testing.assert_allclose(found["rating"][:2], [(14 + 10 * mean) / 13, (1 + 10 * mean) / 11], rtol=1e-6)
    np.testing.assert_allclose(found["again"][:2], [(1 + 10 * 0.2) / 13, (10 * 0.2) / 12], rtol=1e-6)


def test_what_is_unknown_is_left_open() -> None:
    found = columns()
    assert all(np.isnan(found[name][3]) for name in ("cheap", "premium", "price"))
    assert all(np.isnan(found[name][2:]).all() for name in ("popularity", "rating", "again"))
    nothing = columns(TRAIN.select(np.zeros(5, dtype=bool)))
    assert np.isnan(nothing["rating"]).all() and not np.isnan(nothing["long_tail"]).any()


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=5))
def test_repeats_are_events_of_items_that_the_user_had(histories: list[list[int]]) -> None:
    train = Histories.from_lists([(str(at), tuple(map(Event, items))) for at, items in enumerate(histories)])
    wanted = [item in items[:at] for items in histories for at, item in enumerate(items)]
    assert repeats(train).tolist() == wanted
