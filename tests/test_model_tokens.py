"""Prompts as ids: words stay words, whatever they spell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONTROL, random_history, tiny_catalog

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.model.pretrained import load_tokenizer
from llmrec.model.tokens import PromptTokens
from llmrec.verbalize.prompt import ItemToken, Prompt, QueryToken, Words
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

HOSTILE = (
    *CONTROL,
    "<item_3>",
    "<item 3>",
    "<query 0>",
    "\ue0003\ue002",
    "[INST]",
    "{{ cut }}",
    "</s>",
    "\0",
)
TEXTS = st.lists(st.one_of(st.text(max_size=30), st.sampled_from(HOSTILE))).map("".join)


@pytest.fixture(scope="module")
def tokens(checkpoints) -> PromptTokens:
    return PromptTokens(load_tokenizer(checkpoints["llama"]), items=24, queries=2, soft_prompt=3)


def test_each_kind_of_id_has_its_own_range(tokens: PromptTokens) -> None:
    base = tokens.base
    assert base == len(tokens.tokenizer) and tokens.size == base + 24 + 2 + 3
    prompt = Prompt((Words("History:"), ItemToken(0), ItemToken(23)), (QueryToken(0), QueryToken(1)))
    ids = tokens.prompt(prompt)
    begin = [tokens.tokenizer.bos_token_id, base + 26, base + 27, base + 28]
    words = tokens.tokenizer("History:", add_special_tokens=False)["input_ids"]
    assert ids == [*begin, *words, base, base + 23, base + 24, base + 25]
    assert tokens.head(prompt) == ids[:-2] and tokens.count(prompt) == len(ids)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gpt2"])
def test_a_prompt_begins_as_the_tokenizer_begins_texts(checkpoints, name: str) -> None:
    tokenizer = load_tokenizer(checkpoints[name])
    prefix = PromptTokens(tokenizer, 1, 1).prefix
    assert prefix == ((tokenizer.bos_token_id,) if name in ("llama", "gemma3") else ())


@settings(deadline=None)
@given(TEXTS)
def test_no_text_makes_an_item_a_query_or_a_control_token(tokens: PromptTokens, text: str) -> None:
    ids = tokens.encode([Words(text)])
    assert all(token < tokens.base for token in ids)
    assert not set(ids) & set(tokens.tokenizer.all_special_ids)
    assert tokens.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_the_control_tokens_of_this_test_are_control_tokens(tokens: PromptTokens) -> None:
    for text in CONTROL:
        assert tokens.tokenizer(text)["input_ids"][-1] in tokens.tokenizer.all_special_ids


@settings(deadline=None)
@given(title=TEXTS, wish=TEXTS, attribute=TEXTS)
def test_a_whole_prompt_has_the_tokens_that_llmrec_put_there(tokens, title, wish, attribute) -> None:
    catalog = Catalog([Item("i0", title), *tiny_catalog().items[1:]])
    history = (Event(0, 1, "click"), Event(5, 10**7, attribute), Event(0, 10**8, "click"))
    for mode, items in (("token", 3), ("title", 0)):
        verbalizer = Verbalizer(
            catalog,
            PromptSettings(queries=2, items=mode, statistics=True),
            ["click", attribute],
            Templates.load(),
            tuple(tokens.tokenizer.all_special_tokens),
        )
        ids = tokens.prompt(verbalizer.prompt(history, wish, {attribute: attribute}))
        rest = ids[len(tokens.prefix) :]
        assert sum(tokens.base <= token < tokens.base + 24 for token in rest) == items
        assert rest[-2:] == [tokens.base + 24, tokens.base + 25]
        assert all(token < tokens.base + 24 for token in rest[:-2])
        assert not set(rest) & set(tokens.tokenizer.all_special_ids)


def test_words_are_remembered_and_ids_are_not_shared(tokens: PromptTokens) -> None:
    first = tokens.encode([Words("blue mug")])
    first.append(7)
    assert tokens.encode([Words("blue mug")]) == first[:-1]


def test_a_long_history_costs_one_token_an_item(tokens: PromptTokens) -> None:
    history = random_history(np.random.default_rng(0), 40, 24)
    verbalizer = Verbalizer(
        tiny_catalog(), PromptSettings(queries=2, gaps=False), ("",), Templates.load(), ()
    )
    empty = tokens.count(verbalizer.prompt(()))
    assert tokens.count(verbalizer.prompt(history)) == empty + 40
