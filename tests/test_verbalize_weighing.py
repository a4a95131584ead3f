"""Words of weight: a preference never loosens what is asked for, and what does not hold is the model's."""

from __future__ import annotations

from typing import Any

import pytest

from llmrec.data.catalog import Catalog, Item
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse

ITEMS = (("Red Soap", 1.0, "1990s"), ("Blue Travel Mug", 4.0, "1980s"), ("Red Mug", 9.0, "1990s"))
CATALOG = Catalog(
    [Item(str(n), name, name, cost, (), {"era": era}) for n, (name, cost, era) in enumerate(ITEMS)], "USD"
)
LEXICON = Lexicon(CATALOG, ("rate",))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("under 3 dollars, preferably under 1 dollar", {"max_price": 3, "rest": "preferably under 1 dollar"}),
        ("preferably under 1 dollar, under 3 dollars", {"max_price": 3, "rest": "preferably under 1 dollar"}),
        ("under 3 dollars, above all under 1 dollar", {"max_price": 1, "weights": (("max_price", 2),)}),
        (
            "preferably under 3 dollars, ideally under 1 dollar",
            {"max_price": 1, "weights": (("max_price", 0.5),)},
        ),
        ("over 1 dollar, ideally over 2 dollars", {"min_price": 1, "rest": "ideally over 2 dollars"}),
        ("mug, preferably red", {"include_words": ("mug",), "rest": "preferably red"}),
        (
            "soap, preferably travel",  # no item has both: the word that is asked for stays
            {"include_words": ("soap",), "rest": "travel", "weights": (("rest", 0.5),)},
        ),
        ("no soap, preferably no mug", {"exclude_words": ("soap",), "rest": "preferably no mug"}),
        ("cheap and premium", {"price_level": "low", "rest": "premium"}),
        ("premium, ideally cheap", {"price_level": "high", "rest": "ideally cheap"}),
        (
            "rated at least 3, if possible rated at least 4",
            {"min_value": 3, "rest": "if possible rated at least 4"},
        ),
        (
            "era 1990s, preferably era 1980s",
            {"include_attributes": (("era", "1990s"),), "rest": "preferably era 1980s"},
        ),
        ("preferably red mug", {"include_words": ("red", "mug"), "weights": (("include_words", 0.5),)}),
    ],
)
def test_a_preference_never_loosens_what_is_asked_for(said: str, meant: dict[str, Any]):
    assert parse(said, LEXICON) == Objective(**meant)
