"""Item vectors from the events alone, which the id part starts from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.events import Event, Histories
from llmrec.errors import DataError
from llmrec.items.collaborative import POWER, collaborative_start, collaborative_vectors, near_pairs


def histories(lists: list[list[int]]) -> Histories:
    return Histories.from_lists((f"u{at}", [Event(item) for item in items]) for at, items in enumerate(lists))


LISTS = st.lists(st.lists(st.integers(0, 8), max_size=6), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(lists=LISTS.filter(any), window=st.integers(1, 7))
def test_near_pairs_are_those_of_a_walk_over_each_history(lists: list[list[int]], window: int) -> None:
    wanted = np.zeros((9, 9))
    for items in lists:
        for at, first in enumerate(items):
            for distance, second in enumerate(items[at + 1 : at + 1 + window], start=1):
                wanted[first, second] += 1.0 / distance
    np.testing.assert_allclose(near_pairs(histories(lists), 9, window).toarray(), wanted)


@pytest.mark.parametrize(("islands", "width"), [(3, 3), (40, 2), (60, 5)])
def test_vectors_are_the_same_at_every_call_where_eigenvalues_are_equal(islands: int, width: int) -> None:
    """Of islands that are alike the eigenvalues are equal: any mixture of their vectors would do."""
    lists = [[3 * island, 3 * island + 1, 3 * island + 2] for island in range(islands)]
    found = [collaborative_vectors(histories(lists), 3 * islands, width) for _ in range(4)]
    for each in found[1:]:
        np.testing.assert_array_equal(each, found[0])


@settings(deadline=None, max_examples=60)
@given(lists=LISTS.filter(any), width=st.integers(1, 20))
def test_any_events_give_finite_vectors_of_spread_one(lists: list[list[int]], width: int) -> None:
    vectors = collaborative_vectors(histories(lists), 9, width)
    assert vectors.shape == (9, width) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert vectors.std() == pytest.approx(1.0, abs=1e-4) or not vectors.any()
    unseen = sorted(set(range(9)) - {item for items in lists for item in items})
    np.testing.assert_allclose(vectors[unseen], 0.0, atol=1e-3)
    np.testing.assert_allclose(vectors, collaborative_vectors(histories(lists), 9, width), atol=1e-5)


@pytest.mark.parametrize("items", [1, 2, 3, 40])
def test_what_is_beyond_the_rank_is_zero(items: int) -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, items, size=4).tolist() for _ in range(3)]
    vectors = collaborative_vectors(histories(lists), items, 16)
    np.testing.assert_allclose(vectors[:, max(0, items - 1) :], 0.0, atol=1e-4)


def test_lone_events_give_no_start_and_none_at_all_is_an_error() -> None:
    assert not collaborative_vectors(histories([[0], [3], [1]]), 4, 3).any()
    with pytest.raises(DataError, match="no events"):
        collaborative_vectors(histories([[], []]), 4, 3)


def test_neighbours_are_the_items_bought_together() -> None:
    rng = np.random.default_rng(1)
    lists = [(10 * (user % 4) + rng.choice(10, size=5, replace=False)).tolist() for user in range(200)]
    for user in range(0, 200, 7):
        lists[user].append(int(rng.integers(40)))  # a little noise
    vectors = collaborative_vectors(histories(lists), 40, 8)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.argsort(-(unit @ unit.T), axis=1)[:, 1:10]
    same = near // 10 == np.arange(40)[:, None] // 10
    assert same.mean() > 0.95


@settings(deadline=None, max_examples=60)
@given(lists=LISTS.filter(any), data=st.data(), width=st.integers(1, 9))
def test_without_some_histories_rows_are_those_of_the_others(
    lists: list[list[int]], data: st.DataObject, width: int
) -> None:
    """By hand: rows of the near pairs of the other histories, on the axes of all."""
    start = collaborative_start(histories(lists), 9, width)
    left = data.draw(st.lists(st.sampled_from([each for each in lists if each]), min_size=1, max_size=3))
    left = [each for at, each in enumerate(left) if each not in left[:at]]
    items, change = start.without(left)
    assert items.tolist() == sorted({item for each in left for item in each})
    others = list(lists)
    for each in left:
        others.remove(each)
    near = np.zeros((9, 9))
    if any(others):
        near = near_pairs(histories(others), 9).toarray()
    counts = np.bincount([item for each in lists for item in each], minlength=9)
    scale = np.maximum(counts, 1.0) ** -POWER
    raw = (scale[:, None] * (near + near.T) * scale) @ start.back
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    known = lengths > 1e-4 * start.longest
    wanted = np.where(known, raw * np.where(known, lengths, 1.0) ** (start.lengths_power - 1), 0)
    unsure = np.abs(lengths / (1e-4 * start.longest or 1.0) - 1)[items, 0] < 1e-6  # at the border of nothing
    found = start.vectors[items] + change
    np.testing.assert_allclose(found[~unsure], (wanted / start.spread)[items][~unsure], atol=1e-4)


def test_without_its_only_history_an_item_is_nowhere() -> None:
    start = collaborative_start(histories([[0, 1], [2, 3, 2], [2, 3]]), 4, 3)
    items, change = start.without([[0, 1]])
    assert items.tolist() == [0, 1] and start.vectors[:2].any()
    np.testing.assert_allclose(start.vectors[items] + change, 0.0, atol=1e-6)
