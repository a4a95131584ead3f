"""Titles as token sequences: every item is reached, none begins another, long ones are cut after a word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.errors import LlmrecError
from llmrec.items import titles as titles_module
from llmrec.items.titles import title_sequences, title_trie, titles_of
from llmrec.items.trie import Trie
from llmrec.model.pretrained import load_tokenizer
from llmrec.model.tokens import PromptTokens

WORDS = st.sampled_from(
    ["red", "mug", "Mug.", "tea", "cup", "x" * 90, "Ω≈", "🫖", "<|im_end|>", "a;b", "\x00", "\n"]
)
TITLES = st.lists(st.lists(WORDS, max_size=9).map(" ".join), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def tokens(checkpoints) -> PromptTokens:
    return PromptTokens(load_tokenizer(checkpoints["llama"]), 0, 0)


def catalog_of(titles: list[str]) -> Catalog:
    return Catalog(Item(f"i{number}", title) for number, title in enumerate(titles))


def walk(trie: Trie, row: list[int]) -> np.ndarray:
    """The items at the end of a sequence."""
    node = int(trie.find(np.array([row]))[0])
    assert trie.ends(np.array([node])).all()
    return trie.items_below(node)


@settings(deadline=None)
@given(titles=TITLES, longest=st.integers(8, 40))
def test_every_item_is_at_the_end_of_its_title(tokens: PromptTokens, titles: list[str], longest: int):
    special = tuple(tokens.tokenizer.all_special_tokens)
    said = titles_of(catalog_of(titles), special)
    assert all(said) and not any("\n" in title for title in said)
    rows = title_sequences(said, tokens.encode_texts, tokens.tokenizer.eos_token_id, longest)
    trie = title_trie(said, tokens.encode_texts, tokens.tokenizer.eos_token_id, longest)
    assert trie.items == len(titles) and trie.depth <= longest
    ids = set(tokens.tokenizer.all_special_ids)
    for item, (title, row) in enumerate(zip(said, rows, strict=True)):
        assert item in walk(trie, row)
        assert not ids & set(row)
        written = tokens.tokenizer.decode(row)
        assert written.startswith(" ") and written.endswith("\n")
        assert title.startswith(written.strip())
        if len(written.strip()) < len(title) and " " in written.strip():
            assert title[len(written.strip())] == " "  # cut after a whole word
    whole = [
        number for number, row in enumerate(rows) if tokens.tokenizer.decode(row).strip() == said[number]
    ]
    for item in whole:  # equal titles share a leaf, others do not
        together = {other for other in whole if said[other] == said[item]}
        assert together <= set(walk(trie, rows[item]).tolist())


def test_titles_are_never_empty():
    catalog = Catalog([Item("a", ""), Item("b", "\u200b\x00"), Item("\u202e", ""), Item("c", " Mug ")])
    assert titles_of(catalog) == ["a", "b", "item 2", "Mug"]


def test_a_title_may_begin_another(tokens: PromptTokens):
    trie = title_trie(["mug", "mug red", "mug red"], tokens.encode_texts, None)
    assert sorted(trie.items_below(0).tolist()) == [0, 1, 2]
    (short,) = title_sequences(["mug"], tokens.encode_texts, None)
    (long,) = title_sequences(["mug red"], tokens.encode_texts, None)
    assert short[:-1] == long[: len(short) - 1] and short[-1] not in long[:-1]
    assert walk(trie, short).tolist() == [0] and walk(trie, long).tolist() == [1, 2]


def test_many_titles_are_the_same_word_by_word(tokens: PromptTokens, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    words = ["red", "mug", "Mug.", "tea", "(cup)", "50's", "🫖", "12", "Christmas,"]
    titles = [" ".join(rng.choice(words, size=rng.integers(1, 7))) for _ in range(300)]
    whole = title_sequences(titles, tokens.encode_texts, None)
    asked: list[int] = []

    def encode(texts: list[str]) -> list[list[int]]:
        asked.append(len(texts))
        return tokens.encode_texts(texts)

    monkeypatch.setattr(titles_module, "_SAMPLE", 20)
    assert title_sequences(titles, encode, None) == whole
    assert max(asked) <= 20


def test_a_tokenizer_that_joins_words_reads_whole_titles(monkeypatch: pytest.MonkeyPatch):
    """Here a word and the next are one token, so words alone say nothing."""

    def encode(texts: list[str]) -> list[list[int]]:
        return [[ord(char) for char in text.replace("d m", "\u0111")] for text in texts]

    titles = ["red mug", "red cup", *(f"red mug {number}" for number in range(40))]
    whole = title_sequences(titles, encode, None)
    monkeypatch.setattr(titles_module, "_SAMPLE", 10)
    assert title_sequences(titles, encode, None) == whole
    assert ord("\u0111") in whole[0]


def test_without_lines_a_title_ends_in_the_tokenizers_own_end():
    def encode(texts: list[str]) -> list[list[int]]:
        return [[ord(char) for char in text.replace("\n", " ")] for text in texts]

    rows = title_sequences(["a b", "a"], encode, 0)
    assert rows == [[32, 97, 32, 98, 32, 0], [32, 97, 32, 0]]
    with pytest.raises(LlmrecError, match="no token that ends a title"):
        title_sequences(["a b", "a"], encode, None)


def test_titles_that_are_cut_alike_are_all_reached(tokens: PromptTokens):
    long = " ".join(["tea"] * 30)
    trie = title_trie([f"{long} one", f"{long} two", "mug"], tokens.encode_texts, None, 10)
    assert trie.depth <= 10 and sorted(
        walk(trie, title_sequences([long], tokens.encode_texts, None, 10)[0])
    ) == [0, 1]
    with pytest.raises(LlmrecError, match="allow at least 8"):
        title_trie(["mug"], tokens.encode_texts, None, 3)
