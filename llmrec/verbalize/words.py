"""The one way in which texts are compared by words: wishes, filters and signals all use `stems`."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_DIACRITICS = re.compile("[\u0300-\u036f]")
_APOSTROPHES = re.compile("['\u2018\u2019\u02bc`´]")
_IDEOGRAPHS = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
_STOPPED = """
a an and any anything are as at be but by can could do for from get give got had has have i id if ill im in
into is it its ive just let looking looks me my need no not of off on one ones or our out please s show so
some something stuff t than that the their them then there these thing things they this those to us very want
was we were what which will with without would you your item items product products
"""
STOP_WORDS = frozenset(_STOPPED.split())
_IRREGULAR = {
    "buses": "bus", "children": "child", "childrens": "child", "feet": "foot", "geese": "goose",
    "halves": "half", "knives": "knife", "leaves": "leaf", "loaves": "loaf", "men": "man", "mens": "man",
    "mice": "mouse", "scarves": "scarf", "shelves": "shelf", "teeth": "tooth", "wolves": "wolf",
    "women": "woman", "womens": "woman", "shoes": "shoe", "toes": "toe", "canoes": "canoe",
}  # fmt: skip
_WHOLE = frozenset(
    ("atlas", "canvas", "christmas", "gas", "lens", "news", "series", "species", "texas", "xmas")
)


@lru_cache(maxsize=200_000)
def stems(text: str) -> tuple[str, ...]:
    """Stems of the words of `text`, in order, repeats kept; stop words dropped.

    Lower case, accents of Latin letters folded, apostrophes dropped, English plurals made singular
    ("mugs" and "mug", "boxes" and "box" compare equal). Chinese and Japanese text gives one word a
    character. Numbers are words.
    """
    found = []
    for word in split_words(text):
        stem = singular(word)
        if word not in STOP_WORDS and stem not in STOP_WORDS:
            found.append(stem)
    return tuple(found)


def split_words(text: str) -> list[str]:
    """Words of `text` in lower case without accents and apostrophes, stop words included."""
    if text.isascii():
        folded = _APOSTROPHES.sub("", text.lower())
        return re.findall(r"[a-z0-9]+", folded)
    decomposed = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text).casefold())
    folded = unicodedata.normalize("NFKC", _DIACRITICS.sub("", decomposed)).casefold()
    spaced = "".join(char if unicodedata.category(char)[0] in "LNM" else " " for char in folded)
    return _IDEOGRAPHS.sub(r" \1 ", spaced).split()


def singular(word: str) -> str:
    """A crude English singular; equal for both numbers of most words, and stable when applied twice."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or word in _WHOLE or not word.isascii() or word[0].isdigit():
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ie") and len(word) > 4:
        return word[:-2] + "y"
    if word.endswith(("xes", "ches", "shes", "sses", "zes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
