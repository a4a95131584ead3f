"""Quantisers on one contract: codes in range, the same again, equal shares, and what each kind promises."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from llmrec.errors import DataError, LlmrecError
from llmrec.items.quantise.contract import ranked
from llmrec.items.quantise.filling import fill
from llmrec.items.quantise.fitting import fit, restore
from llmrec.items.quantise.rqvae_training import rotated, straight
from llmrec.items.quantise.settings import KINDS, QuantiserSettings, RqVaeSettings, tree_sizes

SMALL = RqVaeSettings(hidden=(6,), inner=3, epochs=3, batch=16)
NUMPY = tuple(kind for kind in KINDS if kind != "rqvae")
# Few different values: equal vectors, zeros and ties are common.
VECTORS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 5)),
    elements=st.integers(-2, 2).map(float) | st.floats(-9, 9, width=32),
)
SIZES = st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=3).map(tuple)


def setting(kind: str, sizes: tuple[int, ...], rounds: int = 4) -> QuantiserSettings:
    return QuantiserSettings(kind, sizes, rounds, SMALL)


def clustered(count: int, width: int = 8, clusters: int = 6, seed: int = 0) -> np.ndarray:
    """Points around a few centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, width)) * 4
    points = centres[rng.integers(clusters, size=count)] + rng.standard_normal((count, width))
    return points.astype(np.float32)


def check_contract(kind: str, sizes: tuple[int, ...], vectors: np.ndarray) -> None:
    quantiser = fit(vectors, setting(kind, sizes), seed=3)
    again = fit(vectors, setting(kind, sizes), seed=3)
    kept = restore(quantiser.settings, {name: each.copy() for name, each in quantiser.arrays().items()})
    for choose in ("codes", "assign"):
        codes = getattr(quantiser, choose)(vectors)
        assert codes.shape == (len(vectors), len(sizes)) and codes.dtype == np.int32
        assert (codes >= 0).all() and (codes < np.array(sizes)).all()
        np.testing.assert_array_equal(codes, getattr(again, choose)(vectors))
        np.testing.assert_array_equal(codes, getattr(kept, choose)(vectors))
    codes = quantiser.codes(vectors)
    for level, size in enumerate(sizes):
        costs = quantiser.costs(vectors, codes[:, :level])
        assert costs.shape == (len(vectors), size) and np.isfinite(costs).all() and (costs >= 0).all()
        order = ranked(quantiser, vectors, codes[:, :level])
        np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(size), (len(vectors), 1)))
        if kind != "balanced":  # whose codes have prices
            own = costs[np.arange(len(codes)), codes[:, level]]
            np.testing.assert_allclose(own, costs.min(axis=1), atol=1e-3)
    found = quantiser.reconstruct(codes)
    assert (found is None) == (kind in ("tree", "lsh"))
    assert found is None or (found.shape == vectors.shape and np.isfinite(found).all())


@pytest.mark.parametrize("kind", NUMPY)
@settings(deadline=None, max_examples=25)
@given(vectors=VECTORS, sizes=SIZES)
def test_any_vectors_get_codes_by_the_contract(kind: str, vectors: np.ndarray, sizes: tuple[int, ...]):
    check_contract(kind, sizes, vectors)


@pytest.mark.parametrize(
    "vectors",
    [clustered(60), clustered(3), np.ones((9, 4), np.float32), np.zeros((1, 2), np.float32)],
    ids=["clusters", "fewer than codes", "all equal", "one of zeros"],
)
def test_rqvae_keeps_the_contract(vectors: np.ndarray):
    before = torch.random.get_rng_state()
    check_contract("rqvae", (4, 4), vectors)
    assert torch.equal(before, torch.random.get_rng_state())


@settings(deadline=None, max_examples=40)
@given(vectors=VECTORS, sizes=SIZES)
def test_balanced_levels_have_equal_shares(vectors: np.ndarray, sizes: tuple[int, ...]):
    codes = fit(vectors, setting("balanced", sizes)).assign(vectors)
    for level, size in enumerate(sizes):
        counts = np.bincount(codes[:, level], minlength=size)
        assert counts.max() - counts.min() <= 1


@settings(deadline=None, max_examples=40)
@given(vectors=VECTORS, sizes=SIZES)
def test_a_tree_halves_at_every_node(vectors: np.ndarray, sizes: tuple[int, ...]):
    """All prefixes of one length have the same number of items, up to one, equal vectors or not."""
    quantiser = fit(vectors, setting("tree", sizes))
    codes = quantiser.assign(vectors)
    key = np.zeros(len(codes), dtype=np.int64)
    for level, size in enumerate(sizes):
        key = key * size + codes[:, level]
        counts = np.bincount(key, minlength=math.prod(sizes[: level + 1]))
        assert counts.max() - counts.min() <= 1
    if math.prod(sizes) >= len(vectors):
        assert len(np.unique(key)) == len(vectors)
    assert len(quantiser.arrays()["nodes"]) < max(2, len(vectors))


@pytest.mark.parametrize(("items", "levels"), [(1, 3), (2, 2), (100, 3), (12_101, 3), (12_101, 5), (9, 1)])
def test_a_tree_has_a_path_for_each_item_and_as_many_again(items: int, levels: int):
    sizes = tree_sizes(items, levels)
    assert len(sizes) == levels and 2 * items <= math.prod(sizes) <= max(2**levels, 4 * items)
    assert max(sizes) <= 2 * min(sizes)


@pytest.mark.parametrize("kind", ["kmeans", "balanced", "rqvae"])
def test_more_levels_tell_more(kind: str):
    vectors = clustered(400)
    rqvae = RqVaeSettings(hidden=(32,), inner=8, epochs=60, batch=64)
    errors = []
    for sizes in ((4,), (4, 4), (8, 8, 8)):
        quantiser = fit(vectors, QuantiserSettings(kind, sizes, rqvae=rqvae))
        found = quantiser.reconstruct(quantiser.assign(vectors))
        errors.append(((found - vectors) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.3


def test_new_vectors_choose_as_the_fitted_ones_do():
    """Prices make first choices nearly balanced, for vectors that were not fitted too."""
    vectors = clustered(2000, clusters=40)
    quantiser = fit(vectors[:1000], QuantiserSettings("balanced", (16, 16)))
    both = quantiser.codes(vectors[:1000]) == quantiser.assign(vectors[:1000])
    assert both.mean() > 0.9
    free = fit(vectors[:1000], QuantiserSettings("kmeans", (16, 16)))
    largest = [np.bincount(each.codes(vectors[1000:])[:, 0]).max() for each in (quantiser, free)]
    assert largest[0] < 100 < largest[1]


@settings(deadline=None, max_examples=150)
@given(
    st.data(),
    st.integers(1, 12),
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
)
def test_places_are_filled_cheapest_first(data: st.DataObject, count: int, room: list[int]):
    shape = (count, len(room))
    costs = data.draw(arrays.arrays(np.float32, shape, elements=st.integers(0, 6).map(float)))
    left, wanted = list(room), np.full(count, -1)
    for row, place in sorted(np.ndindex(shape), key=lambda at: (costs[at], at)):
        if wanted[row] < 0 and left[place]:
            wanted[row] = place
            left[place] -= 1
    found = fill(lambda rows: costs[rows], count, np.array(room))
    np.testing.assert_array_equal(found, wanted)


def test_lsh_decides_by_orthogonal_directions_through_the_mean():
    vectors = clustered(50, width=4)
    quantiser = fit(vectors, setting("lsh", (4, 16)), seed=1)
    directions = quantiser.arrays()["directions"]
    np.testing.assert_allclose(directions[:4] @ directions[:4].T, np.eye(4), atol=1e-6)
    signs = (vectors - vectors.mean(0)) @ directions.T > 0
    wanted = signs @ np.array([[2, 0], [1, 0], [0, 8], [0, 4], [0, 2], [0, 1]])
    np.testing.assert_array_equal(quantiser.codes(vectors), wanted)
    # The cost of another code is the squared distance from what divides it from the own one.
    codes = quantiser.codes(vectors)
    costs = quantiser.costs(vectors, codes[:, :1])
    margins = ((vectors - vectors.mean(0)) @ directions.T) ** 2
    flipped = costs[np.arange(50), codes[:, 1] ^ 0b0101]
    np.testing.assert_allclose(flipped, margins[:, 3] + margins[:, 5], rtol=1e-3, atol=1e-4)


def test_the_other_side_of_a_tree_costs_the_distance_to_its_hyperplane():
    vectors = np.array([[-3, 0], [-1, 0], [1, 0], [3, 0]], dtype=np.float32)
    quantiser = fit(vectors, setting("tree", (2, 2)))
    codes = quantiser.assign(vectors)
    assert len(np.unique(codes, axis=0)) == 4
    costs = quantiser.costs(vectors, codes[:, :0])
    other = costs[np.arange(4), 1 - codes[:, 0]]
    np.testing.assert_allclose(other, [9, 1, 1, 9], atol=1e-4)


def test_rotation_gives_the_code_and_turns_the_gradient():
    torch.manual_seed(0)
    states = torch.randn(5, 4, requires_grad=True)
    rounded = torch.randn(5, 4)
    along = torch.randn(5, 4)
    for passed in (straight(states, rounded), rotated(states, rounded)):
        torch.testing.assert_close(passed, rounded)
    (flat,) = torch.autograd.grad((straight(states, rounded) * along).sum(), states)
    torch.testing.assert_close(flat, along)
    (turned,) = torch.autograd.grad((rotated(states, rounded) * along).sum(), states)
    scale = rounded.norm(dim=1) / states.detach().norm(dim=1)
    torch.testing.assert_close(turned.norm(dim=1), along.norm(dim=1) * scale)
    # What points along the code comes back along the state.
    (back,) = torch.autograd.grad((rotated(states, rounded) * rounded).sum(), states)
    cosine = torch.nn.functional.cosine_similarity(back, states.detach(), dim=1)
    torch.testing.assert_close(cosine, torch.ones(5))


@pytest.mark.parametrize("gradient", ["straight-through", "rotation"])
def test_restarts_keep_codes_alive(gradient: str):
    vectors = clustered(500, clusters=12)
    used = {}
    for restarts in (False, True):
        rqvae = RqVaeSettings((32,), 8, gradient=gradient, epochs=25, batch=50, warmup=0, restarts=restarts)
        codes = fit(vectors, QuantiserSettings("rqvae", (64, 64), rqvae=rqvae)).codes(vectors)
        used[restarts] = sum(len(np.unique(codes[:, level])) for level in range(2))
    assert used[True] >= used[False] and used[True] > 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.array([[1.0, 2.0], [np.nan, 0.0]], np.float32), r"1 items .* not finite.*first: item 1"),
        (np.array([[np.inf, 2.0]], np.float32), "not finite"),
        (np.array([[1e38, 1e38]], np.float32), "too large"),
        (np.array([[1.0, 0.0], [1e16, 0.0]], np.float32), "1 items .* too large"),
        (np.zeros((0, 3), np.float32), "no item vectors"),
        (np.zeros((3, 0), np.float32), "no columns"),
        (np.zeros(3, np.float32), r"shape \[items, width\]"),
        (np.zeros((3, 2), np.int64), r"numbers of shape"),
    ],
)
def test_what_cannot_be_quantised_is_one_clear_error(kind: str, vectors: np.ndarray, said: str):
    with pytest.raises(DataError, match=said) as error:
        fit(vectors, setting(kind, (4, 4)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_another_width_are_refused(kind: str):
    quantiser = fit(clustered(20), setting(kind, (4,)))
    with pytest.raises(DataError, match="width 8, got vectors of width 7"):
        quantiser.codes(clustered(2, width=7))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "magic"}, "no quantiser 'magic'"),
        ({"sizes": ()}, "IDs need a level, such as 256"),
        ({"sizes": (4, 0)}, "every level needs a code, got levels 4,0$"),
        ({"sizes": (1 << 21,)}, r"at most 2\^20 codes"),
        ({"sizes": (256,) * 8}, r"more than 2\^62"),
        ({"kind": "tree", "sizes": (256, 300)}, "300 is no power of two"),
        ({"kind": "lsh", "sizes": (3,)}, "3 is no power of two"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], said: str):
    with pytest.raises(LlmrecError, match=said):
        dataclasses.replace(QuantiserSettings(), **change)


@pytest.mark.parametrize(
    "change", [{"gradient": "none"}, {"epochs": 0}, {"warmup": 1.0}, {"learning_rate": 0.0}, {"hidden": (0,)}]
)
def test_impossible_settings_of_rqvae_are_refused(change: dict[str, object]):
    with pytest.raises(LlmrecError, match="rqvae"):
        dataclasses.replace(SMALL, **change)


def test_arrays_that_are_not_all_there_are_refused():
    quantiser = fit(clustered(20), setting("kmeans", (4, 4)))
    with pytest.raises(LlmrecError, match="kmeans quantiser lack 'book_1'"):
        restore(quantiser.settings, {"book_0": quantiser.arrays()["book_0"]})
