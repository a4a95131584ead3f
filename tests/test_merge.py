"""Merging lists of several goals: distinct, full, exact where exact is possible, and the same every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from llmrec.errors import LlmrecError
from llmrec.retrieve.merge import MERGES, Merged, Ranked, merge, quotas, shares_of

VECTORS = np.random.default_rng(5).standard_normal((40, 6))


def ranked(*items: int, scores: list[float] | None = None) -> Ranked:
    given_scores = [float(-at) for at in range(len(items))] if scores is None else scores
    return Ranked(np.array(items, dtype=np.int64), np.array(given_scores, dtype=np.float32))


@st.composite
def goals(draw, most_items: int = 12):
    """Some lists that overlap, and a weight each."""
    count = draw(st.integers(1, 5))
    lists = []
    for _ in range(count):
        items = draw(st.lists(st.integers(0, most_items - 1), unique=True, max_size=most_items))
        # Few distinct values, so that ties are the rule.
        values = draw(st.lists(st.integers(-3, 3), min_size=len(items), max_size=len(items)))
        lists.append(ranked(*items, scores=sorted(map(float, values), reverse=True)))
    weights = draw(st.lists(st.floats(0, 10), min_size=count, max_size=count).filter(any))
    return lists, weights


def of_goal(merged: Merged, count: int) -> list[int]:
    return np.bincount(merged.goals, minlength=count).tolist()


@settings(max_examples=150, deadline=None)
@given(goals(), st.integers(1, 15), st.sampled_from(MERGES), st.floats(0, 1))
def test_a_merged_list_is_distinct_full_and_from_the_lists(asked, k, how, balance):
    lists, weights = asked
    merged = merge(lists, k, how, weights, VECTORS.__getitem__, balance)
    everything = set(np.concatenate([each.items for each in lists]).tolist())
    assert len(merged.items) == len(set(merged.items.tolist())) == min(k, len(everything))
    assert set(merged.items.tolist()) <= everything
    for item, score, goal in zip(merged.items, merged.scores, merged.goals, strict=True):
        assert item in lists[goal].items
        assert 0 <= score <= 1 + 1e-9
    again = merge(lists, k, how, weights, VECTORS.__getitem__, balance)
    for one, other in (
        (merged.items, again.items),
        (merged.scores, again.scores),
        (merged.goals, again.goals),
    ):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=100, deadline=None)
@given(goals(), st.integers(1, 15), st.sampled_from(MERGES), st.floats(0.001, 1000))
def test_only_the_ratio_of_weights_counts(asked, k, how, factor):
    lists, weights = asked
    one = merge(lists, k, how, [2.0 ** round(weight) for weight in weights], VECTORS.__getitem__)
    scaled = [2.0 ** round(weight) * factor for weight in weights]
    other = merge(lists, k, how, scaled, VECTORS.__getitem__)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-9)
    if how in ("quotas", "round-robin"):  # elsewhere a rounding error may part what was equal
        np.testing.assert_array_equal(one.items[: len(lists)], other.items[: len(lists)])


@settings(max_examples=100, deadline=None)
@given(goals(), st.integers(1, 15), st.sampled_from(MERGES))
def test_one_goal_alone_keeps_its_order(asked, k, how):
    (first, *_), _ = asked
    if not len(first.items):
        return
    merged = merge([first], k, how, [0.7], VECTORS.__getitem__, balance=1.0)
    # Items of equal score may change places, where the order comes from probabilities.
    scores = dict(zip(first.items.tolist(), first.scores.tolist(), strict=True))
    assert [scores[item] for item in merged.items.tolist()] == first.scores[:k].tolist()
    if how in ("quotas", "round-robin"):
        np.testing.assert_array_equal(merged.items, first.items[:k])


# --- weights ----------------------------------------------------------------------------------------------


def test_weights_are_a_mixture_of_probabilities():
    first, second = ranked(7, 3, scores=[2.0, 1.0]), ranked(3, 9, scores=[5.0, 5.0])
    merged = merge([first, second], 3, "weights", [3.0, 1.0])
    own = np.exp([2.0, 1.0]) / np.exp([2.0, 1.0]).sum()
    expected = {7: 0.75 * own[0], 3: 0.75 * own[1] + 0.25 * 0.5, 9: 0.25 * 0.5}
    assert merged.items.tolist() == sorted(expected, key=expected.__getitem__, reverse=True)
    np.testing.assert_allclose(merged.scores, [expected[item] for item in merged.items.tolist()])
    assert merged.goals.tolist() == [0, 0, 1]


@settings(max_examples=100, deadline=None)
@given(goals(), st.floats(-50, 50))
def test_weights_read_differences_of_scores_only(asked, shift):
    lists, weights = asked
    moved = [Ranked(each.items, each.scores.astype(np.float64) + shift) for each in lists]
    one, other = merge(lists, 12, "weights", weights), merge(moved, 12, "weights", weights)
    assert dict(zip(one.items.tolist(), one.scores, strict=True)) == pytest.approx(
        dict(zip(other.items.tolist(), other.scores, strict=True)), abs=1e-9
    )


def test_large_scores_do_not_overflow():
    merged = merge([ranked(1, 2, scores=[3e4, -3e4]), ranked(2, scores=[1e30])], 2, "weights")
    np.testing.assert_allclose(merged.scores, [0.5, 0.5])


# --- quotas -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "k", "counts"),
    [
        ([1, 1], 10, [5, 5]),
        ([1, 1], 5, [3, 2]),  # of equal remainders the first
        ([1, 1, 1], 9, [3, 3, 3]),
        ([1, 1, 1], 10, [4, 3, 3]),
        ([47, 16, 15.8, 12, 6.1, 3.1], 10, [5, 2, 1, 1, 1, 0]),
        ([0.1, 0.2, 0.7], 10, [1, 2, 7]),
        ([0, 1], 3, [0, 3]),
        ([1e-300, 1e308], 2, [0, 2]),
    ],
)
def test_quotas_are_by_largest_remainder(weights, k, counts):
    assert quotas(shares_of(weights, len(weights)), k).tolist() == counts


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8).filter(any), st.integers(1, 100))
def test_quotas_add_up_and_keep_to_their_shares(weights, k):
    shares = shares_of(weights, len(weights))
    counts = quotas(shares, k)
    assert counts.sum() == k
    assert (np.abs(counts - shares * k) < 1 + 1e-6).all()


@settings(max_examples=300, deadline=None)
@given(goals(), st.integers(1, 15))
def test_quotas_are_exact_whenever_they_can_be(asked, k):
    """Whether they can be is decided by a maximum matching of places and items."""
    lists, weights = asked
    counts = quotas(shares_of(weights, len(weights)), k)
    places = np.repeat(np.arange(len(lists)), counts)
    edges = np.zeros((len(places), 12), dtype=bool)
    for place, goal in enumerate(places):
        edges[place, lists[goal].items] = True
    possible = int((maximum_bipartite_matching(csr_matrix(edges), perm_type="column") >= 0).sum())
    merged = merge(lists, k, "quotas", weights)
    if possible == k:
        assert of_goal(merged, len(lists)) == counts.tolist()
    else:
        kept = merged.goals[:possible]  # the places that were filled for their own goal come first
        assert (np.bincount(kept, minlength=len(lists)) <= counts).all()


def test_an_item_changes_hands_where_that_fills_a_quota():
    # The first goal would take 1 and 2, which is all that the second has.
    merged = merge([ranked(1, 2, 3, 4), ranked(2, 1)], 4, "quotas")
    assert of_goal(merged, 2) == [2, 2]
    assert set(merged.items[merged.goals == 1].tolist()) == {1, 2}
    # Over a third goal: 0 gives to 1 what 1 gave to 2.
    merged = merge([ranked(1, 9), ranked(1, 5), ranked(5)], 3, "quotas")
    assert dict(zip(merged.goals.tolist(), merged.items.tolist(), strict=True)) == {0: 9, 1: 1, 2: 5}


def test_quotas_mix_the_goals_and_count_an_item_once():
    first, second = ranked(*range(10)), ranked(0, 1, *range(20, 30))
    merged = merge([first, second], 6, "quotas", [2, 1])
    assert merged.goals.tolist() == [0, 1, 0, 0, 1, 0]
    assert merged.items.tolist() == [0, 1, 2, 3, 20, 4]


def test_a_goal_that_runs_out_leaves_its_places_to_the_others():
    merged = merge([ranked(1), ranked(4, 5, 6, 7, 8)], 5, "quotas", [3, 2])
    assert merged.items.tolist() == [1, 4, 5, 6, 7] and of_goal(merged, 2) == [1, 4]


def test_many_goals_of_one_long_list_are_quick():
    lists = [ranked(*range(200)) for _ in range(40)] + [ranked(*range(190, 200))]
    merged = merge(lists, 200, "quotas")
    assert sorted(of_goal(merged, 41)) == [4] * 5 + [5] * 36


# --- round robin ------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(goals(), st.integers(1, 15))
def test_round_robin_takes_turns(asked, k):
    lists, _ = asked
    merged = merge(lists, k, "round-robin")
    taken: list[int] = []
    waiting = [each.items.tolist() for each in lists]
    while len(taken) < k and any(waiting):
        for goal in range(len(lists)):
            waiting[goal] = [item for item in waiting[goal] if item not in taken]
            if waiting[goal] and len(taken) < k:
                assert merged.items[len(taken)] == waiting[goal][0]
                assert merged.goals[len(taken)] == goal
                taken.append(waiting[goal][0])
    assert merged.items.tolist() == taken


# --- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ([1.0], "1 weights for 2 wishes"),
        ([1.0, 2.0, 3.0], "3 weights for 2 wishes"),
        ([0.0, 0.0], "the weights are 0, 0"),
        ([1.0, -1.0], "at least 0"),
        ([1.0, np.nan], "at least 0"),
        ([1.0, np.inf], "at least 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, complaint):
    with pytest.raises(LlmrecError, match=complaint):
        merge([ranked(1), ranked(2)], 1, "weights", weights)


def test_other_mistakes_are_refused():
    with pytest.raises(LlmrecError, match="merged by 'sum', it must be one of: weights, quotas"):
        merge([ranked(1)], 1, "sum")
    with pytest.raises(LlmrecError, match="k is 0"):
        merge([ranked(1)], 0)
    with pytest.raises(LlmrecError, match="0 weights for 0 wishes"):
        merge([], 1)
    with pytest.raises(ValueError, match="mmr needs the vectors"):
        merge([ranked(1)], 1, "mmr")
    for items, scores in (([1, 1], [0, 0]), ([-1], [0]), ([1], [np.nan]), ([1], [0, 0])):
        with pytest.raises(ValueError, match="list|shape"):
            Ranked(np.array(items), np.array(scores, dtype=float))
