"""Search indexes: the same every time, exact neighbours, an edge to every item, nothing half-made."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bundle import files_of_at_most, tree
from test_search import ITEMS, catalogue, searching, users

from llmrec.errors import LlmrecError
from llmrec.retrieve import indexing
from llmrec.retrieve.indexing import ALIKE, STRONG, build_index, lead_to_all


def test_an_index_is_the_same_every_time(tmp_path: Path):
    """One thread (as the tests run) builds one graph."""

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for kind in ("hnsw", "ivfpq"):
            for name in ("one", "two"):
                build_index(catalogue(), tmp_path / name, kind)
            for part in ("neighbours.npy", "landmarks.npy", "proposal.faiss"):
                assert (tmp_path / "one" / part).read_bytes() == (tmp_path / "two" / part).read_bytes()
    finally:
        faiss.omp_set_num_threads(threads)


def test_an_index_that_cannot_be_made_is_refused(tmp_path: Path):
    with pytest.raises(LlmrecError, match="needs 1,000 items, the catalogue has 999: choose auto"):
        build_index(catalogue(items=999), tmp_path / "index", "ivfpq")
    with pytest.raises(LlmrecError, match="choose one of: hnsw, ivfpq"):
        build_index(catalogue(items=9), tmp_path / "index", "flat")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_a_full_disk_leaves_the_old_index(tmp_path: Path, kind: str):
    vectors, directory = catalogue(items=1_000), tmp_path / "index"
    build_index(vectors, directory)
    before = tree(directory)
    largest = max(path.stat().st_size for path in directory.iterdir())
    for size in (0, 1_000, 100_000, largest // 2):
        with files_of_at_most(size), pytest.raises(LlmrecError) as error:
            build_index(vectors, directory, kind)
        assert "cannot write" in str(error.value) or "no space left" in str(error.value)
        assert tree(directory) == before and list(tmp_path.iterdir()) == [directory]


@pytest.mark.parametrize("items", [1, 2, 33, 200])
def test_small_catalogues_can_be_indexed(tmp_path: Path, items: int):
    vectors = catalogue(items=items)
    search = searching(build_index(vectors, tmp_path / "index"), vectors)
    found, _ = search.top_k(users(), items)
    np.testing.assert_array_equal(np.sort(found), np.tile(np.arange(items), (8, 1)))


@given(st.integers(2, 60), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_no_item_stays_without_an_edge_to_it(items: int, degree: int, seed: int):
    """Most lists are the same few hubs."""
    rng = np.random.default_rng(seed)
    lists = rng.integers(max(1, items // 4), size=(items, degree)).astype(np.int32)
    lists[np.arange(items)[:, None] == lists] = -1
    before = np.bincount(lists[lists >= 0], minlength=items)
    lead_to_all(lists)
    after = np.bincount(lists[lists >= 0], minlength=items)
    assert (after > 0).sum() >= (before > 0).sum() and (lists < items).all()
    assert (lists != np.arange(items)[:, None]).all()


def test_neighbours_are_the_closest_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where all lists are near: by distance first, then by inner product, the item itself left out."""
    monkeypatch.setattr(indexing, "_LISTS_NEAR", ITEMS)
    monkeypatch.setattr(indexing, "lead_to_all", lambda lists: None)
    before = faiss.cvar.distance_compute_blas_threshold
    for dtype in (np.float32, np.float16):
        vectors = catalogue(items=1_500).astype(dtype)
        build_index(vectors, tmp_path / "index", "ivfpq")
        found, rows = np.load(tmp_path / "index" / "neighbours.npy"), vectors.astype(np.float32)
        products = rows @ rows.T
        squares = (rows**2).sum(axis=1)
        for columns, closeness in (
            (slice(0, ALIKE), 2 * products - squares),
            (slice(ALIKE, ALIKE + STRONG), products),
        ):
            np.fill_diagonal(closeness, -np.inf)
            best = -np.sort(-closeness, axis=1)[:, : columns.stop - columns.start]
            mine = np.take_along_axis(closeness, found[:, columns].astype(np.int64), axis=1)
            np.testing.assert_allclose(-np.sort(-mine, axis=1), best, rtol=1e-4, atol=1e-4)
            assert all(len(set(own)) == len(own) for own in found[:, columns].tolist())
    assert faiss.cvar.distance_compute_blas_threshold == before
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
