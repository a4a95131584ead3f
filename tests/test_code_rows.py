"""The embeddings that codes start from: what their items' words say, and as large as what texts say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmrec.model.code_rows import code_rows
from llmrec.model.code_tokens import CodeTokens

WORDS, HIDDEN, ITEMS = 60, 24, 90
SIZES = (4, 6)


@pytest.fixture(scope="module")
def words() -> torch.Tensor:
    return 0.3 + 0.1 * torch.randn(WORDS, HIDDEN, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, SIZES, (ITEMS, 2))


def rows_of(words, texts, codes, soft: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return list(code_rows(words, texts, codes, CodeTokens(50, SIZES, soft)).split([*SIZES, soft]))


def test_rows_are_the_words_of_their_items(words, codes) -> None:
    """Items of a first code share ten words, those of a second code one: rows find both again."""
    texts = [[*range(10 * first, 10 * first + 10), 40 + second] for first, second in codes.tolist()]
    center = words[[token for text in texts for token in text]].mean(0)
    first, second, _ = rows_of(words, texts, codes)
    own = torch.stack([words[10 * code : 10 * code + 10].mean(0) for code in range(SIZES[0])])
    near = torch.cosine_similarity(first[:, None] - center, own[None] - center, dim=2)
    assert near.argmax(1).tolist() == list(range(SIZES[0]))
    near = torch.cosine_similarity(second[:, None] - center, words[None, 40:46] - center, dim=2)
    assert near.argmax(1).tolist() == list(range(SIZES[1])) and near.diagonal().min() > 0.8


def test_rows_are_spread_as_texts_are(words, codes) -> None:
    texts = [np.random.default_rng(item).integers(0, WORDS, 4).tolist() for item in range(ITEMS)]
    center = words[np.concatenate(texts)].mean(0)
    said = torch.stack([words[text].mean(0) for text in texts]) - center
    spread = said.square().mean().sqrt()
    plain = torch.stack([said[codes[:, 1] == code].mean(0) for code in range(SIZES[1])])
    assert plain.square().mean().sqrt() < 0.4 * spread  # what a plain mean would be
    for rows in rows_of(words, texts, codes)[:2]:
        torch.testing.assert_close((rows - center).square().mean().sqrt(), spread, rtol=0.05, atol=0)


def test_codes_without_items_and_items_without_words(words, codes) -> None:
    codes = codes.copy()
    codes[codes[:, 0] == 3, 0] = 2
    texts = [[] if item % 3 == 0 else [item % WORDS, (7 * item) % WORDS] for item in range(ITEMS)]
    rows = torch.cat(rows_of(words, texts, codes)[:2])
    assert rows.isfinite().all() and len(rows.unique(dim=0)) == sum(SIZES)
    nothing = torch.cat(rows_of(words, [[]] * ITEMS, codes)[:2])
    assert nothing.isfinite().all() and len(nothing.unique(dim=0)) == sum(SIZES)
    torch.testing.assert_close(nothing.std(), words.std(), rtol=0.3, atol=0.02)


def test_a_soft_prompt_starts_as_words(words, codes) -> None:
    *_, soft = rows_of(words, [[1, 2]] * ITEMS, codes, soft=3)
    assert all((row == words[:50]).all(1).any() for row in soft) and len(soft) == 3


def test_large_catalogues_go_in_pieces(words, codes, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [[item % WORDS, (7 * item) % WORDS] for item in range(ITEMS)]
    whole = torch.cat(rows_of(words, texts, codes))
    monkeypatch.setattr("llmrec.model.code_rows._ITEMS", 17)
    torch.testing.assert_close(torch.cat(rows_of(words, texts, codes)), whole, atol=1e-5, rtol=1e-4)
