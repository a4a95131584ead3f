"""A small decoder on the states of a language model: it learns, and beam search over it is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from code_models import SIZES, shop_codes, writing
from tiny_models import tiny_prepared

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.engines.small import SmallDecoderEngine
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.items.trie import Trie
from llmrec.model.code_model import PlainView
from llmrec.model.code_tokens import CodeTokens
from llmrec.model.small_decoder import SmallDecoder, SmallDecoderSettings, item_ends
from llmrec.tune.small_decoder import ReadHistories, train_small_decoder, windows_of

SETTINGS = SmallDecoderSettings(states=3, width=16, layers=2, heads=2, dropout=0.0)


@pytest.fixture(scope="module")
def made(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """A model that writes codes, untrained, its engine, and a small decoder on it."""
    shop = tiny_prepared(tmp_path_factory.mktemp("shop"), users=6)
    own = writing(checkpoints["llama"], shop.catalog)
    torch.manual_seed(0)
    decoder = SmallDecoder(32, SIZES, SETTINGS).eval()
    engine = SmallDecoderEngine(TransformersEngine(PlainView(own.model)), decoder, own.prompts.tokens)
    return own, decoder, engine


def prompts_of(own) -> list[list[int]]:
    """Prompts with no item, one, three and five, and words behind them."""
    sequences = own.prompts.sequences
    return [[5, 6, *sequences[:count].ravel().tolist(), 7, 8] for count in (0, 1, 3, 5)]


def test_where_items_end():
    tokens = CodeTokens(100, (4, 3))  # 100 to 103, 104 to 106
    at, real = item_ends([[1, 100, 104, 101, 106, 2], [1, 2], [103, 105]], tokens, 3)
    assert at.tolist() == [[0, 2, 4], [0, 0, 1], [0, 0, 1]]
    assert real.tolist() == [[False, True, True], [False, False, True], [False, False, True]]


def test_lists_are_the_best_of_all_and_the_same_alone(made):
    own, decoder, engine = made
    trie, levels = Trie.build(own.prompts.sequences), own.prompts.tokens.levels
    prompts = prompts_of(own)
    search = BeamSearch(trie, engine, BeamSettings(width=24), levels)
    index, score = search.search(prompts, 24)
    at, real = item_ends(prompts, own.prompts.tokens, 3)
    states = TransformersEngine(PlainView(own.model)).hidden_states(prompts, at)
    codes = torch.from_numpy(shop_codes(24).astype(np.int64))
    for row in range(len(prompts)):
        with torch.no_grad():
            seen = decoder.read(torch.from_numpy(states[row : row + 1])).expand(24, -1, -1)
            outputs = decoder(seen, torch.from_numpy(real[row : row + 1]).expand(24, -1), codes[:, :-1])
            wanted = sum(
                torch.log_softmax(decoder.logits(outputs[:, level], level), 1)[range(24), codes[:, level]]
                for level in range(3)
            ).numpy()
        np.testing.assert_allclose(score[row], np.sort(wanted)[::-1], atol=1e-5)
        np.testing.assert_allclose(wanted[index[row]], score[row], atol=1e-5)
        alone, its_score = search.search(prompts[row : row + 1], 24)
        np.testing.assert_allclose(its_score[0], score[row], atol=1e-5)
    allowed = np.zeros((4, 24), dtype=bool)
    allowed[:, 3:9] = True
    for scores in ("renormalised", "vocabulary"):
        few, _ = BeamSearch(trie, engine, BeamSettings(2, scores), levels).search(prompts, 9, allowed)
        assert [set(row.tolist()) for row in few] == [{-1, *range(3, 9)}] * 4


def test_what_is_not_there_is_not_looked_at(made):
    _, decoder, _ = made
    states, real = torch.randn(2, 3, 32), torch.tensor([[False, True, True], [False, False, True]])
    codes = torch.tensor([[1, 2], [0, 3]])
    with torch.no_grad():
        before = decoder(decoder.read(states), real, codes)
        states[0, 0], states[1, :2] = 9.0, -9.0
        torch.testing.assert_close(decoder(decoder.read(states), real, codes), before)
        later = decoder(decoder.read(states), real, torch.tensor([[1, 0], [0, 0]]))
    torch.testing.assert_close(later[:, :2], before[:, :2])  # no code sees those behind it
    assert (later[:, 2] - before[:, 2]).abs().max() > 1e-4


def test_windows_stay_in_their_history():
    found = windows_of(np.array([3, 0, 2]), 2)
    assert found.tolist() == [[-1, 0], [0, 1], [1, 2], [-1, 3], [3, 4]]


def test_it_learns_what_follows_and_keeps_what_validated_best():
    """The next item is told by the item before the last, which only a window of two shows."""
    rng = np.random.default_rng(0)
    codes, vectors = shop_codes(24), rng.standard_normal((24, 12)).astype(np.float32)
    lengths = np.full(60, 12)
    items = rng.integers(0, 24, 60 * 12)
    target = codes[np.roll(items, 1)]
    windows = windows_of(lengths, 2)
    rows = np.flatnonzero(windows[:, 0] >= 0)
    read = [
        ReadHistories(torch.from_numpy(vectors[items]), torch.from_numpy(windows[own]), torch.from_numpy(t))
        for own, t in ((part, target[part].astype(np.int64)) for part in (rows[:560], rows[560:]))
    ]
    torch.manual_seed(0)
    decoder = SmallDecoder(12, SIZES, SmallDecoderSettings(2, 32, 1, 2, 0.0))
    told: list[float] = []
    best = train_small_decoder(
        decoder, *read, epochs=12, batch=32, learning_rate=3e-3, advance=lambda epoch, loss: told.append(loss)
    )
    assert len(told) == 12 and best == min(told) < 0.3 * told[0]
    assert not decoder.training
    once = [value.clone() for value in decoder.parameters()]
    torch.manual_seed(0)
    again = SmallDecoder(12, SIZES, SmallDecoderSettings(2, 32, 1, 2, 0.0))
    train_small_decoder(again, *read, epochs=12, batch=32, learning_rate=3e-3)
    assert all(torch.equal(a, b) for a, b in zip(once, again.parameters(), strict=True))


def test_mistakes_are_named(made):
    own, _, engine = made
    for settings, said in (
        ({"layers": 0}, "layers is 0"),
        ({"width": 10, "heads": 4}, "width 10 does not part into 4 heads"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ):
        with pytest.raises(LlmrecError, match=said):
            SmallDecoderSettings(**settings)
    with pytest.raises(ValueError, match="a prompt is empty"):
        engine.begin([[1], []])
    session, levels = engine.begin([[1], [2]]), own.prompts.tokens.levels
    none = np.array([], dtype=np.int64)
    for tails, tokens in (([none, none], levels[1]), ([none, levels[0][:1]], levels[0])):
        with pytest.raises(ValueError, match="codes of one level"):
            session.log_probabilities(np.array([0, 1]), tails, tokens, whole=False)
    assert session.prefixes == 2
