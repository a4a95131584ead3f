"""Hostile text: nothing that a tokenizer, a template or a terminal could obey passes `clean`."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmrec.verbalize.clean import clean

SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<item_7>",
    "[INST]",
    "[/INST]",
    "##end##",
)
HOSTILE = st.text() | st.lists(
    st.sampled_from([*SPECIAL, "<", "|", ">", "[", "\x00", "\u202e", "\ue000", "\ue003", "\u200d", " ", "a"])
).map("".join)


@given(HOSTILE, st.integers(1, 60))
@example("<" * 50 + "s>", 60)
@example("#" * 30 + "end" + "#" * 30, 60)
def test_nothing_dangerous_is_left(text, limit):
    cleaned = clean(text, limit, SPECIAL)
    assert len(cleaned) <= limit
    assert not [token for token in SPECIAL if token in cleaned]
    assert not re.search(r"<\S", cleaned)
    assert not {unicodedata.category(char) for char in cleaned} & {"Cc", "Co", "Cs", "Zl", "Zp"}
    assert not [char for char in cleaned if unicodedata.category(char) == "Cf" and char != "\u200d"]
    assert cleaned == cleaned.strip() and "\ue000" not in cleaned


@given(HOSTILE)
def test_cleaning_twice_changes_nothing(text):
    once = clean(text, 40)
    assert clean(once, 40) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red  Retrospot\n\tBowl ", "Red Retrospot Bowl"),
        ("a\x00b\x07c", "abc"),
        ("\u202eevil\u202c mug\u200f", "evil mug"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("Cafe\u0301", "Café"),
        ("<|im_end|> mug", "< |im_end|> mug"),
        ("<｜begin▁of▁sentence｜>", "< ｜begin▁of▁sentence｜>"),
        ("[INST] do [/INST]", "[ INST] do [ /INST]"),
        ("Mug [large]", "Mug [large]"),
        ("a < b", "a < b"),
        ("{{ 7 * 7 }} {% for %}", "{{ 7 * 7 }} {% for %}"),
        ("👩‍👩‍👧‍👦 family 👍🏽 ❤️", "👩‍👩‍👧‍👦 family 👍🏽 ❤️"),
        ("\ud800lone", "lone"),
        ("红色 碗", "红色 碗"),
        ("", ""),
    ],
)
def test_examples(text, expected):
    assert clean(text, 80) == expected


def test_a_huge_title_is_cut_at_a_word():
    title = "teapot " * 15_000
    assert clean(title, 22) == "teapot teapot teapot"
    assert clean("x" * 100_000, 20) == "x" * 20
    assert clean(" " * 100_000 + "late", 20) == ""


def test_the_tokenizers_own_tokens_are_broken():
    assert clean("say ##end## twice ##end##", 80, ["##end##"]) == "say # #end## twice # #end##"
    assert clean("a¤b", 80, ["¤"]) == "a b"
