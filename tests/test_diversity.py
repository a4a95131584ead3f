"""MMR and the greedy point process against their definitions, and what they do to a list."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.retrieve.diversity import balance_for, dpp, likeness_within, mmr, scaled

CHOOSERS = [mmr, dpp]


@st.composite
def candidates(draw, most: int = 9):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, width = draw(st.integers(1, most)), draw(st.integers(1, 5))
    vectors = rng.standard_normal((count, width))
    if draw(st.booleans()):  # doubles, and a row of nothing
        vectors[rng.integers(count)] = vectors[rng.integers(count)]
        vectors[rng.integers(count)] = 0.0
    return scaled(rng.standard_normal(count)), vectors


def unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


@pytest.mark.parametrize("choose", CHOOSERS)
@settings(max_examples=150, deadline=None)
@given(candidates(), st.integers(1, 12), st.floats(0, 1))
def test_choices_are_distinct_and_as_many_as_asked(choose, asked, k, balance):
    relevance, vectors = asked
    chosen = choose(relevance, vectors, k, balance)
    assert chosen.dtype == np.int64
    assert len(chosen) == len(set(chosen.tolist())) == min(k, len(relevance))
    np.testing.assert_array_equal(chosen[: max(1, k - 1)], choose(relevance, vectors, max(1, k - 1), balance))
    np.testing.assert_array_equal(
        choose(relevance, vectors, k, 1.0), np.argsort(-relevance, kind="stable")[:k]
    )


@settings(max_examples=150, deadline=None)
@given(candidates(), st.floats(0.05, 0.95))
def test_mmr_takes_the_best_by_its_definition(asked, balance):
    relevance, vectors = asked
    likeness = unit(vectors) @ unit(vectors).T
    chosen = mmr(relevance, vectors, len(relevance), balance).tolist()
    assert relevance[chosen[0]] == relevance.max()
    for step in range(1, len(chosen)):
        gains = balance * relevance - (1 - balance) * likeness[:, chosen[:step]].max(axis=1)
        open_to = [at for at in range(len(relevance)) if at not in chosen[:step]]
        assert gains[chosen[step]] == pytest.approx(gains[open_to].max(), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(candidates(most=7), st.floats(0.05, 0.95))
def test_dpp_takes_the_largest_determinant_at_each_step(asked, balance):
    relevance, vectors = asked
    quality = np.exp(relevance * balance / (2 * (1 - balance)))
    kernel = quality[:, None] * (1 + unit(vectors) @ unit(vectors).T) / 2 * quality
    chosen = dpp(relevance, vectors, len(relevance), balance).tolist()

    def determinant(items: list[int]) -> float:
        return float(np.linalg.det(kernel[np.ix_(items, items)]))

    for step in range(len(chosen)):
        scale = np.prod(quality[chosen[: step + 1]] ** 2)
        own = determinant(chosen[: step + 1])
        others = [
            determinant([*chosen[:step], at]) for at in range(len(relevance)) if at not in chosen[:step]
        ]
        if max(others) / scale < 1e-6:  # numerically nothing is left: the rest is by relevance
            break
        assert own == pytest.approx(max(others), rel=1e-6)


@pytest.mark.parametrize("choose", CHOOSERS)
def test_less_balance_makes_a_list_more_diverse(choose):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 16)) * 3
    vectors = centres[np.arange(60) // 10] + rng.standard_normal((60, 16))
    relevance = scaled(-np.arange(60.0))  # the best ten are all of one kind
    lists = [vectors[choose(relevance, vectors, 10, balance)] for balance in (1.0, 0.8, 0.5, 0.0)]
    likeness = [likeness_within(each) for each in lists]
    assert likeness[0] > 0.7 and likeness[-1] < 0.2
    assert (np.diff(likeness) < 0.01).all()


def test_dpp_finds_a_nearly_best_set():
    """Greedy is close to the best of all sets on a small example."""
    rng = np.random.default_rng(1)
    vectors, relevance = rng.standard_normal((10, 4)), scaled(rng.standard_normal(10))
    quality = np.exp(relevance / 2)
    kernel = quality[:, None] * (1 + unit(vectors) @ unit(vectors).T) / 2 * quality

    def volume(items) -> float:
        return float(np.linalg.slogdet(kernel[np.ix_(items, items)])[1])

    best = max(volume(list(items)) for items in itertools.combinations(range(10), 4))
    assert volume(dpp(relevance, vectors, 4, 0.5).tolist()) > best - 0.3


def test_doubles_come_last():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.2]])
    relevance = np.array([1.0, 0.99, 0.2, 0.1])
    for choose in CHOOSERS:
        assert choose(relevance, vectors, 4, 0.3).tolist()[-1] == 1


def test_scaled():
    assert scaled(np.array([3.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]
    assert scaled(np.array([2.0, 2.0])).tolist() == [1.0, 1.0] and len(scaled(np.zeros(0))) == 0


def test_likeness_within():
    assert likeness_within(np.array([[2.0, 0.0], [0.0, 3.0]])) == pytest.approx(0)
    assert likeness_within(np.array([[2.0, 0.0], [5.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-1 / 3)
    assert likeness_within(np.ones((1, 3))) == likeness_within(np.ones((0, 3))) == 0.0


def test_a_weight_moves_the_balance():
    assert balance_for(1.0, 0.6) == pytest.approx(0.6)
    assert balance_for(3.0, 0.6) == pytest.approx(0.6 / (0.6 + 3 * 0.4))
    assert 1 > balance_for(1e-9, 0.6) > 0.99 and 0 < balance_for(1e9, 0.6) < 0.01


@pytest.mark.parametrize("choose", CHOOSERS)
def test_mistakes(choose):
    for relevance, vectors, k, balance in (
        (np.ones(2), np.ones((3, 2)), 1, 0.5),
        (np.ones(2), np.ones((2, 2)), 0, 0.5),
        (np.ones(2), np.ones((2, 2)), 1, 1.5),
    ):
        with pytest.raises(ValueError, match="vectors|balance"):
            choose(relevance, vectors, k, balance)
