"""What a history says of its user."""

import pytest

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.verbalize.profile import describe, favourite_categories, favourite_words, gap, usual_price

DAY = 86400
SHOP = Catalog(
    [
        Item("a", "Red Mug", price=2.0, categories=("Kitchen",)),
        Item("b", "Blue Mugs Set/20", price=4.0, categories=("Kitchen", "Gifts")),
        Item("c", "Rake", price=None, categories=("Garden",)),
    ]
)
HISTORY = (Event(0, 0), Event(1, DAY), Event(2, DAY))


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (-5, ""),
        (0, ""),
        (3600, ""),
        (DAY, "days"),
        (8 * DAY, "weeks"),
        (90 * DAY, "months"),
        (800 * DAY, "years"),
    ],
)
def test_gaps_are_named_by_their_order(seconds, name):
    assert gap(seconds) == name


def test_taste_and_price():
    assert favourite_words(HISTORY, SHOP) == ["mug"]
    assert favourite_categories(HISTORY, SHOP) == ["Kitchen"]
    assert usual_price(HISTORY, SHOP) == 3.0 and usual_price((Event(2),), SHOP) is None


def test_phrases():
    assert describe(HISTORY, SHOP) == ["3 events", "likes Kitchen", "price about 3"]
    assert describe(HISTORY, SHOP, now=40 * DAY)[-1] == "last months ago"
    assert describe((), SHOP) == [] and describe((Event(2),), SHOP) == ["1 event"]
