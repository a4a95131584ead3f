"""The trie in arrays is the trie by definition, whatever the sequences; it saves, loads and stays small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.decode.allowed import AllowedBelow
from llmrec.errors import BundleError, LlmrecError
from llmrec.items.trie import Trie
from llmrec.items.trie_building import padded

END = 7


codes = st.integers(1, 4).flatmap(
    lambda levels: st.lists(st.tuples(*[st.integers(0, 5)] * levels), min_size=1, max_size=40)
)
titles = st.lists(
    st.lists(st.integers(0, 6), max_size=5).map(lambda row: (*row, END)), min_size=1, max_size=40
)
huge = st.lists(st.tuples(*[st.sampled_from((0, 1, 2**30, 2**31 - 1))] * 4), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(st.one_of(codes, titles, huge))
def test_nodes_children_and_items_are_those_of_the_sequences(rows) -> None:
    trie = Trie.build(padded(rows))
    assert trie.items == len(rows) and trie.depth == max(map(len, rows))
    prefixes = sorted(
        {row[:length] for row in rows for length in range(len(row) + 1)}, key=lambda p: (len(p), p)
    )
    assert len(trie.tokens) == len(prefixes)
    assert trie.order.tolist() == sorted(range(len(rows)), key=lambda item: (rows[item], item))
    assert trie.rank[trie.order].tolist() == list(range(len(rows)))
    assert trie.sequences(np.arange(len(rows))).tolist() == padded(rows).tolist()
    for node, prefix in enumerate(prefixes):
        length = len(prefix)
        assert trie.find(np.array([prefix], dtype=np.int64).reshape(1, length)).tolist() == [node]
        assert trie.tokens[node] == (prefix[-1] if prefix else -1)
        below = [item for item in range(len(rows)) if rows[item][:length] == prefix]
        assert sorted(trie.items_below(node)) == below
        of, children = trie.children_of(np.array([node, node]))
        following = sorted({rows[item][length] for item in below if len(rows[item]) > length})
        assert trie.tokens[children].tolist() == following * 2
        assert of.tolist() == [0] * len(following) + [1] * len(following)
        assert trie.ends(np.array([node])).tolist() == [not following]
    for level, choices in enumerate(trie.choices):
        assert choices.tolist() == sorted({row[level] for row in rows if len(row) > level})
    several = [level for level, choices in enumerate(trie.choices) if len(choices) > 1]
    assert trie.first_choice == (several[0] if several else 0)


@settings(max_examples=100, deadline=None)
@given(st.one_of(codes, titles, huge), st.data())
def test_a_prefix_that_no_sequence_has_is_not_found(rows, data) -> None:
    values = st.sampled_from((-5, -1, 0, 1, 2, 3, 4, 5, END, 9, 2**31 - 1, 2**40))
    length = data.draw(st.integers(1, 4))
    asked = data.draw(st.lists(st.tuples(*[values] * length), min_size=1, max_size=10))
    trie = Trie.build(padded(rows))
    nodes = trie.find(np.array(asked))
    known = {row[:length] for row in rows if len(row) >= length}
    for prefix, node in zip(asked, nodes.tolist(), strict=True):
        assert (node >= 0) == (prefix in known)


def test_deep_levels_are_searched_where_a_table_would_be_too_large() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 3_000, (5_000, 3))
    trie = Trie.build(rows)
    nodes = trie.find(rows)
    assert [trie.items_below(node)[0] for node in nodes[:500]] == [
        int(np.flatnonzero((rows == row).all(axis=1))[0]) for row in rows[:500]
    ]
    assert trie.find(rows + 3_000).tolist() == [-1] * 5_000


def test_sequences_of_any_lengths_are_padded() -> None:
    assert padded([(1, 2, 3), (), (4,)]).tolist() == [[1, 2, 3], [-1, -1, -1], [4, -1, -1]]
    assert padded([]).shape == (0, 0)


def test_an_empty_catalogue_has_a_root() -> None:
    for shape in ((0, 0), (0, 3)):
        trie = Trie.build(np.zeros(shape, dtype=np.int32))
        assert (trie.items, trie.depth, trie.first_choice, trie.choices) == (0, 0, 0, ())
        assert trie.items_below(0).tolist() == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [-1, -1]], "item number 1 has no id"),
        ([[1, -1, 2]], "item number 0 has no id, or one with a gap"),
        ([[3, 1, 2], [1, 2, -1], [1, 2, 5]], "the id of item number 1 begins that of item number 2"),
        ([[1, -1], [1, 0]], "the id of item number 0 begins that of item number 1"),
    ],
)
def test_ids_that_do_not_end_are_refused(rows, message) -> None:
    with pytest.raises(LlmrecError, match=message):
        Trie.build(np.array(rows))


def test_saved_and_loaded_it_is_the_same(tmp_path) -> None:
    trie = Trie.build(np.random.default_rng(0).integers(0, 30, (500, 3)))
    trie.save(tmp_path / "trie")
    again = Trie.load(tmp_path / "trie")
    for name in ("starts", "tokens", "children", "first", "last", "order"):
        one, other = getattr(trie, name), getattr(again, name)
        assert one.dtype == other.dtype and one.tolist() == other.tolist()
        assert isinstance(other.base, np.memmap)  # read when needed
    assert trie.nbytes == again.nbytes


def test_what_is_no_trie_is_refused(tmp_path) -> None:
    with pytest.raises(BundleError, match="cannot be read as a trie"):
        Trie.load(tmp_path)
    Trie.build(np.array([[1, 2], [1, 3]])).save(tmp_path / "trie")
    Trie.build(np.array([[1, 2, 3], [1, 3, 4], [2, 2, 2]])).save(tmp_path / "other")
    (tmp_path / "other" / "first.npy").rename(tmp_path / "trie" / "first.npy")
    with pytest.raises(BundleError, match="make no trie"):
        Trie.load(tmp_path / "trie")


@settings(max_examples=100, deadline=None)
@given(st.one_of(codes, titles), st.integers(0, 1 << 30), st.integers(1, 40))
def test_counts_of_allowed_items_are_the_definition(rows, seed, copies) -> None:
    """Masks that forbid few, allow few, and neither, together in one batch."""
    rng = np.random.default_rng(seed)
    sequences = np.repeat(padded(rows), copies, axis=0)
    trie = Trie.build(sequences)
    share = rng.choice([0.0, 0.01, 0.3, 0.99, 1.0], (6, 1))
    allowed = rng.random((6, len(sequences))) < share
    below = AllowedBelow(trie, allowed)
    request, node = rng.integers(0, 6, 50), rng.integers(0, len(trie.tokens), 50)
    expected = [allowed[each, trie.items_below(at)].sum() for each, at in zip(request, node, strict=True)]
    assert below.count(request, node).tolist() == expected


def test_masks_of_another_catalogue_are_refused() -> None:
    trie = Trie.build(np.array([[1], [2]]))
    for wrong in (np.ones((1, 3), dtype=bool), np.ones(2, dtype=bool), np.ones((1, 2), dtype=int)):
        with pytest.raises(ValueError, match="allowed must be bool"):
            AllowedBelow(trie, wrong)
