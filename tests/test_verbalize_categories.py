"""A category's name said alone: the category where that is what people mean, else words of titles."""

from __future__ import annotations

from typing import Any

import pytest

from llmrec.data.catalog import Catalog, Item
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse

FILMS = (
    *((f"Night {number}", "Horror") for number in range(3)),
    ("Horror Hotel", "Horror"),
    ("Kings of Comedy", "Comedy"),
    *((f"Laughs {number}", "Comedy") for number in range(5)),
    ("War of the Worlds", "War"),
    ("Star Wars", "War"),
    *((f"Front {number}", "War") for number in range(6)),
    ("Blue Bag", "Bag"),
    ("Red Bag", "Bag"),
    ("Tears", "Drama"),
)
LEXICON = Lexicon(
    Catalog([Item(str(n), title, title, None, (kind,)) for n, (title, kind) in enumerate(FILMS)])
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("horror", {"include_categories": ("Horror",)}),  # four films, one title
        ("horrors", {"include_categories": ("Horror",)}),
        ("not horror", {"exclude_categories": ("Horror",)}),
        ("no comedies or dramas", {"exclude_categories": ("Comedy", "Drama")}),
        ("no horror hotel", {"exclude_words": ("hotel",)}),
        ("horror hotel", {"include_words": ("horror", "hotel")}),  # a title has both words
        ("star wars", {"include_words": ("star", "war")}),
        ("war", {"include_categories": ("War",)}),
        ("bag", {"include_words": ("bag",)}),  # the kind of what is called so
        ("not a bag", {"exclude_words": ("bag",)}),
        ("horror or comedy", {"rest": "horror comedy"}),  # no item has to be both
        ("drama or horror", {"rest": "drama horror"}),
        ("drama", {"include_categories": ("Drama",)}),
    ],
)
def test_a_name_said_alone(said: str, meant: dict[str, Any]):
    assert parse(said, LEXICON) == Objective(**meant)
