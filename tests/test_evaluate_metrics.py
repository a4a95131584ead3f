import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, nDCG

from llmrec.evaluate import metrics
from llmrec.evaluate.bootstrap import compare, intervals
from llmrec.evaluate.protocol import CUTS, figures

ITEMS = 30


@st.composite
def answers(draw, most_targets=4):
    """Lists of distinct items with -1 at the end, and 1 to `most_targets` distinct targets of each user."""
    users = draw(st.integers(1, 6))
    depth = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lists = np.stack([rng.permutation(ITEMS)[:depth] for _ in range(users)])
    for row in lists:
        row[depth - rng.integers(0, depth + 1) :] = -1
    targets = np.stack([rng.permutation(ITEMS)[:most_targets] for _ in range(users)])
    for row in targets:
        row[1 + rng.integers(0, most_targets) :] = -1
    return lists.astype(np.int64), targets.astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_equals_ir_measures(answer):
    lists, targets = answer
    depth = lists.shape[1]
    run = {
        str(user): {str(item): float(depth - place) for place, item in enumerate(row) if item >= 0}
        for user, row in enumerate(lists)
    }
    qrels = {str(user): {str(item): 1 for item in row if item >= 0} for user, row in enumerate(targets)}
    names = {f"recall@{k}": R @ k for k in CUTS} | {f"ndcg@{k}": nDCG @ k for k in CUTS} | {"mrr": RR}
    expected = {(str(name), user): 0.0 for name in names.values() for user in qrels}
    for each in ir_measures.iter_calc(list(names.values()), qrels, {u: r for u, r in run.items() if r}):
        expected[str(each.measure), each.query_id] = each.value
    ours = figures(lists, targets)
    for name, measure in names.items():
        theirs = [expected[str(measure), str(user)] for user in range(len(lists))]
        np.testing.assert_allclose(ours[name], theirs, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_figures_keep_their_bounds(answer):
    lists, targets = answer
    values = figures(lists, targets)
    for column in values.values():
        assert ((column >= 0) & (column <= 1)).all()
    for name in ("recall", "ndcg"):
        assert (values[f"{name}@20"] >= 0).all()
    assert (values["recall@5"] <= values["recall@10"]).all()
    assert (values["recall@10"] <= values["recall@20"]).all()
    assert 0 <= metrics.coverage(lists, ITEMS) <= 1
    assert 0 <= metrics.gini(lists, ITEMS) < 1
    bits = metrics.self_information(np.arange(ITEMS), 40)
    novelty = metrics.novelty(lists, bits)
    assert ((novelty >= 0) & (novelty <= bits.max())).all()


def test_one_target_by_hand():
    lists = np.array([[7, 3, 9], [1, 2, -1], [4, 5, 6]])
    values = figures(lists, np.array([9, 1, 8]))
    assert values["recall@5"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(values["ndcg@10"], [0.5, 1, 0])
    np.testing.assert_allclose(values["mrr"], [1 / 3, 1, 0])


def test_padding_is_never_a_hit():
    found, counts = metrics.hits(np.array([[3, -1, -1]]), np.array([[5, -1, -1]]))
    assert not found.any()
    assert counts.tolist() == [1]


@pytest.mark.parametrize(
    ("lists", "targets", "message"),
    [
        ([[1, 1]], [[1]], "list names an item twice"),
        ([[1, 2]], [[3, 3]], "targets names"),
        ([[1]], [[-1]], "no target"),
    ],
)
def test_what_would_count_for_free_is_refused(lists, targets, message):
    with pytest.raises(ValueError, match=message):
        metrics.hits(np.array(lists), np.array(targets))


def test_coverage_gini_and_novelty_by_hand():
    lists = np.array([[0, 1, 2], [0, 1, 3]])
    assert metrics.coverage(lists, 8, k=2) == 2 / 8
    # Exposure (0, 0, 0, 2): three of four items never shown.
    assert metrics.gini(np.array([[0], [0]]), 4) == pytest.approx(0.75)
    assert metrics.gini(np.array([[0, 1], [2, 3]]), 4) == 0
    bits = metrics.self_information(np.array([8, 4, 0, 1]), 8)
    assert bits.tolist() == [0, 1, 3, 3]
    np.testing.assert_allclose(metrics.novelty(lists, bits), [4 / 3, 4 / 3])
    assert metrics.novelty(np.array([[-1, -1]]), bits).tolist() == [0]


def test_intervals_agree_with_theory_and_repeat():
    values = (np.random.default_rng(0).random((2_000, 2)) < [0.2, 0.5]).astype(float)
    first, second = intervals(values)
    for found, column in ((first, values[:, 0]), (second, values[:, 1])):
        expected = 1.96 * column.std() / np.sqrt(len(column))
        assert found.mean == column.mean()
        assert found.low < found.mean < found.high
        assert found.half == pytest.approx(expected, rel=0.1)
    assert intervals(values) == [first, second]
    assert intervals(values, seed=1) != [first, second]


def test_intervals_do_not_depend_on_the_size_of_blocks(monkeypatch):
    from llmrec.evaluate import bootstrap

    values = np.random.default_rng(0).random((50, 1))
    whole = bootstrap._means(values, 100, 0)
    monkeypatch.setattr(bootstrap, "_CELLS", 50 * 7)
    np.testing.assert_allclose(bootstrap._means(values, 100, 0), whole)


def test_paired_comparison_sees_what_separate_intervals_cannot():
    rng = np.random.default_rng(0)
    second = rng.random(500)
    first = second + 0.02 + rng.normal(0, 0.01, 500)
    found = compare(first, second)
    assert found.low > 0.018
    assert found.p == pytest.approx(0.001)
    assert compare(second, first).difference == -found.difference
    apart = intervals(np.stack([first, second], axis=1))
    assert apart[0].low < apart[1].high


def test_comparison_of_equals_is_no_difference():
    values = np.random.default_rng(0).random(100)
    found = compare(values, values)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_comparison_needs_the_same_users():
    with pytest.raises(ValueError, match="same users"):
        compare(np.zeros(3), np.zeros(4))
