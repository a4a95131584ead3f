"""Writing without a catalogue, and what a prompt adds: by their definitions, on tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.contrast import ContrastEngine
from llmrec.decode.writing import stream, write
from llmrec.engines.table import TableEngine
from llmrec.items.trie import Trie
from llmrec.items.trie_building import padded

END = 0
ENGINE = TableEngine(vocabulary=12, seed=3)


def values(prompt: list[int], row: list[int]) -> np.ndarray:
    """Log-probabilities of all tokens behind a prompt and some tokens."""
    session = ENGINE.begin([prompt])
    tail = [np.array(row, dtype=np.int64)]
    return session.log_probabilities(np.array([0]), tail, np.arange(12), whole=True)[0]


@settings(deadline=None)
@given(
    prompt=st.lists(st.integers(0, 11), min_size=1, max_size=4),
    allowed=st.sets(st.integers(1, 11), min_size=1).map(sorted),
    longest=st.integers(1, 12),
    texts=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_texts_hold_only_what_is_allowed_and_the_first_is_the_likeliest(
    prompt, allowed, longest, texts, seed
):
    tokens = np.array([END, *allowed])
    found = write(ENGINE, prompt, tokens, lambda row: row[-1] == END, longest, texts, seed=seed)
    assert found == write(ENGINE, prompt, tokens, lambda row: row[-1] == END, longest, texts, seed=seed)
    assert len(found) == texts
    for row in found:
        assert set(row) <= set(tokens.tolist()) and 1 <= len(row) <= longest
        assert END not in row[:-1] and (row[-1] == END or len(row) == longest)
    for at, token in enumerate(found[0]):
        assert token == tokens[np.argmax(values(prompt, found[0][:at])[tokens])]
    assert list(stream(ENGINE, prompt, tokens, lambda row: row[-1] == END, longest)) == found[0]


def test_a_stream_goes_no_further_than_it_is_read():
    asked: list[int] = []
    flow = stream(ENGINE, [1], np.arange(12), lambda row: bool(asked.append(len(row))), 12)
    next(flow), next(flow)
    assert asked == [1]


def test_draws_follow_the_probabilities():
    rows = write(ENGINE, [1], np.arange(12), lambda row: True, 1, texts=20_000)
    counts = np.bincount([row[0] for row in rows[1:]], minlength=12) / (len(rows) - 1)
    np.testing.assert_allclose(counts, np.exp(values([1], [])), atol=0.012)
    cold = write(ENGINE, [1], np.arange(12), lambda row: True, 1, texts=200, temperature=1e-6)
    assert {row[0] for row in cold} == {int(values([1], []).argmax())}


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_contrast_finds_what_its_definition_says(share: float):
    """Values may be above 0, and a longer title may be better than its beginning."""
    rng = np.random.default_rng(0)
    rows = [[*rng.integers(1, 12, rng.integers(1, 5)), END] for _ in range(60)]
    prompts, bare = [[1, 2], [3]], [7]
    engine = ContrastEngine(ENGINE, bare, share)
    search = BeamSearch(Trie.build(padded(rows)), engine, BeamSettings(100, "vocabulary"), falls=False)
    index, score = search.search(prompts, 10)
    for place, prompt in enumerate(prompts):
        expected = np.array(
            [
                sum(
                    values(prompt, row[:at])[token] - share * values(bare, row[:at])[token]
                    for at, token in enumerate(row)
                )
                for row in rows
            ]
        )
        best = np.sort(expected)[::-1][:10]
        np.testing.assert_allclose(score[place], best, atol=1e-4)
        np.testing.assert_allclose(expected[index[place]], best, atol=1e-4)
    assert share < 1 or score.max() > 0
