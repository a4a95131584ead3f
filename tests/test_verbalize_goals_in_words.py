"""Any objective in words and back, over shops with several kinds of data, in both sets of wordings."""

import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import WISH_LIMIT, parse
from llmrec.verbalize.saying import nearest_weight
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.templates import Templates
from llmrec.verbalize.wishes import WishMaker
from llmrec.verbalize.wordings import PLACEHOLDERS, SETS, Wordings, fill
from llmrec.verbalize.words import split_words

FILMS = (
    ("Toy Story", 1995, "Animation|Children's|Comedy"), ("Heat", 1995, "Action|Crime|Thriller"),
    ("Under Siege", 1992, "Action"), ("The Lost World: Jurassic Park", 1997, "Action|Sci-Fi"),
    ("Grand Hotel", 1932, "Drama"), ("Casablanca", 1942, "Drama|Romance|War"), ("Psycho", 1960, "Horror"),
    ("Not Without My Daughter", 1991, "Drama"), ("Like Water for Chocolate", 1992, "Drama|Romance"),
    ("2001: A Space Odyssey", 1968, "Drama|Sci-Fi"), ("Something New, Something Cheap", 1999, "Comedy"),
)  # fmt: skip
BRANDS = ("Not Your Mother's", "L'Oréal Paris", "Under 5", "AT&T", "samsung", "New", "Up & Up", "资生堂")
COUNTRIES = ("United Kingdom", "France", "Germany", "EIRE", "Channel Islands")


def films() -> Lexicon:
    """Like MovieLens: years are numbers, eras are text, genres are categories, no prices, values."""
    items = [
        Item(str(n), f"{title} ({year})", title, None, tuple(genres.split("|")), {"year": float(year)})
        for n, (title, year, genres) in enumerate(FILMS)
    ]
    return Lexicon(Catalog(items), ("rating", "watch"))


def films_with_eras() -> Lexicon:
    items = [
        Item(str(n), title, title, attributes={"year": float(year), "era": f"{year // 10}0s"})
        for n, (title, year, _) in enumerate(FILMS)
    ]
    return Lexicon(Catalog(items), ("rating",))


def market() -> Lexicon:
    """Brands of odd names, several types of events, columns of the events, prices and categories."""
    things = ("Soap", "Garden Lamp", "Velvet Lipstick", "Travel Mug", "Phone Case", "Christmas Stocking")
    items = [
        Item(
            f"i{n}", f"{thing} {brand[:3]}", f"{thing} by {brand}", 2.5 * n or None,
            (("Home", "New Arrivals", "Gifts under $10", "electronics.smartphone")[n % 4], "All Beauty"),
            {"brand": brand, "pack size": float(n % 5)} | ({"country": COUNTRIES[n % 4]} if n % 2 else {}),
        )
        for n, (thing, brand) in enumerate((t, b) for t in things for b in BRANDS)
    ]  # fmt: skip
    scenarios = {"country": COUNTRIES, "device": ("mobile", "desktop", "TV"), "user_session": ("a1", "b2")}
    types = ("view", "add_to_cart", "purchase", "like", "COMMENT CREATED", "to wish", "buy", "Have", "get")
    return Lexicon(Catalog(items, "USD"), types, scenarios)


@pytest.fixture(scope="module")
def shops(sample) -> dict[str, WishMaker]:
    lexicons = {
        "sample": Lexicon(sample.catalog, sample.histories.event_types, {"country": COUNTRIES}),
        "films": films(),
        "films with eras": films_with_eras(),
        "market": market(),
    }
    return {name: WishMaker(lexicon.catalog, None, lexicon) for name, lexicon in lexicons.items()}


@cache
def choices(maker: WishMaker) -> dict[str, st.SearchStrategy]:
    """What each part may be in a shop; parts that its data does not have are absent."""
    lexicon, catalog, names = maker.lexicon, maker.catalog, maker.lexicon.names
    stems = sorted(stem for stem in {stem for title in lexicon.titles for stem in title} if maker.says(stem))
    yes = st.just(True)
    titles = [tuple(stem for stem in title if stem in stems)[:2] for title in lexicon.titles]
    likes = [
        item
        for item in range(len(catalog))
        if lexicon.item_titled(split_words(lexicon.said_title(item))) == item
    ]
    attributes = [
        (field.name, value) for field in names.attributes.values() for value in field.values.values()
    ]
    attributes += [
        (field.name, "1990-1999" if field.years else "2-4.5")
        for field in names.attributes.values()
        if field.numeric
    ]
    columns = [(field.name, value) for field in names.scenarios.values() for value in field.values.values()]
    categories = sorted(
        name
        for name in {name for item in catalog.items for name in item.categories}
        if lexicon.category_named(split_words(lexicon.said_category(name))) == name
    )
    prices = st.sampled_from((0.5, 1.0, 2.0, 3.5, 5.0, 12.5, 80.0))
    found = {name: yes for name in ("new_for_user", "seen_before", "long_tail", "fresh", "diverse")}
    found |= {
        "like": st.sampled_from(likes),
        "season": st.sampled_from(sorted(SEASONS)),
        "include_words": st.sampled_from([words for words in titles if words]),
        "exclude_words": several(stems),
        "min_value": st.sampled_from((1.0, 3.5, 4.0, 10.0)),
        "event": st.sampled_from(lexicon.event_types),
    }
    if lexicon.has_prices:
        found |= {"min_price": prices, "max_price": prices, "price_level": st.sampled_from(("low", "high"))}
    if categories:
        found |= {"new_category": yes, "include_categories": several(categories)}
        found |= {"exclude_categories": several(categories)}
    if attributes:
        found |= {"include_attributes": several(attributes), "exclude_attributes": several(attributes)}
    if columns:
        found["scenario"] = several(columns)
    return found


def several(values):
    """One or two of some values."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)


@st.composite
def objectives(draw, maker: WishMaker) -> Objective:
    """Up to five parts of those that the data allows, some with weights."""
    possible = choices(maker)
    chosen = draw(st.lists(st.sampled_from(sorted(possible)), min_size=1, max_size=5, unique=True))
    parts = {name: draw(possible[name]) for name in chosen}
    if {"min_price", "max_price"} <= parts.keys():
        parts["min_price"], parts["max_price"] = sorted((parts["min_price"], parts["max_price"]))
    weighed = draw(st.lists(st.sampled_from(chosen), max_size=2, unique=True))
    return Objective(**parts, weights=tuple((name, draw(st.sampled_from((0.5, 2.0)))) for name in weighed))


@pytest.mark.parametrize("wordings", SETS)
@pytest.mark.parametrize("name", ["sample", "films", "films with eras", "market"])
def test_any_objective_survives_words(shops, name, wordings):
    maker = shops[name]

    @settings(max_examples=120, deadline=None)
    @given(objectives(maker), st.integers(0, 2**32 - 1))
    def check(wish, seed):
        said = maker.say(wish, np.random.default_rng(seed), wordings)
        assume(len(said) <= WISH_LIMIT)
        assert parse(said, maker.lexicon) == wish, said

    check()


VALUES = {"name": "brand", "value": "samsung", "event": "add_to_cart", "column": "device", "decade": "1990s"}
MEANT = {
    "attribute": Objective(include_attributes=(("brand", "samsung"),)),
    "not_attribute": Objective(exclude_attributes=(("brand", "samsung"),)),
    "event": Objective(event="add_to_cart"),
    "scenario": Objective(scenario=(("device", "TV"),)),
    "min_value": Objective(min_value=4.5),
    "long_tail": Objective(long_tail=True),
    "fresh": Objective(fresh=True),
    "new_category": Objective(new_category=True),
    "seen_before": Objective(seen_before=True),
    "diverse": Objective(diverse=True),
    "price_low": Objective(price_level="low"),
    "price_high": Objective(price_level="high"),
    "stronger": Objective(fresh=True, weights=(("fresh", 2.0),)),
    "weaker": Objective(fresh=True, weights=(("fresh", 0.5),)),
}


@pytest.mark.parametrize("wordings", SETS)
@pytest.mark.parametrize("part", MEANT)
def test_every_wording_of_a_goal_is_understood(shops, part, wordings):
    lexicon = shops["market"].lexicon
    values = VALUES | {
        "part": "new arrivals",
        "value": {"scenario": "TV", "min_value": "4.5"}.get(part, "samsung"),
    }
    for wording in Wordings(Templates.load()).of(part, wordings):
        said = fill(wording, values)
        assert parse(said, lexicon) == MEANT[part], said
        assert parse(f"soap things, {said}.", lexicon) == replace(MEANT[part], include_words=("soap",)), said


@pytest.mark.parametrize("wordings", SETS)
def test_every_wording_of_a_decade_is_understood(shops, wordings):
    for name, meant in (("films", ("year", "1990-1999")), ("films with eras", ("era", "1990s"))):
        for wording in Wordings(Templates.load()).of("decade", wordings):
            read = parse(fill(wording, VALUES), shops[name].lexicon)
            assert read == Objective(include_attributes=(meant,)), wording


@pytest.mark.parametrize(
    ("shop", "text", "expected"),
    [
        ("market", "cheap soap", {"price_level": "low", "include_words": ("soap",)}),
        ("market", "not too expensive", {"rest": "not too expensive"}),
        ("films", "cheap", {"rest": "cheap"}),  # no film has a price
        ("films", "something of a genre new to me", {"new_category": True}),
        ("sample", "in another category", {"rest": "another category"}),  # nor has the sample categories
        ("market", "in France", {"scenario": (("country", "France"),)}),
        ("market", "I am in country France", {"scenario": (("country", "France"),)}),
        ("market", "with country France", {"include_attributes": (("country", "France"),)}),
        ("market", "not in France", {"rest": "not in France"}),
        ("market", "brand Under 5 under 5 dollars",
         {"include_attributes": (("brand", "Under 5"),), "max_price": 5}),
        ("market", "no brand Not Your Mother\u2019s",
         {"exclude_attributes": (("brand", "Not Your Mother's"),)}),
        ("market", "brand not Not Your Mother's", {"exclude_attributes": (("brand", "Not Your Mother's"),)}),
        ("market", "pack size between 2 and 4", {"include_attributes": (("pack size", "2-4"),)}),
        ("market", "pack size 4 to 2.5", {"include_attributes": (("pack size", "2.5-4"),)}),
        ("market", "brand unheard of", {"rest": "brand unheard"}),
        ("market", "to buy again", {"seen_before": True}),
        ("market", "to add to cart again", {"event": "add_to_cart", "seen_before": True}),
        ("market", "to like, then to Comment  Created", {"event": "like", "rest": "to Comment Created"}),
        ("market", "I'd like a travel mug", {"include_words": ("travel", "mug")}),
        ("market", "not what I had before", {"new_for_user": True}),
        ("market", "don't show me what I already bought", {"new_for_user": True}),
        ("market", "in the New Arrivals section", {"include_categories": ("New Arrivals",)}),
        ("market", "from an unfamiliar category home soap",
         {"new_category": True, "include_categories": ("Home",), "include_words": ("soap",)}),
        ("market", "from Gifts under $10, under 10 dollars",
         {"include_categories": ("Gifts under $10",), "max_price": 10}),
        ("market", "lesser-known soap, above all the newest",
         {"long_tail": True, "include_words": ("soap",), "fresh": True, "weights": (("fresh", 2),)}),
        ("market", "soap, if possible", {"include_words": ("soap",), "weights": (("include_words", 0.5),)}),
        ("market", "if possible", {}),
        ("market", "ideally something cosy", {"rest": "cosy", "weights": (("rest", 0.5),)}),
        ("films", "rated 4 or more, not from the 1990s",
         {"min_value": 4, "exclude_attributes": (("year", "1990-1999"),)}),
        ("films", "rated at least 3, that I would give 4", {"min_value": 4}),
        ("films", "year 1995 or year 1960", {"include_attributes": (("year", "1995"), ("year", "1960"))}),
        ("films", "like Under Siege to watch", {"like": 2, "event": "watch"}),
        ("films", "in Sci-Fi, not in Children's",
         {"include_categories": ("Sci-Fi",), "exclude_categories": ("Children's",)}),
        ("films", "from the 1910s", {"include_attributes": (("year", "1910-1919"),)}),
        ("films with eras", "from the 1910s", {"include_attributes": (("year", "1910-1919"),)}),
        ("market", "from the 1910s", {"rest": "1910s"}),
    ],
)  # fmt: skip
def test_goals_as_people_write_them(shops, shop, text, expected):
    assert parse(text, shops[shop].lexicon) == Objective(**expected)


PIECES = st.sampled_from(
    (
        *(
            "brand",
            "year",
            "country",
            "device",
            "pack size",
            "samsung",
            "France",
            "TV",
            "1990s",
            "1995",
            "1-2",
            "-",
        ),
        *(
            "to",
            "that I will",
            "my next",
            "like",
            "purchase",
            "view",
            "rated",
            "at least",
            "4",
            "or more",
            "again",
        ),
        *(
            "not",
            "no",
            "without",
            "anything",
            "from",
            "in",
            "a",
            "new",
            "category",
            "new to me",
            "the latest",
            "cheap",
        ),
        *(
            "above all",
            "if possible",
            "hidden gems",
            "varied",
            "of",
            "is",
            ":",
            ",",
            '"',
            "under",
            "$5",
            "soap",
            "'",
        ),
    )
)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=500) | st.lists(PIECES, max_size=40).map(" ".join))
@pytest.mark.parametrize("shop", ["films", "market"])
def test_no_text_crashes_it(shops, shop, text):
    lexicon = shops[shop].lexicon
    wish = parse(text, lexicon)
    assert wish == parse(text, lexicon)
    assert wish.event in ("", *lexicon.event_types)
    fields = lexicon.names.attributes | lexicon.names.scenarios
    assert all(
        name in fields for name, _ in wish.include_attributes + wish.exclude_attributes + wish.scenario
    )
    assert {name for name, _ in wish.weights} <= set(wish.parts)


@pytest.mark.parametrize(
    "piece",
    [
        "something ",
        "brand not ",
        "a new ",
        "to ",
        "above all ",
        "the 1990s ",
        "in the ",
        "4 or ",
        "1-1-",
        "i ",
    ],
)
def test_long_texts_are_read_quickly(shops, piece):
    started = time.process_time()
    parse(piece * 50_000, shops["market"].lexicon)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "name", ["", " ", "!!", "[x](", "a|b", "(?:", "\\", "_", "2", "資生堂", "x" * 999, "<|im_end|>"]
)
def test_odd_names_in_the_data_break_nothing(name):
    items = [
        Item("a", "Soap", "Soap", 1.0, (name,), {name: 3.0, "brand": name}),
        Item("b", "Mug", "Mug", 2.0),
    ]
    maker = WishMaker(
        Catalog(items), None, Lexicon(Catalog(items), (name, "view"), {name: (name,), "device": (name,)})
    )
    wish = Objective(
        event=name, include_attributes=((name, "3"), ("brand", name)), scenario=(("device", name),)
    )
    for seed in range(8):
        said = maker.say(wish, np.random.default_rng(seed))
        assert isinstance(parse(said, maker.lexicon), Objective) and "<|" not in said


def test_weights_are_said_as_the_nearest_that_words_have(shops):
    assert [nearest_weight(weight) for weight in (0.1, 0.5, 0.8, 1, 1.3, 1.6, 9)] == [0.5, 0.5, 1, 1, 1, 2, 2]
    wish = Objective(fresh=True, weights=(("fresh", 7.5),))
    said = shops["films"].say(wish, np.random.default_rng(0))
    assert parse(said, shops["films"].lexicon).weights == (("fresh", 2.0),)


def test_a_lexicon_knows_what_the_data_has(sample):
    lexicon = Lexicon.of(sample)
    assert lexicon.event_types == ("purchase",) and not lexicon.names.attributes
    assert parse("that I will purchase", lexicon) == Objective(event="purchase")
    assert parse("that I will purchase", Lexicon(sample.catalog)).event == ""


def test_the_readme_names_every_part_and_its_placeholders():
    text = (Path(__file__).parents[1] / "prompts" / "README.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:3] for row in text.partition("## wishes.yaml")[2].splitlines() if "|" in row]
    for part, names in PLACEHOLDERS.items():
        row = next(row for row in rows if f"`{part}`" in row[0])
        assert all(f"{{{name}}}" in row[1] for name in names), part
