"""Query diagnostics: known answers for queries that all agree, that share the work, and that lie idle."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.evaluate.queries import queries_page, specialisation

ITEMS = 40
MATRIX = np.eye(ITEMS, dtype=np.float32)


def wants(*lists: list[int]) -> np.ndarray:
    """Vectors of one user whose queries want these items, best first, and nothing else."""
    vectors = np.zeros((1, len(lists), ITEMS), dtype=np.float32)
    for query, items in enumerate(lists):
        vectors[0, query, items] = np.arange(len(items), 0, -1) + query / 10
    return vectors


def all_of(users: int = 1) -> list[np.ndarray]:
    return [np.ones(ITEMS, dtype=bool)] * users


def test_queries_that_agree_are_one() -> None:
    found = specialisation(np.repeat(wants(list(range(10))), 3, axis=1), MATRIX, all_of())
    assert found.wins == (1.0, 0.0, 0.0)  # the first of equals
    assert found.effective == found.effective_in_list == pytest.approx(1.0)
    assert found.overlap == pytest.approx(1.0) and found.unlisted == 0.0


def test_queries_that_share_a_list_are_many() -> None:
    halves = wants([0, 1, 2, 3, 4, 30, 31, 32, 33, 34], [10, 11, 12, 13, 14, 35, 36, 37, 38, 39])
    found = specialisation(halves, MATRIX, all_of())
    assert found.wins == (0.5, 0.5)
    assert found.effective == found.effective_in_list == pytest.approx(2.0)
    assert found.overlap == 0.0 and found.unlisted == 0.5


def test_queries_that_serve_different_users_are_many_but_one_in_a_list() -> None:
    first, second = list(range(10)), list(range(10, 20))
    loud = np.concatenate([wants(first, second), wants(second, first)])
    loud[0, 0] *= 100
    loud[1, 1] *= 100
    found = specialisation(loud, MATRIX, all_of(2))
    assert found.wins == (0.5, 0.5) and found.effective == pytest.approx(2.0)
    assert found.effective_in_list == pytest.approx(1.0)


def test_what_is_not_allowed_is_in_no_list() -> None:
    mask = np.arange(ITEMS) >= 5
    found = specialisation(wants(list(range(10)), list(range(5, 15))), MATRIX, [mask])
    # Of the first query's items 5 to 9 are left, and ties among the rest fill its list from the lowest index.
    assert found.overlap == pytest.approx(1.0)
    none = specialisation(wants([1], [2]), MATRIX, [np.zeros(ITEMS, dtype=bool)])
    assert none.wins == (0.0, 0.0) and none.effective == none.effective_in_list == none.unlisted == 0.0


@given(seed=st.integers(0, 10**6), users=st.integers(1, 4), queries=st.integers(1, 5))
def test_figures_stay_in_their_ranges(seed: int, users: int, queries: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((users, queries, 6)).astype(np.float32)
    matrix = rng.standard_normal((ITEMS, 6)).astype(np.float32)
    masks = [rng.random(ITEMS) < 0.7 for _ in range(users)]
    found = specialisation(vectors, matrix, masks)
    assert sum(found.wins) == pytest.approx(1.0) and len(found.wins) == queries
    assert 1 <= found.effective_in_list <= queries + 1e-9 and 1 <= found.effective <= queries + 1e-9
    assert (found.overlap is None) == (queries == 1)
    assert found.overlap is None or 0 <= found.overlap <= 1
    assert 0 <= found.unlisted < 1


def test_the_command_asks_a_bundle(run, tiny_bundle) -> None:
    code, out, err = run("queries", tiny_bundle, "--json")
    found = json.loads(out)
    assert (code, found["queries"], err) == (0, 2, "")
    assert found["users"] == 60 and sum(found["wins"]) == pytest.approx(1.0)
    code, page, _ = run("queries", tiny_bundle)
    assert code == 0 and "| effective number, all lists together |" in page
    assert f"{found['overlap']:.3f}" in page
    code, _, err = run("queries", tiny_bundle, "--fold", "tset")
    assert code == 2 and "\n" not in err.strip()


def test_one_query_has_no_overlap_to_show() -> None:
    found = specialisation(wants(list(range(10))), MATRIX, all_of())
    assert found.overlap is None and "| overlap of the queries' own top 10 | – |" in queries_page(found)
