import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.errors import LlmrecError
from llmrec.retrieve.rank import target_ranks, top_k


def by_sorting(scores, allowed, k):
    """The definition: sort by score, then by index; slow and plain."""
    rows = []
    for values, mask in zip(scores, allowed, strict=True):
        order = sorted(np.flatnonzero(mask), key=lambda item: (-values[item], item))[:k]
        rows.append([int(item) for item in order] + [-1] * (k - len(order)))
    return np.array(rows, dtype=np.int64).reshape(len(scores), k)


@st.composite
def questions(draw):
    rows, items = draw(st.integers(0, 5)), draw(st.integers(1, 12))
    # Few distinct values, so that ties are the rule.
    scores = draw(st.lists(st.integers(-2, 2), min_size=rows * items, max_size=rows * items))
    mask = draw(st.lists(st.booleans(), min_size=rows * items, max_size=rows * items))
    shape = (rows, items)
    return np.array(scores, dtype=np.float32).reshape(shape), np.array(mask, dtype=bool).reshape(shape)


@settings(max_examples=100, deadline=None)
@given(questions(), st.integers(1, 15))
def test_equals_a_full_sort_with_ties_by_lower_index(question, k):
    scores, allowed = question
    index, best = top_k(scores, allowed, k)
    expected = by_sorting(scores, allowed, k)
    assert index.dtype == np.int64
    np.testing.assert_array_equal(index, expected)
    for row, items in enumerate(expected):
        real = items[items >= 0]
        np.testing.assert_array_equal(best[row, : len(real)], scores[row, real])
        assert np.isneginf(best[row, len(real) :]).all()


@settings(max_examples=80, deadline=None)
@given(questions(), st.data())
def test_target_rank_is_the_place_in_the_list(question, data):
    scores, allowed = question
    items = scores.shape[1]
    size = len(scores)
    targets = np.array(
        data.draw(st.lists(st.integers(0, items - 1), min_size=size, max_size=size)), dtype=int
    )
    ranks = target_ranks(scores, allowed, targets)
    index, _ = top_k(scores, allowed, items)
    for row, target in enumerate(targets):
        place = np.flatnonzero(index[row] == target)
        assert ranks[row] == (place[0] + 1 if len(place) else 0)


def test_large_rows_agree_with_a_full_sort():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 50, (20, 5_000)).astype(np.float32)
    allowed = rng.random(scores.shape) < 0.7
    np.testing.assert_array_equal(top_k(scores, allowed, 100)[0], by_sorting(scores, allowed, 100))


def test_no_mask_means_all_and_scores_are_left_alone():
    scores = np.array([[0.5, 0.25, 1.0]], dtype=np.float32)
    index, best = top_k(scores, None, 2)
    assert index.tolist() == [[2, 0]]
    assert best.tolist() == [[1.0, 0.5]]
    assert scores.tolist() == [[0.5, 0.25, 1.0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    with pytest.raises(LlmrecError, match="not finite"):
        top_k(np.array([[0.0, value]], dtype=np.float32), None, 1)


def test_k_must_be_positive():
    with pytest.raises(LlmrecError, match="at least 1"):
        top_k(np.zeros((1, 3), dtype=np.float32), None, 0)
