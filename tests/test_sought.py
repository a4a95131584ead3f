"""What a wish seeks: its search words and facts, their vectors, and what they do to user vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_catalog, tuned

from llmrec.bundle import Bundle
from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.data.fact_columns import FACTS
from llmrec.decode.contract import Request
from llmrec.items.encoders import HashEncoder
from llmrec.items.search_vectors import SearchVectors
from llmrec.language_recommender import LanguageRecommender
from llmrec.model.assemble import save_model
from llmrec.model.head_arrays import read_head
from llmrec.model.query_head import WANTED
from llmrec.tune.collate import collate
from llmrec.tune.examples import ExampleBuilder
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.sought import ASKS, Sought, asks, search_words, sought

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
    ("objective", "weights"),
    [
        (Objective(), {}),
        (Objective(include_words=("jam",), max_price=3), {"include_words": 1, "max_price": 1}),
        (Objective(long_tail=True, price_level="low"), {"long_tail": 1, "price_level=low": 1}),
        (Objective(price_level="high", weights=(("price_level", 2.0),)), {"price_level=high": 2}),
        (Objective(fresh=True, min_value=0, like=0), {"fresh": 1, "min_value": 1, "like": 1}),
    ],
)
def test_what_is_asked_counts_as_much_as_a_wish_weighs_it(
    objective: Objective, weights: dict[str, float]
) -> None:
    found = asks(objective)
    assert {ask: weight for ask, weight in zip(ASKS, found, strict=bool(weights)) if weight} == weights
    assert sought(objective, Lexicon(CATALOG)).asks == found
    assert set(WANTED) <= set(ASKS) and set(WANTED.values()) <= set(FACTS)


def test_asks_stand_behind_words() -> None:
    weights = asks(Objective(long_tail=True))
    wish = Sought("jam", weights)
    both = SearchVectors(lambda: HashEncoder(8), 8)([wish, Sought("jam"), Sought()])
    assert np.array_equal(both[:2, :8], HashEncoder(8).encode(["jam", "jam"])) and not both[2].any()
    assert both[:, 8:].tolist() == [list(weights), [0.0] * len(ASKS), [0.0] * len(ASKS)]
    assert SearchVectors(Counting, 0)([wish]).tolist() == [list(weights)]


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
    assert np.array_equal(found[:, :8], HashEncoder(8).encode(["jam", "", "known", "jam"]))
    assert not found[1].any()
    assert np.array_equal(vectors([Sought("jam")])[0], found[0]) and encoder.read == ["jam"]
    assert vectors([]).shape == (0, 8 + len(ASKS))


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
    search = SearchVectors(HashEncoder, 384)
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


@pytest.mark.parametrize("parts", ["both", "id_only"])
def test_the_head_as_arrays_is_the_head(checkpoints, tmp_path: Path, parts: str) -> None:
    model, _, settings = tuned(checkpoints["llama"], tiny_catalog(), queries=3, parts=parts)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for value in model.head.parameters():
            value.normal_()
        (tmp_path / "saved").mkdir()
        save_model(tmp_path / "saved", settings, model)
        head = read_head(tmp_path / "saved", history_state=True)
        states = torch.randn(4, 1 + 3, 32)
        words = rng.standard_normal((4, head.search_width)).astype(np.float32)
        words[1] = 0
        sought = np.concatenate([words, rng.integers(0, 3, (4, len(ASKS))).astype(np.float32)], axis=1)
        newest = torch.tensor([[5, 2, 5], [1, -1, -1], [-1, -1, -1], [0, 3, -1]])
        recent = torch.cat([newest, -torch.ones(4, head.remembered - 3, dtype=torch.int64)], dim=1)
        table = model.items()
        search = torch.from_numpy(sought)
        if not model.head.searches:
            search = torch.cat([torch.randn(4, 5), search], dim=1)
        past = model.head.of_recent(table, recent, model.asks(search))
        expected = model.query_vectors(states, past, search)
        rows = [table[items[items >= 0], :16].numpy() for items in newest]
    asked = sought[:, head.search_width :]
    gained = model.head.gain_of_seen(
        torch.zeros(4, len(table)), torch.arange(len(table)), recent, search[:, -len(ASKS) :]
    )
    for row, items in enumerate(newest):
        found = np.zeros(len(table), dtype=np.float32)
        which, gains = head.gains(items[items >= 0].numpy(), asked[row])
        found[which] = gains
        np.testing.assert_allclose(found, gained[row].detach().numpy(), rtol=1e-4, atol=1e-3)
    sums = np.stack([head.of_recent(row, ask) for row, ask in zip(rows, asked, strict=True)])
    np.testing.assert_allclose(sums, past[:, :16].numpy(), rtol=1e-4, atol=1e-3)
    found = head.at_wish(states.numpy(), sums, sought)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-2)
