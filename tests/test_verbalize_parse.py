"""From words to what can be enforced, and nothing that crashes it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse

TITLES = (
    "Garden Gnome", "Garden Rake", "Red Mug", "Mug Christmas Tree", "Lunch Bag Spaceboy", "Jumbo Bag Owls",
    "Red Retrospot Bowl", "Blue Bowl", "Doormat New England", "Gift Tags Vintage", "Hot Water Bottle Heart",
    "Beware Of The Cat Metal Sign", "12 Pencils Small Tube", "Like A Rolling Stone Poster", "Teacup Green",
)  # fmt: skip
SHOP = Lexicon(
    Catalog(
        [Item(str(number), title, price=1.0 + number) for number, title in enumerate(TITLES)]
        + [
            Item("c", "Face Cream", categories=("Skin Care", "Makeup")),
            Item("n", "", categories=("", "All")),
        ],
        "GBP",
    )
)
PHRASES = st.lists(
    st.sampled_from(
        (
            *" ".join(TITLES).lower().split(),
            "not",
            "no",
            "like",
            "under",
            "5",
            "£",
            "between",
            "and",
            "or",
            ",",
        )
        + (
            "for",
            "christmas",
            "from",
            "makeup",
            "skin",
            "care",
            "new",
            "me",
            "i",
            "haven't",
            "bought",
            "section",
        )
    ),
    max_size=14,
).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("garden things under 3 pounds", {"include_words": ("garden",), "max_price": 3}),
        ("less than £2.50 please", {"max_price": 2.5}),
        ("at most 50p", {"max_price": 0.5}),
        ("max 5", {"max_price": 5}),
        ("<= 5", {"max_price": 5}),
        ("I don't want to pay more than 7 quid", {"max_price": 7}),
        ("cheaper than 1,500 pounds", {"max_price": 1500}),
        ("under 2,50 EUR", {"max_price": 2.5}),
        ("over 3", {"min_price": 3}),
        ("not under £3", {"min_price": 3}),
        ("£3 or more", {"min_price": 3}),
        ("£3+", {"min_price": 3}),
        ("between 5 and 2 pounds", {"min_price": 2, "max_price": 5}),
        ("£2-£5", {"min_price": 2, "max_price": 5}),
        ("over 1 but under 4", {"min_price": 1, "max_price": 4}),
        ("under 9, at most 4", {"max_price": 4}),
        ("about 5 pounds", {"rest": "about 5 pounds"}),
        ("not a mug", {"exclude_words": ("mug",)}),
        ("no mugs or bags", {"exclude_words": ("mug", "bag")}),
        ("no mugs and something for the garden", {"exclude_words": ("mug",), "include_words": ("garden",)}),
        ("anything except christmas", {"exclude_words": ("christmas",)}),
        ("not a lunch bag", {"exclude_words": ("lunch",)}),
        ("not too expensive", {"rest": "not too expensive"}),
        ("no unicorns", {"rest": "no unicorns"}),
        ("something for christmas", {"season": "christmas"}),
        ("Valentine\u2019s Day presents", {"season": "valentine"}),
        ("new to me", {"new_for_user": True}),
        ("mugs I haven't bought yet", {"include_words": ("mug",), "new_for_user": True}),
        ("new england doormat", {"include_words": ("new", "england", "doormat")}),
        ("like the Red Retrospot Bowl", {"like": 6}),
        ('like "beware of the cat metal sign", under 2', {"like": 11, "max_price": 2}),
        ("similar to like a rolling stone poster", {"like": 13}),
        ("something like a retrospot bowl but cheaper", {"like": 6, "rest": "cheaper"}),
        ("like a unicorn", {"rest": "like a unicorn"}),
        ("I'd like a teacup", {"include_words": ("teacup",)}),
        ("from Makeup", {"include_categories": ("Makeup",)}),
        ("skin care under 5", {"include_categories": ("Skin Care",), "max_price": 5}),
        ("nothing from the skin care section", {"exclude_categories": ("Skin Care",)}),
        ("mugs or teacups", {"rest": "mugs teacups"}),
        ("hot water bottle", {"include_words": ("hot", "water", "bottle")}),
        ("purple garden mug", {"include_words": ("mug",), "rest": "purple garden"}),
        ("12 pencils", {"include_words": ("pencil",), "rest": "12"}),
        ("a nice gift", {"rest": "nice gift"}),
        ("hello, can you show me something please?", {}),
        ("🎁 für Oma", {"rest": "🎁 für Oma"}),
    ],
)  # fmt: skip
def test_wishes_as_people_write_them(text, expected):
    assert parse(text, SHOP) == Objective(**expected)
    assert parse(text.upper(), SHOP) == Objective(**expected | {"rest": expected.get("rest", "").upper()})


@settings(deadline=None)
@given(st.text() | PHRASES)
def test_no_text_crashes_it_and_what_it_says_is_sound(text):
    wish = parse(text, SHOP)
    prices = [price for price in (wish.min_price, wish.max_price) if price is not None]
    assert all(0 <= price < 1e12 for price in prices)
    assert not wish.include_words or SHOP.items_with_all(wish.include_words)
    assert all(SHOP.in_titles(stem) for stem in wish.include_words + wish.exclude_words)
    assert wish.like is None or 0 <= wish.like < len(TITLES) + 2
    assert wish == parse(text, SHOP)


@pytest.mark.parametrize(
    "text", ["9" * 999, "under " * 999, "not " * 999 + "mug", "a," * 50_000, "<" * 9999, "\x00"]
)
def test_long_and_odd_texts_are_read_quickly(text):
    assert isinstance(parse(text, SHOP), Objective)


def test_where_nothing_has_a_price_bounds_are_left_to_the_model():
    for catalog in (Catalog([]), Catalog([Item("m", "Blue mug")], "USD")):
        for words in ("mugs under 5", "mugs between 3 and 5 dollars", "a mug for at most $5"):
            found = parse(words, Lexicon(catalog))
            assert found.min_price is found.max_price is None and "5" in found.rest
            assert not set(found.include_words) & {"5", "3", "dollar"}
