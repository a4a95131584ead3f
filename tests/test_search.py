"""Search: exact in blocks, honest about filters at every size, and one request at a time or many alike."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmrec.errors import BundleError, LlmrecError
from llmrec.retrieve import exact
from llmrec.retrieve import index as index_module
from llmrec.retrieve.exact import all_scores, exact_top_k, max_scores, top_k_of
from llmrec.retrieve.index import ItemIndex
from llmrec.retrieve.indexing import build_index
from llmrec.retrieve.rank import top_k
from llmrec.retrieve.search import ItemSearch
from llmrec.retrieve.settings import SearchSettings
from llmrec.retrieve.storage import as_float32, open_vectors, write_vectors

ITEMS, INNER = 3_000, 16


def catalogue(seed: int = 0, items: int = ITEMS, inner: int = INNER) -> np.ndarray:
    """Rows around a few centres, some rows much longer than others, as trained rows are."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, inner))[rng.integers(40, size=items)]
    rows += 0.5 * rng.standard_normal(rows.shape)
    return (rows * rng.uniform(0.3, 1.0, (items, 1))).astype(np.float32)


def users(seed: int = 1, count: int = 8, queries: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((count, 1, INNER)) + 0.5 * rng.standard_normal((count, queries, INNER))
    return own.astype(np.float32)


def whole(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The definition: all scores, float32 [n, items]."""
    return np.einsum("nmi,vi->nmv", queries, vectors.astype(np.float32)).max(axis=1)


@pytest.fixture(scope="module", params=["hnsw", "ivfpq"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ItemIndex:
    return build_index(catalogue(), tmp_path_factory.mktemp("index") / "index", request.param)


def searching(index: ItemIndex | None, vectors: np.ndarray | None = None, **changes: object) -> ItemSearch:
    values = {"exact_up_to": 0, **changes}
    return ItemSearch(catalogue() if vectors is None else vectors, index, SearchSettings(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize("exact_up_to", [0, 100_000])
@pytest.mark.parametrize("left", [1.0, 0.5, 0.01])
def test_gains_are_as_if_scores_had_them(index: ItemIndex, exact_up_to: int, left: float) -> None:
    """Items that gain climb from anywhere, those that lose leave room for what comes behind them."""
    rng = np.random.default_rng(0)
    vectors, queries, k = catalogue(), users(), 10
    scores, allowed = whole(vectors, queries), rng.random((8, ITEMS)) < left
    gains = []
    for row in range(8):
        best = np.argsort(-scores[row])[:12]
        items = np.unique(np.concatenate([best[::2], rng.integers(ITEMS, size=6 * row)]))
        values = rng.normal(0, 5, len(items)).astype(np.float32)
        scores[row, items] += values
        gains.append((items, values))
    gains[7] = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    scores[7] = whole(vectors, queries[7:])[0]
    mask = None if left == 1.0 else allowed
    found, best = searching(index, exact_up_to=exact_up_to).top_k(queries, k, mask, gains)
    expected, high = top_k(scores, mask, k)
    hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
    exact_search = exact_up_to or left < 0.5
    assert sum(hits) >= (8 * k if exact_search else 0.95 * 8 * k)
    if exact_search:
        np.testing.assert_allclose(best, high, rtol=1e-4, atol=1e-4)
    for row in range(8):
        np.testing.assert_allclose(best[row], scores[row, found[row]], rtol=1e-4, atol=1e-4)


def test_proposals_are_of_what_is_allowed(index: ItemIndex):
    """Items that came after the index have no place among them."""
    scores = whole(catalogue(), users())[0]
    allowed = np.random.default_rng(0).random(ITEMS + 7) < 0.1
    found = index.propose(users()[0], 10, allowed)
    assert len(found) and allowed[found].all()
    best = np.argsort(-np.where(allowed[:ITEMS], scores, -np.inf))[:10]
    assert np.isin(best, found).mean() >= 0.8
    assert not len(index.propose(users()[0], 10, np.zeros(ITEMS + 7, dtype=bool)))


# --- exact ------------------------------------------------------------------------------------------------


@st.composite
def questions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
    """Small whole numbers, so that ties are the rule and sums have no rounding."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items, inner = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    shape = (draw(st.integers(0, 4)), draw(st.integers(1, 3)), inner)
    vectors = rng.integers(-2, 3, (items, inner)).astype(draw(st.sampled_from(["float32", "float16"])))
    share = draw(st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]))
    allowed = None if share is None else rng.random((shape[0], items)) < share
    return vectors, rng.integers(-2, 3, shape).astype(np.float32), allowed, draw(st.integers(1, 35))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions(), st.integers(1, 64))
def test_exact_search_is_the_ranking_of_all_scores_whatever_the_block(
    monkeypatch: pytest.MonkeyPatch, question: tuple, cells: int
):
    vectors, queries, allowed, k = question
    monkeypatch.setattr(exact, "_CELLS", cells)
    expected = top_k(whole(vectors, queries), allowed, k)
    for index, best in (
        exact_top_k(vectors, queries, k, allowed),
        ItemSearch(vectors).top_k(queries, k, allowed),
        ItemSearch(vectors, None, SearchSettings(exact_up_to=0)).top_k(queries, k, allowed),
    ):
        np.testing.assert_array_equal(index, expected[0])
        np.testing.assert_array_equal(best, expected[1])
    np.testing.assert_array_equal(all_scores(vectors, queries), whole(vectors, queries))
    for row, own in enumerate(queries):
        ids = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed[row])
        found, scores = top_k_of(vectors, ids, own, k)
        real = expected[0][row] >= 0
        np.testing.assert_array_equal(found, expected[0][row][real])
        np.testing.assert_array_equal(scores, expected[1][row][real])


# --- explored ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.0005, 0.002, 0.01, 0.1, 0.5, 0.999, 1.0]),
    k=st.sampled_from([1, 7, 100, ITEMS + 5]),
    rounds=st.integers(0, 5),
    width=st.sampled_from([1, 20, 200]),
    exact_up_to=st.sampled_from([0, 50, ITEMS // 2]),
    queries=st.sampled_from([1, 4, 70]),
)
def test_filters_are_exact_lists_full_and_scores_true(
    index: ItemIndex, seed: int, share: float, k: int, rounds: int, width: int, exact_up_to: int, queries: int
):
    rng, vectors = np.random.default_rng(seed), catalogue()
    asked = users(seed, 3, queries)
    allowed = rng.random((3, ITEMS)) < share
    search = searching(index, rounds=rounds, width=width, exact_up_to=exact_up_to)
    found, best = search.top_k(asked, k, allowed)
    scores = whole(vectors, asked)
    for row, items in enumerate(found):
        real = items[items >= 0]
        assert len(real) == min(k, allowed[row].sum()) and (items[len(real) :] == -1).all()
        assert allowed[row, real].all() and len(set(real.tolist())) == len(real)
        np.testing.assert_allclose(best[row, : len(real)], scores[row, real], rtol=1e-5, atol=1e-5)
        assert (np.diff(best[row, : len(real)]) <= 0).all() and np.isneginf(best[row, len(real) :]).all()
        if allowed[row].sum() <= max(k, exact_up_to):
            exactly = top_k(scores[row : row + 1], allowed[row : row + 1], k)[1][0, : len(real)]
            np.testing.assert_allclose(best[row, : len(real)], exactly, rtol=1e-5, atol=1e-5)
        (alone,), (its_best,) = search.top_k(asked[row : row + 1], k, allowed[row : row + 1])
        np.testing.assert_array_equal(alone, items)
        np.testing.assert_array_equal(its_best, best[row])


@pytest.mark.parametrize("share", [None, 0.3])
def test_wide_enough_exploration_is_exact(index: ItemIndex, share: float | None):
    vectors, asked = catalogue(), users(count=20)
    allowed = None if share is None else np.random.default_rng(0).random((20, ITEMS)) < share
    expected = top_k(whole(vectors, asked), allowed, 50)
    found, best = searching(index, rounds=30, width=ITEMS).top_k(asked, 50, allowed)
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_allclose(best, expected[1], rtol=1e-5)


def test_more_rounds_and_more_width_find_more(index: ItemIndex, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "_ROWS_READ", 500)  # of so few items all would be read, and proposed
    monkeypatch.setattr(index_module, "_MOST", {"hnsw": 16, "ivfpq": 20})
    vectors, asked = catalogue(), users(count=40)
    truth = top_k(whole(vectors, asked), None, 20)[0]

    def precision(rounds: int, width: int) -> float:
        found = searching(index, rounds=rounds, width=width).top_k(asked, 20)[0]
        return float(np.mean([len(set(a) & set(b)) / 20 for a, b in zip(found, truth, strict=True)]))

    by_rounds = [precision(rounds, 10) for rounds in range(5)]
    assert by_rounds == sorted(by_rounds)
    assert by_rounds[0] < precision(4, 10) <= precision(4, 100) and precision(4, 100) > 0.97


@pytest.mark.parametrize(("count", "explores"), [(10, False), (50, False), (51, True), (60, True)])
def test_few_of_many_are_scored_more_often(
    index: ItemIndex, count: int, explores: bool, monkeypatch: pytest.MonkeyPatch
):
    """Of 3,000 items 60 are few, and where ten are scored in any case, fifty of these are."""
    search, called = searching(index, exact_up_to=10), []
    explored = search._explored
    monkeypatch.setattr(search, "_explored", lambda *given: called.append(given) or explored(*given))
    mask = np.zeros(ITEMS, dtype=bool)
    mask[np.random.default_rng(0).choice(ITEMS, count, replace=False)] = True
    vectors, queries = catalogue(), users(count=1)
    found = search.top_k(queries, 5, mask[None])[0]
    assert mask[found].all() and bool(called) == explores
    if not explores:
        np.testing.assert_array_equal(found, exact_top_k(vectors, queries, 5, mask[None])[0])


def test_where_there_are_many_lists_more_are_read(index: ItemIndex, monkeypatch: pytest.MonkeyPatch):
    """Proposals alone find more of the best; a graph has no lists and stays as it is."""
    vectors, queries = catalogue(), users(count=20)
    best = exact_top_k(vectors, queries, 10)[0]

    def found() -> float:
        ids = searching(index, rounds=0).top_k(queries, 10)[0]
        return float(
            np.mean([len(np.intersect1d(one, right)) / 10 for one, right in zip(ids, best, strict=True)])
        )

    monkeypatch.setattr(index_module, "_ROWS_READ", 100)
    before = found()
    monkeypatch.setattr(index_module, "_LISTS", 5)
    assert found() > before if index.kind == "ivfpq" else found() == before


def test_every_item_can_be_found(index: ItemIndex):
    """A long tail that no edge leads to could never be recommended: a graph of inner products has one."""
    lists = np.load(index.directory / "neighbours.npy")
    reached = np.bincount(lists[lists >= 0], minlength=ITEMS)
    assert (reached > 0).all()
    assert (lists != np.arange(ITEMS)[:, None]).all()


def test_searches_at_once_do_not_disturb_each_other(index: ItemIndex):
    search, asked = searching(index), users(count=12)
    expected = search.top_k(asked, 10)[0]
    found: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        for _ in range(20):
            found[number] = search.top_k(asked, 10)[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((each == expected).all() for each in found.values()) and len(found) == 4


def test_items_added_later_are_always_scored(index: ItemIndex):
    """The index knows the first items only; the best of the others are found at once, and filtered."""
    vectors, asked = catalogue(), users(count=5)
    more = np.concatenate([vectors, 9 * asked[:, 0], catalogue(5, 40)])
    search = searching(index, more)
    found, _ = search.top_k(asked, 3)
    truth = top_k(whole(more, asked), None, 3)[0]
    assert (found[:, 0] == truth[:, 0]).all() and (found[:, 0] >= ITEMS).all()
    allowed = np.ones((5, len(more)), dtype=bool)
    allowed[:, ITEMS:] = False
    assert (search.top_k(asked, 3, allowed)[0] < ITEMS).all()
    only_new = ~allowed
    np.testing.assert_array_equal(
        search.top_k(asked, 3, only_new)[0], top_k(whole(more, asked), only_new, 3)[0]
    )


# --- storage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_rows_on_disk_in_half_precision_are_searched_as_those_in_memory(
    tmp_path: Path, dtype: str, kind: str
):
    vectors = catalogue()
    write_vectors(tmp_path / "v.npy", np.array_split(vectors, 7), vectors.shape, dtype)
    mapped = open_vectors(tmp_path / "v.npy")
    assert isinstance(mapped, np.memmap) and mapped.dtype == dtype
    index = build_index(mapped, tmp_path / "index", kind)
    search, asked = searching(index, mapped), users()
    found, best = search.top_k(asked, 20)
    in_memory = searching(index, np.array(mapped, dtype=np.float32))
    np.testing.assert_array_equal(in_memory.top_k(asked, 20)[0], found)
    scores = whole(mapped, asked)
    np.testing.assert_allclose(best, np.take_along_axis(scores, found, axis=1), rtol=1e-5)
    assert np.mean(found == top_k(scores, None, 20)[0]) > 0.9


def test_half_precision_is_read_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    np.testing.assert_array_equal(as_float32(finite), finite.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(as_float32(finite)), np.signbit(finite))
    strided = finite.reshape(-1, 4)[:, ::2]
    np.testing.assert_array_equal(as_float32(strided), strided.astype(np.float32))
    rows = np.ones((2, 3), dtype=np.float32)
    assert as_float32(rows) is rows


@pytest.mark.parametrize(
    ("blocks", "dtype", "said"),
    [
        ([np.zeros((2, 3))], "float32", "2 rows came, 4 were expected"),
        ([np.zeros((3, 3)), np.zeros((2, 3))], "float32", "more than 4 rows came"),
        ([np.full((4, 3), 1e5)], "float16", "too large for float16"),
        ([np.full((4, 3), np.nan)], "float32", "not finite"),
    ],
)
def test_rows_that_cannot_be_kept_are_refused(tmp_path: Path, blocks: list, dtype: str, said: str):
    with pytest.raises(LlmrecError, match=said):
        write_vectors(tmp_path / "v.npy", blocks, (4, 3), dtype)


def test_what_holds_no_rows_is_refused(tmp_path: Path):
    np.save(tmp_path / "whole.npy", np.zeros((4, 3), dtype=np.int64))
    np.save(tmp_path / "flat.npy", np.zeros(4, dtype=np.float32))
    (tmp_path / "text.npy").write_text("rows")
    for name, said in (("whole", "int64"), ("flat", "shape"), ("text", "cannot be read"), ("no", "cannot")):
        with pytest.raises(LlmrecError, match=said):
            open_vectors(tmp_path / f"{name}.npy")


# --- mistakes ---------------------------------------------------------------------------------------------


def test_an_index_of_other_rows_is_refused(index: ItemIndex):
    for vectors in (catalogue()[:-1], catalogue()[:, :8]):
        with pytest.raises(BundleError, match="make it again: llmrec index"):
            ItemSearch(vectors, index)


def test_values_that_are_not_finite_are_refused(index: ItemIndex):
    vectors, asked = catalogue(), users()
    asked[3, 1, 2] = np.nan
    for each in (index, None):
        with pytest.raises(LlmrecError, match="not finite"):
            searching(each).top_k(asked, 5)
    vectors[:] = np.inf
    for each in (index, None):
        with pytest.raises(LlmrecError, match="not finite"), np.errstate(invalid="ignore"):
            searching(each, vectors).top_k(users(), 5)
    with pytest.raises(LlmrecError, match="at least 1"):
        searching(index).top_k(users(), 0)


def test_what_is_no_index_is_refused(index: ItemIndex, tmp_path: Path):
    with pytest.raises(BundleError, match="no search index"):
        ItemIndex(tmp_path)
    for part in ("neighbours.npy", "landmarks.npy", "proposal.faiss"):
        copy = tmp_path / part
        copy.mkdir()
        for path in index.directory.iterdir():
            content = path.read_bytes()
            (copy / path.name).write_bytes(content[: len(content) // 2] if path.name == part else content)
        with pytest.raises(BundleError, match="llmrec index BUNDLE"):
            ItemIndex(copy)
    for text, said in (('{"format": 2}', "format 2"), ("{}", "not usable"), ("[", "not usable")):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(BundleError, match=said):
            ItemIndex(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "annoy"}, "kind is 'annoy', it must be one of: auto, exact, hnsw, ivfpq"),
        ({"storage": "int8"}, "storage is 'int8'"),
        ({"rounds": -1}, "rounds is -1"),
        ({"width": 0}, "width is 0, it must be at least 1"),
        ({"exact_up_to": -5}, "exact_up_to is -5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict, said: str):
    with pytest.raises(LlmrecError, match=said):
        SearchSettings(**values)


def test_auto_indexes_large_catalogues_only():
    auto = SearchSettings(exact_up_to=100)
    assert [auto.index_for(items) for items in (1, 100, 101, 999)] == [None, None, "hnsw", "hnsw"]
    assert [SearchSettings().index_for(items) for items in (20_000, 20_001)] == [None, "ivfpq"]
    assert SearchSettings(kind="exact").index_for(10**9) is None
    assert SearchSettings(kind="ivfpq").index_for(1_000) == "ivfpq"


def test_scores_of_some_items_are_those_of_all():
    vectors, asked = catalogue(), users()
    ids = np.array([5, 5, 2_999, 0])
    np.testing.assert_allclose(max_scores(vectors, ids, asked[0]), whole(vectors, asked)[0, ids], rtol=1e-5)
