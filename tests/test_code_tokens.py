"""Codes as tokens: one id each in tokenizers of every kind, in any text, and after a save."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.errors import LlmrecError
from llmrec.model.checkpoints import cache_root
from llmrec.model.code_tokens import BLOCK, CodePrompts, add_code_tokens, find_code_tokens
from llmrec.model.pretrained import load_tokenizer
from llmrec.verbalize.clean import clean
from llmrec.verbalize.prompt import Prompt, Words
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

SIZES, SOFT = (12, 5, 3), 4
TEXTS = ["red mug", "Blue  Bag 12", "a cup of tea, a lamp", "été 2024 "]
SMOLLM2 = cache_root() / "smollm2-135m"
HERE = ["smollm2"] if (SMOLLM2 / "tokenizer.json").is_file() else []  # its tokenizer too, where it is at hand


def _unigram() -> PreTrainedTokenizerFast:
    """As SentencePiece makes them (T5, Gemma): spaces are marks, and one stands before every text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def _lowercase() -> PreTrainedTokenizerFast:
    """As BERT has it: everything is lower case, and punctuation stands alone."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.fixture(scope="module")
def fresh(checkpoints) -> Callable[[str], PreTrainedTokenizerBase]:
    """A tokenizer by name, as nobody has changed it."""

    def make(name: str) -> PreTrainedTokenizerBase:
        made = {"unigram": _unigram, "lowercase": _lowercase}
        return made[name]() if name in made else load_tokenizer({**checkpoints, "smollm2": SMOLLM2}[name])

    return make


@pytest.mark.parametrize("name", [*ARCHITECTURES, "unigram", "lowercase", *HERE])
def test_each_code_is_one_id_inside_text_and_after_a_save(fresh, tmp_path, name: str) -> None:
    tokenizer = fresh(name)
    before, size = {text: tokenizer(text)["input_ids"] for text in TEXTS}, len(tokenizer)
    tokens = add_code_tokens(tokenizer, SIZES, SOFT)
    assert tokens.first == size and tokens.end == size + sum(SIZES) + SOFT == len(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, load_tokenizer(tmp_path)):
        assert find_code_tokens(each, SIZES, SOFT) == tokens
        for text, ids in before.items():
            assert each(text)["input_ids"] == ids
        for token, called in zip(tokens.ids, tokens.names, strict=True):
            assert each(called, add_special_tokens=False)["input_ids"] == [token]
            assert each.decode([token]).strip() == called
            inside = each(f"{TEXTS[0]}{called}{TEXTS[1]}", add_special_tokens=False)["input_ids"]
            assert [one for one in inside if one >= size] == [token]
            assert each.decode(inside).lower().split(called)[0].strip() == TEXTS[0]


def test_levels_follow_each_other(fresh) -> None:
    tokens = add_code_tokens(fresh("llama"), SIZES, SOFT)
    assert [len(level) for level in tokens.levels] == list(SIZES)
    assert [*np.concatenate(tokens.levels), *tokens.soft_prompt] == list(tokens.ids)
    codes = np.array([[0, 0, 0], [11, 4, 2]])
    for row, sequence in zip(codes, tokens.sequences(codes), strict=True):
        assert [tokens.levels[level][code] for level, code in enumerate(row)] == sequence.tolist()
    assert tokens.names[0] == "<|code_1_0|>" and tokens.names[-1] == "<|soft_3|>"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20), st.integers(0, sum(SIZES) - 1), st.text(max_size=20))
def test_text_never_becomes_a_code(fresh, before: str, which: int, after: str) -> None:
    tokenizer = fresh("qwen3")
    tokens = add_code_tokens(tokenizer, SIZES)
    hostile = f"{before}{tokens.names[which]}{after}"
    prompts = CodePrompts(tokenizer, tokens, np.zeros((1, 3), dtype=int))
    ids = prompts.encode([Words(hostile)])
    assert not set(ids) & set(tokens.ids)
    assert tokens.names[which] not in clean(hostile, 200)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_prompts_write_items_as_their_codes(fresh, name: str) -> None:
    tokenizer = fresh(name)
    tokens = add_code_tokens(tokenizer, SIZES, SOFT)
    codes = np.array([[0, 1, 2], [3, 4, 0], [11, 0, 1]])
    prompts = CodePrompts(tokenizer, tokens, codes)
    catalog = Catalog(Item(f"i{at}", f"mug {at}") for at in range(3))
    verbalizer = Verbalizer(catalog, PromptSettings(queries=0, gaps=False), ("",), Templates.load())
    prompt = verbalizer.prompt((Event(2), Event(0)), "a red mug")
    ids = prompts.prompt(prompt)
    assert [one for one in ids if one in tokens.ids] == [
        *tokens.soft_prompt,
        *tokens.sequences(codes[2]),
        *tokens.sequences(codes[0]),
    ]
    assert (ids[0] == 0) == (name in ("llama", "gemma3"))  # what begins every text comes before all
    assert tokenizer.decode(ids[-3:]).endswith("mug")
    assert prompts.count(prompt) == len(ids)


@pytest.mark.parametrize("events", [1, 10, 16, 18, 29, 30, 31, 40, 55, 70])
def test_long_prompts_fill_whole_blocks_with_the_newest_events(fresh, events: int) -> None:
    """What fills no block is computed again for each beam."""
    prompts, prompt = _long_prompt(fresh("llama"), [at % 3 for at in range(events)], "a red mug")
    ids, (kept, lost) = prompts.prompt(prompt), prompts.whole_blocks(prompt)
    start = next(at for at, one in enumerate(ids) if one in prompts.sequences)
    over = len(ids) % BLOCK if len(ids) >= 64 else 0
    assert kept == ids[:start] + ids[start + over :]
    assert len(kept) < 64 or len(kept) % BLOCK == 0
    # An event has lost something where what is left of its codes begins behind the first of them.
    firsts = [at for at, one in enumerate(ids) if one in prompts.sequences[:, 0]]
    assert lost == sum(at < start + over for at in firsts)


@pytest.mark.parametrize("words", range(100, 140, 3))
def test_a_prompt_whose_events_are_too_few_for_it_stays_whole(fresh, words: int) -> None:
    prompts, prompt = _long_prompt(fresh("llama"), [0, 1], "mug " * words)
    ids = prompts.prompt(prompt)
    first, last = (
        at for at, one in enumerate(ids) if one in (prompts.sequences[0, 0], prompts.sequences[1, 2])
    )
    over = len(ids) % BLOCK
    kept, lost = prompts.whole_blocks(prompt)
    assert len(ids) > 128
    assert lost == (0 if over > last - first else -(-over // len(SIZES)))
    assert kept == (ids if over > last - first else ids[:first] + ids[first + over :])


def _long_prompt(tokenizer, items: list[int], wish: str) -> tuple[CodePrompts, Prompt]:
    tokens = add_code_tokens(tokenizer, SIZES, SOFT)
    codes = np.array([[0, 1, 2], [3, 4, 0], [11, 0, 1]])
    catalog = Catalog(Item(f"i{at}", f"mug {at}") for at in range(3))
    settings = PromptSettings(queries=0, gaps=False, max_events=100)
    verbalizer = Verbalizer(catalog, settings, ("",), Templates.load())
    return CodePrompts(tokenizer, tokens, codes), verbalizer.prompt([Event(item) for item in items], wish)


def test_mistakes_are_one_line(fresh) -> None:
    tokenizer = fresh("gpt2")
    with pytest.raises(LlmrecError, match="has no tokens for codes"):
        find_code_tokens(tokenizer, SIZES)
    add_code_tokens(tokenizer, SIZES)
    with pytest.raises(LlmrecError, match="has tokens for codes already"):
        add_code_tokens(tokenizer, (2,))
    with pytest.raises(LlmrecError, match="does not keep <.code_1_0.> and the like one token each"):
        find_code_tokens(tokenizer, (20, 5, 3))
