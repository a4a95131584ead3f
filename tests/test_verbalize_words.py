"""The stems by which wishes, filters and signals compare words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.verbalize.words import STOP_WORDS, singular, stems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mug", "Mugs"), ("box", "boxes"), ("glass", "glasses"), ("fairy", "Fairies"), ("cookie", "cookies"),
        ("dish", "dishes"), ("tomato", "tomatoes"), ("shoe", "shoes"), ("knife", "knives"), ("case", "cases"),
        ("child", "children's"), ("café", "CAFES"), ("women", "woman"), ("bus", "buses"), ("tie", "ties"),
    ],
)  # fmt: skip
def test_forms_of_one_word_compare_equal(one, other):
    assert stems(one) == stems(other) != ()


@pytest.mark.parametrize("word", ["christmas", "glass", "lotus", "iris", "gas", "news", "50s"])
def test_words_that_only_look_plural_stay(word):
    assert stems(word) == (word,)


def test_words_of_a_title():
    assert stems("T-light Holder: 3 Hearts of the 50's") == ("light", "holder", "3", "heart", "50s")
    assert stems("something, things and stuff for me") == ()
    assert stems("红色杯子 mug") == ("红", "色", "杯", "子", "mug")
    assert stems("हिन्दी किताब") == ("हिन्दी", "किताब")


@given(st.text(max_size=60))
def test_stems_are_stable_and_never_stop_words(text):
    found = stems(text)
    assert not set(found) & STOP_WORDS
    for stem in found:
        assert stems(stem) == (stem,) or not stem.isascii()


@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True))
def test_the_singular_is_its_own_singular(word):
    assert singular(singular(word)) == singular(word)
