"""What a wish seeks: its search words and facts, their vectors, and what they do to user vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.bundle import Bundle
from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.data.fact_columns import FACTS
from llmrec.decode.contract import Request
from llmrec.items.encoders import HashEncoder
from llmrec.items.search_vectors import SearchVectors
from llmrec.language_recommender import LanguageRecommender
from llmrec.tune.collate import collate
from llmrec.tune.examples import ExampleBuilder
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.sought import Sought, search_words, sought, wanted_facts

CATALOG = Catalog(
    [
        Item("1", "Red Berries Jam", "Red Berries Jam", 3.0, ("Pantry",)),
        Item("2", "Berry Bowl", "Berry Bowl", 5.0, ("Kitchen",)),
    ]
)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Objective(), ""),
        (Objective(max_price=3, min_price=1, new_for_user=True, exclude_words=("mug",)), ""),
        (Objective(long_tail=True, price_level="low", exclude_categories=("Pantry",), event="buy"), ""),
        (Objective(include_words=("jam",), max_price=3), "jam"),
        (Objective(include_words=("red", "jam"), include_categories=("Pantry",)), "red jam, Pantry"),
        (Objective(like=0, season="christmas"), "Red Berries Jam, Christmas"),
        (Objective(include_attributes=(("brand", "Acme"),), rest="for my aunt"), "Acme, for my aunt"),
    ],
)
def test_search_words_are_what_a_text_can_be_near_to(objective: Objective, words: str) -> None:
    assert search_words(objective, Lexicon(CATALOG)) == words


def test_a_word_is_written_as_titles_write_it() -> None:
    stem = Lexicon(CATALOG).titles[0][1]
    assert search_words(Objective(include_words=(stem,)), Lexicon(CATALOG)) in ("berries", "berry")


@pytest.mark.parametrize(
    ("objective", "facts"),
    [
        (Objective(), {}),
        (Objective(include_words=("jam",), max_price=3, new_for_user=True, event="buy"), {}),
        (Objective(long_tail=True, price_level="low"), {"long_tail": 1, "cheap": 1}),
        (Objective(price_level="high", weights=(("price_level", 2.0),)), {"premium": 2}),
        (Objective(fresh=True, min_value=4, seen_before=True), {"fresh": 1, "rating": 1, "again": 1}),
    ],
)
def test_facts_are_wanted_as_much_as_a_wish_weighs_them(
    objective: Objective, facts: dict[str, float]
) -> None:
    found = wanted_facts(objective)
    assert dict(zip(FACTS, found, strict=False)) == (
        {name: facts.get(name, 0) for name in FACTS} if facts else {}
    )
    assert sought(objective, Lexicon(CATALOG)).facts == found


def test_facts_stand_behind_words() -> None:
    wish = Sought("jam", (0.0, 2.0))
    both = SearchVectors(lambda: HashEncoder(8), 8, 2)([wish, Sought("jam"), Sought()])
    assert np.array_equal(both[:2, :8], HashEncoder(8).encode(["jam", "jam"])) and not both[2].any()
    assert both[:, 8:].tolist() == [[0, 2], [0, 0], [0, 0]]
    assert SearchVectors(Counting, 0, 2)([wish]).tolist() == [[0, 2]]
    assert SearchVectors(Counting, 8, 0)([wish]).shape == (1, 8)


class Counting(HashEncoder):
    def __init__(self) -> None:
        super().__init__(8)
        self.read: list[str] = []

    def encode(self, texts):
        self.read += texts
        return super().encode(texts)


def test_each_text_is_read_once_and_no_text_is_zero() -> None:
    encoder = Counting()
    vectors = SearchVectors(lambda: encoder, 8)
    vectors.remember(["known"], HashEncoder(8).encode(["known"]))
    found = vectors([Sought("jam"), Sought(), Sought("known"), Sought("jam")])
    assert np.array_equal(found, HashEncoder(8).encode(["jam", "", "known", "jam"]))
    assert not found[1].any()
    assert np.array_equal(vectors([Sought("jam")])[0], found[0]) and encoder.read == ["jam"]
    assert vectors([]).shape == (0, 8)


def test_what_is_kept_is_bounded() -> None:
    encoder = Counting()
    vectors = SearchVectors(lambda: encoder, 8)
    vectors.remember(["always"], HashEncoder(8).encode(["always"]))
    for start in range(0, 30_000, 5_000):
        vectors([Sought(f"w{number}") for number in range(start, start + 5_000)])
    assert len(vectors._known) <= 20_001
    vectors([Sought("always"), Sought("w29999")])
    assert len(encoder.read) == 30_000


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> LanguageRecommender:
    return LanguageRecommender(Bundle(tiny_bundle))


def test_a_bundle_searches_as_its_model_was_trained_to(recommender: LanguageRecommender) -> None:
    """User vectors with search words are those of the training side, for several prompts in a batch."""
    bundle, catalog = recommender.bundle, recommender.catalog
    model, tokens = bundle.model(), bundle.tokens()
    assert model.head.searches and model.head.facts == len(FACTS)
    lexicon = Lexicon(catalog)
    meant = [
        Objective(like=1),
        Objective(),
        Objective(include_words=lexicon.titles[2][:1], long_tail=True),
        Objective(price_level="low", weights=(("price_level", 2.0),)),
    ]
    said = ["something like that", "", "one of those, lesser-known", "above all cheap"]
    histories = [(Event(3), Event(1)), (Event(2),), (), (Event(1), Event(4))]
    builder = ExampleBuilder(
        bundle.verbalizer(tuple(tokens.tokenizer.all_special_tokens)), tokens, None, ExampleSettings()
    )
    examples = [
        builder.question(history, words, {}, 0, sought(objective, lexicon))
        for history, words, objective in zip(histories, said, meant, strict=True)
    ]
    search = SearchVectors(HashEncoder, 384, len(FACTS))
    batch = collate(examples, tokens.queries, model.head.remembered, search=search)
    with torch.no_grad():
        states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1)[batch.query_rows]
        scores = model.best(states, model.items(), batch.query_recent, batch.query_search)
    requests = [
        Request(history, words, objective)
        for history, words, objective in zip(histories, said, meant, strict=True)
    ]
    assert np.allclose(recommender.scores(requests), scores.numpy(), atol=1e-4)
    assert [bool(row.any()) for row in batch.query_search] == [True, False, True, True]


def test_search_words_raise_what_is_near_to_them(recommender: LanguageRecommender) -> None:
    """Before anything is learnt about words, an item that a wish names is nearer than without the wish."""
    catalog = recommender.catalog
    item = next(at for at, one in enumerate(catalog.items) if one.title)
    history = (Event((item + 1) % len(catalog)),)
    plain, named = recommender.scores([Request(history), Request(history, "that", Objective(like=item))])
    gain = named - plain
    assert gain[item] > np.median(gain)


def test_a_wish_that_nobody_read_is_read(recommender: LanguageRecommender) -> None:
    title = next(one.title for one in recommender.catalog.items if one.title)
    history = (Event(0),)
    words = f"something like {title}"
    unread, read = recommender.scores(
        [
            Request(history, words),
            Request(history, words, Objective(like=recommender._lexicon.item_titled(title.lower().split()))),
        ]
    )
    assert np.allclose(unread, read, atol=1e-5)
