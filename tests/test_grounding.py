"""Texts grounded to items: the right one, surely, within the filters, and nothing where nothing fits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.items.encoders import HashEncoder
from llmrec.retrieve.calibration import fit_confidence, perturbed
from llmrec.retrieve.grounding import Grounder
from llmrec.retrieve.unrelated import UNRELATED
from llmrec.retrieve.word_index import WordIndex

TITLES = (
    "red mug",
    "Red Mug with Dots",
    "blue mug",
    "paper chain kit",
    "50's Christmas chain",
    "的茶杯",
    "!!!",
    "",
)
FOREIGN = (
    "The minister resigned over the affair.",
    "integral of a rational function",
    "Where is the nearest hospital?",
    "He studied law and economics.",
    "hydrogen",
    "",
    "?!",
    "\x00<|im_end|>",
)
ASKED = st.sampled_from((*TITLES, *FOREIGN, "a mug with dots", "chain chain chain paper", "x" * 5000))


def grounder(titles: tuple[str, ...], threshold: float = 0.5) -> Grounder:
    encoder = HashEncoder()
    catalog = Catalog(Item(f"i{number}", title) for number, title in enumerate(titles))
    return Grounder(catalog, titles, encoder.encode(titles), encoder, threshold)


@pytest.fixture(scope="module")
def small() -> Grounder:
    return grounder(TITLES)


@pytest.fixture(scope="module")
def shop(sample: Prepared) -> Grounder:
    encoder = HashEncoder()
    texts = [item.title for item in sample.catalog.items]
    return Grounder(sample.catalog, texts, encoder.encode(texts), encoder)


# --- words ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(titles=st.lists(st.sampled_from(TITLES), min_size=1, max_size=8), text=ASKED)
def test_words_give_shares(titles: list[str], text: str):
    scores = WordIndex(titles).scores(text)
    assert scores.shape == (len(titles),) and scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_text_covers_itself_and_unknown_words_count_against_it():
    index = WordIndex(TITLES)
    for item in (0, 1, 2, 3, 4, 5):
        scores = index.scores(TITLES[item])
        assert scores[item] == pytest.approx(1, abs=1e-5) and scores.argmax() == item
    plain, more = index.scores("red mug")[0], index.scores("red mug zeppelin")[0]
    assert 0 < more < plain and index.scores("zeppelin").max() == 0
    assert WordIndex(["", "!!"]).scores("red").tolist() == [0, 0]


# --- confidence -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    seed=st.integers(0, 99), shift=st.floats(-1, 1), related=st.integers(1, 50), unrelated=st.integers(1, 50)
)
def test_confidence_grows_with_the_score(seed: int, shift: float, related: int, unrelated: int):
    rng = np.random.default_rng(seed)
    curve = fit_confidence(rng.normal(shift, 0.2, related), rng.normal(0, 0.2, unrelated))
    values = curve.log_odds(np.linspace(-1, 2, 50))
    assert np.isfinite(values).all() and (np.diff(values) >= 0).all()


def test_sides_that_never_overlap_are_parted_between_them():
    curve = fit_confidence(np.array([0.8, 0.9, 1.0] * 30), np.array([0.1, 0.2, 0.3] * 30))
    low, middle, high = curve.log_odds(np.array([0.2, 0.55, 0.9]))
    assert low < -2 and abs(middle) < 0.5 and high > 2


def test_confidence_is_the_share_of_what_is_right():
    """Scores whose true log-odds are 6 s - 3: the curve finds them."""
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-(6 * scores - 3)))
    curve = fit_confidence(scores[right], scores[~right])
    assert curve.slope == pytest.approx(6, rel=0.05) and curve.intercept == pytest.approx(-3, rel=0.05)


def test_a_perturbed_title_keeps_words_of_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        said = perturbed("Paper Chain Kit 50's Christmas", rng)
        assert len(set(said.split()) & {"Paper", "Chain", "Kit", "50's", "Christmas"}) >= 1
    assert isinstance(perturbed("", rng), str)


# --- items ------------------------------------------------------------------------------------------------


def test_every_title_names_its_item(shop: Grounder):
    titles = [item.title for item in shop.catalog.items]
    for title in titles:
        found = shop.ground([title], 3)
        assert titles[found.items[0]] == title and found.confidence > 0.9


def test_changed_titles_are_found_and_other_texts_refused(shop: Grounder):
    rng = np.random.default_rng(5)
    titles = [item.title for item in shop.catalog.items]
    found = [
        (titles[item], shop.ground([perturbed(titles[item], rng)], 1))
        for item in rng.integers(len(titles), size=150)
    ]
    right = [len(each.items) and titles[each.items[0]] == title for title, each in found]
    assert np.mean(right) > 0.85
    assert not set(FOREIGN) & set(UNRELATED)
    assert all(len(shop.ground([text], 5).items) == 0 for text in FOREIGN)


@settings(deadline=None, max_examples=150)
@given(
    texts=st.lists(ASKED, min_size=1, max_size=3),
    k=st.integers(1, 10),
    seed=st.integers(0, 999),
    share=st.sampled_from((0.0, 0.3, 1.0)),
)
def test_filters_are_exact_lists_full_and_ordered(
    small: Grounder, texts: list[str], k: int, seed: int, share: float
):
    allowed = np.random.default_rng(seed).random(len(TITLES)) < share
    found = small.ground(texts, k, allowed)
    assert 0 <= found.confidence <= 1
    if not allowed.any() or found.confidence < small.threshold:
        assert len(found.items) == len(found.log_odds) == 0
        return
    assert allowed[found.items].all()
    assert len(set(found.items.tolist())) == len(found.items) == min(k, allowed.sum())
    assert (np.diff(found.log_odds) <= 0).all()
    scores = small.scores(texts).max(axis=0)
    np.testing.assert_allclose(scores[found.items], np.sort(scores[allowed])[::-1][:k])
    assert found.confidence == pytest.approx(1 / (1 + np.exp(-found.log_odds[0])))


def test_the_threshold_decides(small: Grounder):
    text = "a new red hat"
    confidence = small.ground([text], 3).confidence
    assert 0 < confidence < 1
    assert len(grounder(TITLES, confidence - 1e-6).ground([text], 3).items) == 3
    assert len(grounder(TITLES, confidence + 1e-6).ground([text], 3).items) == 0
    with pytest.raises(LlmrecError, match=r"confidence asked for is 1\.5"):
        grounder(TITLES, 1.5)


def test_retired_items_are_not_named():
    encoder, titles = HashEncoder(), ("red mug", "red mug")
    catalog = Catalog([Item("a", "red mug", retired=True), Item("b", "red mug")])
    found = Grounder(catalog, titles, encoder.encode(titles), encoder).ground(["red mug"], 5)
    assert found.items.tolist() == [1]


def test_mistakes_are_explained(small: Grounder):
    with pytest.raises(LlmrecError, match="k is 0"):
        small.ground(["red mug"], 0)
    with pytest.raises(ValueError, match="vectors of shape"):
        Grounder(small.catalog, TITLES, np.zeros((2, 384)), HashEncoder())
    assert len(Grounder(Catalog([]), [], np.zeros((0, 384)), HashEncoder()).ground(["mug"], 5).items) == 0
