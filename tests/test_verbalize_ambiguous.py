"""Words that could be several things: a category or a word of titles, a scenario or none, alternatives."""

import numpy as np
import pytest

from llmrec.data.catalog import Catalog, Item
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse
from llmrec.verbalize.wishes import WishMaker
from llmrec.verbalize.wordings import SETS

TITLES = (
    ("The King of Comedy", "Comedy|Drama"), ("Star Wars", "Action"), ("Mr. Horror", "Comedy"),
    ("Child's Play", "Horror"), ("Love and Horses", "Drama"), ("Trio of Mugs", "Children's"),
    *((f"Number {name}", "Comedy|Action") for name in ("One", "Two", "Three")),
    *((f"Letter {name}", "Horror|War") for name in ("Ay", "Bee", "Cee")),
    *((f"Colour {name}", "Children's|Drama|Mug") for name in ("Red", "Blue", "Green")),
)  # fmt: skip
FILMS = Lexicon(
    Catalog([Item(str(n), title, title, None, tuple(of.split("|"))) for n, (title, of) in enumerate(TITLES)])
)
THINGS = ("Country House Sign", "Made in France Mug", "Germany Football", "Live Laugh Love", "Red Mug")
SHOP = Lexicon(
    Catalog(
        [
            Item(str(n), title, title, 1.0 + n, (), {"colour": ("red", "blue")[n % 2], "size": float(n)})
            for n, title in enumerate(THINGS)
        ],
        "GBP",
    ),
    (),
    {"country": ("France", "Germany", "Japan"), "origin": ("Japan",)},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("comedy", {"include_categories": ("Comedy",)}),
        ("COMEDIES please", {"include_categories": ("Comedy",)}),
        ("from comedies", {"include_categories": ("Comedy",)}),
        ("Children's", {"include_categories": ("Children's",)}),
        ("romantic comedy", {"include_categories": ("Comedy",), "rest": "romantic"}),
        ("comedy and drama", {"include_categories": ("Comedy", "Drama")}),
        ("horror movies", {"include_categories": ("Horror",)}),
        ("not horror", {"exclude_categories": ("Horror",)}),
        ("not a horror film", {"exclude_categories": ("Horror",)}),
        ("no comedies or dramas", {"exclude_categories": ("Comedy", "Drama")}),
        ("nothing from horror or war", {"exclude_categories": ("Horror", "War")}),
        ("action, not war", {"include_categories": ("Action",), "exclude_categories": ("War",)}),
        # Alternatives are the model's: an item would have to be in both.
        ("action or war", {"rest": "action war"}),
        ("from action or war", {"rest": "from action or war"}),
        ("drama or number", {"rest": "drama number"}),
        # Words that a title has beside each other are words.
        ("star wars", {"include_words": ("star", "war")}),
        ("no star wars", {"exclude_words": ("war",)}),
        ("with the word comedy", {"include_words": ("comedy",)}),
        ('called "comedy"', {"include_words": ("comedy",)}),
        ("without the word horror", {"exclude_words": ("horror",)}),
    ],
)
def test_a_categorys_name_is_the_category_where_it_has_many_more_items(text, expected):
    assert parse(text, FILMS) == Objective(**expected)


def test_a_word_of_titles_stays_one_where_its_category_has_few_more_items():
    mugs = [Item("a", "Red Mug", categories=("Mug",)), Item("b", "Blue Mug", categories=("Mug",))]
    cups = [Item(str(n), "Cup", categories=("Mug",)) for n in range(2)]
    for more, expected in (
        ([], {"include_words": ("mug",)}),
        (cups[:1], {"include_words": ("mug",)}),
        (cups, {"include_categories": ("Mug",)}),
    ):
        assert parse("mugs", Lexicon(Catalog([*mugs, *more]))) == Objective(**expected)


@pytest.mark.parametrize("wordings", SETS)
@pytest.mark.parametrize(
    "wish",
    [
        Objective(include_words=("comedy",)),
        Objective(exclude_words=("horror",)),
        Objective(include_words=("king", "comedy"), exclude_words=("war",)),
        Objective(include_words=("comedy",), include_categories=("Comedy",), exclude_categories=("War",)),
    ],
)
def test_a_word_that_names_a_category_survives_words(wish, wordings):
    maker = WishMaker(FILMS.catalog, None, FILMS)
    assert not maker.says("comedy")
    for seed in range(80):
        said = maker.say(wish, np.random.default_rng(seed), wordings)
        assert parse(said, FILMS) == wish, said


@pytest.mark.parametrize(
    "text",
    [
        "when country is Narnia", "country: Narnia", "country should be Narnia", "the country is not Narnia",
        "something from France", "outside France", "outside of France", "not in France",
        "nothing from France", "I am from France", "near Germany", "I live in Narnia",
        "not when country is France",
        "country is not France", "not in country France", "in Japan",
        "in France or Germany", "in France or in Germany", "country France or Germany",
        "country is France or country is Germany", "in France or Narnia",
        "under 3 pounds or over 5 pounds", "under 3 or over 5", "3 pounds or 5 pounds",
        "between 1 and 2 pounds, or over 9 pounds", "under 1 pound or 3 pounds or over 5 pounds",
    ],
)  # fmt: skip
def test_what_is_not_a_part_of_the_data_or_one_of_alternatives_is_left_whole(text):
    read = parse(text, SHOP)
    assert read.parts == ("rest",)
    assert set(text.replace(",", "").split()) - set(read.rest.replace(",", "").split()) <= {"the", "or", "in"}
    also = parse(f"mugs, {text}", SHOP)
    assert also.parts == ("include_words", "rest") and also.include_words == ("mug",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I live in France", {"scenario": (("country", "France"),)}),
        ("we're based in the Germany", {"scenario": (("country", "Germany"),)}),
        ("mugs made in France", {"include_words": ("mug",), "scenario": (("country", "France"),)}),
        ("I live in Narnia and want mugs", {"include_words": ("mug",), "rest": "I live in Narnia"}),
        ("country house", {"include_words": ("country", "house")}),
        ("red mug from Germany under 3 pounds",
         {"include_words": ("red", "mug"), "max_price": 3, "rest": "from Germany"}),
        ("mugs, country is Narnia for less than 4 pounds",
         {"include_words": ("mug",), "max_price": 4, "rest": "country is Narnia"}),
        ("size: under 3 pounds", {"max_price": 3, "rest": "size"}),
        ("colour red or blue", {"include_attributes": (("colour", "red"), ("colour", "blue"))}),
        ("not colour red or colour blue", {"exclude_attributes": (("colour", "red"), ("colour", "blue"))}),
        ("2 or 3 mugs under 4 pounds", {"include_words": ("mug",), "max_price": 4, "rest": "2 3"}),
        ("3 pounds or less", {"max_price": 3}),
        ("mugs under 3 pounds or so", {"include_words": ("mug",), "max_price": 3}),
    ],
)  # fmt: skip
def test_what_the_data_has_is_still_read(text, expected):
    assert parse(text, SHOP) == Objective(**expected)
