"""Beam search on tables: what exhaustive scoring gives, exact filters, full lists, variety, the edges."""

import importlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.data.facts import CategorySets
from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.caps import CategoryCap
from llmrec.decode.contract import Filters
from llmrec.decode.conventions import SCORES
from llmrec.decode.filters import FilterIndex
from llmrec.engines.table import TableContinuations, TableEngine
from llmrec.errors import LlmrecError
from llmrec.items.trie import Trie

WIDE, CODES = 1_000, 5
PROMPTS = [[1, 2], [3], [4, 5, 6]]


def codes(levels: int = 3, seed: int = 0, items: int = 60) -> np.ndarray:
    rows = np.unique(np.random.default_rng(seed).integers(0, CODES, (items, levels)), axis=0)
    return rows + CODES * np.arange(levels)


def titles(seed: int = 0, items: int = 60) -> np.ndarray:
    """Words of two to five letters from 1 to 4, 0 at the end; some twice."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, items)
    rows = rng.integers(1, 5, (items, 5))
    rows[np.arange(5) > lengths[:, None]] = -1
    rows[np.arange(items), lengths] = 0
    return rows


def score_of(engine: TableEngine, sequences, prompt, item: int, allowed, scores: str) -> float:
    """The score of an item by its definition."""
    own = sequences[item][sequences[item] >= 0]
    session, total = engine.begin([prompt]), 0.0
    for level, token in enumerate(own):
        alike = (sequences[:, :level] == own[:level]).all(axis=1) & allowed
        among = {
            "raw": np.unique(sequences[sequences[:, level] >= 0, level]),
            "renormalised": np.unique(sequences[alike, level]),
            "vocabulary": np.arange(engine.vocabulary),
        }[scores]
        row = session.log_probabilities(np.array([0]), [own[:level]], np.arange(engine.vocabulary), False)[0]
        total += row[token] - np.logaddexp.reduce(row[among].astype(np.float64))
    return total


def expected_lists(engine, sequences, prompts, k: int, allowed, scores: str) -> tuple[np.ndarray, np.ndarray]:
    """All items scored one by one; of equal scores the first in the order of the trie."""
    rank = Trie.build(sequences).rank
    index, score = np.full((len(prompts), k), -1), np.full((len(prompts), k), -np.inf)
    for row, prompt in enumerate(prompts):
        there = np.flatnonzero(allowed[row])
        own = np.array([score_of(engine, sequences, prompt, item, allowed[row], scores) for item in there])
        order = np.lexsort((rank[there], -np.round(own, 5)))[:k]
        index[row, : len(order)], score[row, : len(order)] = there[order], own[order]
    return index, score


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("sequences", [codes(), codes(1), codes(5, items=30), titles()], ids=len)
@pytest.mark.parametrize("share", [1.0, 0.3, 0.02])
def test_a_wide_beam_equals_exhaustive_scoring(sequences, scores: str, share: float) -> None:
    engine = TableEngine(30, seed=2)
    allowed = np.random.default_rng(3).random((3, len(sequences))) < share
    search = BeamSearch(Trie.build(sequences), engine, BeamSettings(width=WIDE, scores=scores))
    for k in (1, 7, len(sequences)):
        index, score = search.search(PROMPTS, k, allowed)
        items, values = expected_lists(engine, sequences, PROMPTS, k, allowed, scores)
        np.testing.assert_array_equal(index, items)
        np.testing.assert_allclose(score, values, atol=1e-5)
        assert index.dtype == np.int64 and score.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1 << 30), st.sampled_from(SCORES), st.integers(1, 12), st.integers(1, 40), st.booleans()
)
def test_a_batch_is_its_requests_one_by_one(seed, scores, width, longest, words) -> None:
    """Whatever their limits, and however long the lists of the others are."""
    rng = np.random.default_rng(seed)
    sequences = titles(seed) if words else codes(seed=seed)
    trie, engine = Trie.build(sequences), TableEngine(30, seed, steps=3 if seed % 2 else None)
    prompts = [rng.integers(0, 30, rng.integers(1, 4)).tolist() for _ in range(5)]
    allowed = rng.random((5, len(sequences))) < rng.choice([0.02, 0.5, 1.0], (5, 1))
    options = {"temperature": float(seed % 3), "groups": int(rng.integers(1, 4))}
    had = [np.unique(rng.integers(0, len(sequences), rng.integers(0, 6))) for _ in range(5)]
    gains = [(items, rng.normal(size=len(items)).astype(np.float32) * 5) for items in had]
    k, cap = rng.integers(1, longest + 1, 5), None
    if seed % 5 == 0:
        names = [tuple(rng.choice(["a", "b"], rng.integers(3), replace=False)) for _ in sequences]
        catalog = Catalog(Item(str(at), "", categories=own) for at, own in enumerate(names))
        cap = CategoryCap(CategorySets(catalog), 3)
    index, score = BeamSearch(trie, engine, BeamSettings(width, scores, batch=3, **options)).search(
        prompts, k, allowed, seeds=range(5), cap=cap, gains=gains
    )
    assert index.shape == score.shape == (5, k.max())
    search = BeamSearch(trie, engine, BeamSettings(width, scores, **options))
    for row in range(5):
        one, own = search.search(
            [prompts[row]], int(k[row]), allowed[row : row + 1], [row], cap, gains[row : row + 1]
        )
        np.testing.assert_array_equal(one[0], index[row, : k[row]])
        np.testing.assert_array_equal(own[0], score[row, : k[row]])
        assert (index[row, k[row] :] == -1).all()


def test_a_filtered_list_is_the_whole_list_less_what_is_forbidden() -> None:
    """For scores that do not depend on filters, and a beam that is wide enough."""
    sequences = codes()
    allowed = np.random.default_rng(3).random((3, len(sequences))) < 0.5
    for scores in ("raw", "vocabulary"):
        search = BeamSearch(Trie.build(sequences), TableEngine(30), BeamSettings(WIDE, scores))
        whole, _ = search.search(PROMPTS, len(sequences))
        some, _ = search.search(PROMPTS, len(sequences), allowed)
        for row in range(3):
            kept = whole[row][allowed[row][whole[row]]]
            assert some[row, : len(kept)].tolist() == kept.tolist()


@pytest.mark.parametrize("scores", SCORES)
def test_no_filter_and_a_filter_that_allows_all_are_one(scores: str) -> None:
    sequences = titles()
    search = BeamSearch(Trie.build(sequences), TableEngine(30), BeamSettings(4, scores))
    everything = np.ones((3, len(sequences)), dtype=bool)
    for one, other in zip(search.search(PROMPTS, 9), search.search(PROMPTS, 9, everything), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_narrow_beam_gives_full_lists() -> None:
    """However narrow, and whatever the filter leaves: as many items as are asked for or allowed."""
    sequences = codes()
    search = BeamSearch(Trie.build(sequences), TableEngine(30), BeamSettings(width=1))
    for allowed_items in (0, 1, 3, 20, len(sequences)):
        allowed = np.zeros((1, len(sequences)), dtype=bool)
        allowed[0, np.random.default_rng(0).permutation(len(sequences))[:allowed_items]] = True
        for k in (1, 2, 10, 100):
            index, score = search.search(PROMPTS[:1], k, allowed)
            found = index[index >= 0]
            assert len(set(found.tolist())) == len(found) == min(k, allowed_items)
            assert allowed[0, found].all() and np.isfinite(score[index >= 0]).all()


def test_filters_of_a_catalogue_are_exact() -> None:
    """Seen, retired, price and category through `FilterIndex`; what is left fills the list."""
    sequences = codes()
    items = [
        Item(
            str(at), "", price=float(at % 7), categories=("even",) if at % 2 == 0 else (), retired=at % 5 == 0
        )
        for at in range(len(sequences))
    ]
    filters = Filters(max_price=4, include_categories=("even",), exclude_seen=True)
    mask = FilterIndex(Catalog(items)).mask(filters, (Event(2), Event(4)))
    wanted = [at for at in range(len(items)) if at % 7 <= 4 and at % 2 == 0 and at % 5 and at not in (2, 4)]
    index, _ = BeamSearch(Trie.build(sequences), TableEngine(30)).search([[1]], 50, mask[None])
    assert sorted(index[index >= 0]) == wanted


def test_items_that_share_a_title_are_all_reached() -> None:
    sequences = np.array([[3, 0, -1], [2, 3, 0], [3, 0, -1], [3, 0, -1], [1, 0, -1]])
    search = BeamSearch(Trie.build(sequences), TableEngine(5), BeamSettings(WIDE))
    index, score = search.search([[1]], 5)
    place = index[0].tolist().index(0)
    assert index[0, place : place + 3].tolist() == [0, 2, 3] and sorted(index[0]) == list(range(5))
    assert len(set(score[0, place : place + 3].tolist())) == 1
    index, _ = search.search([[1]], 5, np.array([[True, True, False, True, True]]))
    assert sorted(index[0]) == [-1, 0, 1, 3, 4]


def test_single_ways_on_are_not_asked_for_when_renormalised() -> None:
    """Nor, when raw, levels that have one token; the scores stay those of the definition."""

    class Counting(TableContinuations):
        def log_probabilities(self, parents, *rest, **more):
            asked.append(len(parents))
            return super().log_probabilities(parents, *rest, **more)

    class CountingEngine(TableEngine):
        def begin(self, prompts):
            return Counting(self, prompts)

    asked: list[int] = []
    sequences = np.array([[9, 0, 3, 5], [9, 1, 4, 5], [9, 1, 4, 6], [9, 2, 4, 7]])
    trie = Trie.build(sequences)
    for scores, expected in (("raw", [1, 3, 3]), ("vocabulary", [1, 1, 3, 3]), ("renormalised", [1, 1])):
        asked.clear()
        index, _ = BeamSearch(trie, CountingEngine(10), BeamSettings(scores=scores)).search([[1]], 4)
        assert asked == expected and sorted(index[0]) == [0, 1, 2, 3]


def test_beams_of_one_pass_are_alike_in_width_and_wide_ones_few() -> None:
    began: list[list[int]] = []

    class WatchedEngine(TableEngine):
        def begin(self, prompts):
            began.append([prompt[0] for prompt in prompts])
            return super().begin(prompts)

    search = BeamSearch(
        Trie.build(np.arange(5_000)[:, None]), WatchedEngine(5_000), BeamSettings(20, batch=4)
    )
    lengths = np.array([9_000, 40, 1, 41, 3, 2_000, 20, 2, 2_000, 2_000])
    index, _ = search.search([[at] for at in range(10)], lengths)
    assert began == [[2, 4, 6, 7], [1, 3], [5, 8], [9], [0]]
    assert ((index >= 0).sum(axis=1) == np.minimum(lengths, 5_000)).all()


def test_raw_scores_compare_all_tokens_that_a_level_may_have() -> None:
    sequences, engine = np.array([[1, 4], [2, 5]]), TableEngine(8)
    levels = [np.array([0, 1, 2]), np.array([3, 4, 5, 6, 7])]
    _, score = BeamSearch(Trie.build(sequences), engine, levels=levels).search([[1]], 2)
    session = engine.begin([[1]])
    first = session.log_probabilities(np.array([0]), [np.array([], int)], levels[0], False)[0].astype(float)
    expected = []
    for one, two in sequences:
        then = session.log_probabilities(np.array([0]), [np.array([one])], levels[1], False)[0].astype(float)
        expected.append(first[one] - np.log(np.exp(first).sum()) + then[two - 3] - np.log(np.exp(then).sum()))
    np.testing.assert_allclose(score[0], sorted(expected)[::-1], atol=1e-5)
    with pytest.raises(ValueError, match="lack some"):
        BeamSearch(Trie.build(sequences), engine, levels=[levels[0], levels[0]])


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("sequences", [codes(), titles()], ids=len)
def test_an_item_that_gains_enough_is_first_however_narrow_the_beam(sequences, scores: str) -> None:
    """And one that loses leaves its place to the next."""
    trie, engine = Trie.build(sequences), TableEngine(30, sharpness=12)
    whole, values = BeamSearch(trie, engine, BeamSettings(WIDE, scores)).search(PROMPTS, len(sequences))
    search = BeamSearch(trie, engine, BeamSettings(1, scores))
    last = [(row[-1:], np.array([1_000], dtype=np.float32)) for row in whole]
    index, score = search.search(PROMPTS, 1, gains=last)
    assert index[:, 0].tolist() == whole[:, -1].tolist()
    np.testing.assert_allclose(score[:, 0], values[:, -1] + 1_000, atol=1e-3)
    first = [(row[:1], np.array([-1_000], dtype=np.float32)) for row in whole]
    index, _ = BeamSearch(trie, engine, BeamSettings(WIDE, scores)).search(PROMPTS, 3, gains=first)
    assert index.tolist() == whole[:, 1:4].tolist()
    nothing = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))] * 3
    plain = search.search(PROMPTS, 5)
    for one, other in zip(search.search(PROMPTS, 5, gains=nothing), plain, strict=True):
        np.testing.assert_array_equal(one, other)


# --- variety ------------------------------------------------------------------------------------------------


def test_first_tokens_are_drawn_by_their_probabilities() -> None:
    """With one place in the beam the first token is a draw from softmax(log p / temperature)."""
    sequences, engine = np.arange(6)[:, None], TableEngine(6, seed=5, sharpness=3)
    _, score = BeamSearch(Trie.build(sequences), engine, BeamSettings(WIDE)).search([[1]], 6)
    order, _ = BeamSearch(Trie.build(sequences), engine, BeamSettings(WIDE)).search([[1]], 6)
    for temperature in (0.5, 2.0):
        search = BeamSearch(
            Trie.build(sequences), engine, BeamSettings(1, temperature=temperature, batch=500)
        )
        index, _ = search.search([[1]] * 4_000, 1, seeds=range(4_000))
        shares = np.bincount(index[:, 0], minlength=6)[order[0]] / 4_000
        expected = np.exp(score[0] / temperature)
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.03)


def test_draws_depend_on_the_seed_alone_and_lists_stay_in_order() -> None:
    sequences = codes()
    search = BeamSearch(Trie.build(sequences), TableEngine(30), BeamSettings(4, temperature=2.0))
    index, score = search.search([[1]] * 4, 4, seeds=[7, 8, 7, 9])
    assert index[0].tolist() == index[2].tolist() and len({tuple(row) for row in index.tolist()}) > 1
    assert (np.diff(score, axis=1) <= 0).all()
    with pytest.raises(ValueError, match="needs a seed"):
        search.search([[1]], 4)


def test_groups_take_other_first_tokens() -> None:
    """A model that puts nearly all on one first token: groups with a penalty leave it."""
    sequences = codes(2)
    trie, engine = Trie.build(sequences), TableEngine(30, sharpness=25)

    def heads(**options):
        index, _ = BeamSearch(trie, engine, BeamSettings(4, **options)).search(PROMPTS, 4)
        return [len({int(sequences[item, 0]) for item in row}) for row in index]

    plain, parted = heads(), heads(groups=4, penalty=100.0)
    assert parted == [4, 4, 4] and max(plain) < 4
    assert heads(groups=2, penalty=100.0) >= [2, 2, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(1, 15), st.sampled_from(SCORES))
def test_capped_lists_take_the_best_that_fit(seed, most, k, scores) -> None:
    rng = np.random.default_rng(seed)
    sequences = codes(seed=seed)
    items = [
        Item(str(at), "", categories=tuple(rng.choice(["a", "b", "c"], rng.integers(3), replace=False)))
        for at in range(len(sequences))
    ]
    cap = CategoryCap(CategorySets(Catalog(items)), most)
    allowed = rng.random((3, len(items))) < 0.7
    search = BeamSearch(Trie.build(sequences), TableEngine(30, seed), BeamSettings(WIDE, scores))
    whole, values = search.search(PROMPTS, len(items), allowed)
    index, score = search.search(PROMPTS, k, allowed, cap=cap)
    for row in range(3):
        held = Counter(name for at in np.flatnonzero(allowed[row]) for name in items[at].categories)
        common = {name for name, count in held.items() if 10 * count > 9 * allowed[row].sum()}
        counts: Counter[str] = Counter()
        expected = []
        for item, value in zip(whole[row].tolist(), values[row].tolist(), strict=True):
            if (
                item >= 0
                and len(expected) < k
                and all(counts[name] < most for name in items[item].categories if name not in common)
            ):
                counts.update(items[item].categories)
                expected.append((item, value))
        length = len(expected)
        assert index[row, :length].tolist() == [item for item, _ in expected]
        np.testing.assert_allclose(score[row, :length], [value for _, value in expected], atol=1e-5)
        assert (index[row, length:] == -1).all()


# --- the edges ----------------------------------------------------------------------------------------------


def test_nothing_to_find_is_an_empty_list() -> None:
    trie = Trie.build(np.zeros((0, 0), dtype=int))
    index, score = BeamSearch(trie, TableEngine(3)).search([[1], [2]], 2)
    assert index.tolist() == [[-1, -1]] * 2 and np.isneginf(score).all()
    search = BeamSearch(Trie.build(codes()), TableEngine(30), BeamSettings(temperature=1.0, groups=3))
    assert search.search([], 4, seeds=[])[0].shape == (0, 4)
    nothing = np.zeros((1, len(codes())), dtype=bool)
    assert search.search([[1]], 3, nothing, seeds=[1])[0].tolist() == [[-1, -1, -1]]


def test_mistakes_are_named() -> None:
    for wrong, message in (
        ({"scores": "best"}, "scores is 'best', it must be one of: raw, renormalised, vocabulary"),
        ({"width": 0}, "width is 0, it must be at least 1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"groups": 0}, "groups is 0"),
        ({"penalty": -1.0}, "penalty is -1.0, it must be at least 0"),
    ):
        with pytest.raises(LlmrecError, match=message):
            BeamSettings(**wrong)
    with pytest.raises(LlmrecError, match="allow at least 1"):
        CategoryCap(CategorySets(Catalog([])), 0)
    search = BeamSearch(Trie.build(codes()), TableEngine(30, sharpness=float("nan")))
    with pytest.raises(LlmrecError, match="k is 0"):
        search.search([[1]], 0)
    with pytest.raises(LlmrecError, match="not finite"):
        search.search([[1]], 2)


def test_a_thousand_random_requests_have_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    fuzz = importlib.import_module("fuzz_decoding")
    total: Counter[str] = Counter()
    for number in range(1_000 // fuzz.BATCH + 1):
        total += fuzz.faults_of(fuzz.draw_case(np.random.default_rng([1, number])))
    assert total.pop("items") > 2_000 and not total
