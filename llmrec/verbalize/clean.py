"""Text of items, users and wishes made safe: it can act neither as a control token nor as a sentinel.

Whatever goes into a prompt from outside passes `clean`. Template code needs no escape: values are never
parsed as templates (`verbalize.templates`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_ZERO_WIDTH_JOINER = "\u200d"
_VARIATION = "\ufe0e\ufe0f"
_ANGLE = re.compile(r"([<＜])(?=\S)")
_BRACKET = re.compile(r"\[(?=/?[A-Za-z_]*[A-Z_]{3,}\d*\])")
_CONTROL = frozenset({"Cc", "Cf", "Co", "Cs"})
_SPACES = frozenset({"Zs", "Zl", "Zp"})


def clean(text: str, limit: int, forbidden: Sequence[str] = ()) -> str:
    """One line of at most `limit` characters without anything that a tokenizer or a template could obey.

    Removed: control characters, NUL, bidirectional and zero-width marks (a joiner stays inside an emoji),
    private-use characters, lone surrogates. White space collapses to single spaces. Control-token strings
    are broken by a space: every `<` that something follows (`<|im_end|>`, `<s>`, `<item_7>`), bracketed
    capitals (`[INST]`) and the strings of `forbidden` (a tokenizer's special tokens). The result is NFC;
    what is too long is cut after a whole word where there is one.
    """
    bound = 16 * limit + 256
    longer = len(text) > bound
    text = text[:bound]
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", _printable(text))
    text = " ".join(text.split())
    text = _BRACKET.sub("[ ", _ANGLE.sub(r"\1 ", text))
    for token in forbidden:
        text = _break(text, token)
    return _shorten(text, limit, longer)


def _printable(text: str) -> str:
    kept: list[str] = []
    for position, char in enumerate(text):
        if char.isspace():
            kept.append(" ")
        elif char == _ZERO_WIDTH_JOINER:
            if kept and _pictorial(kept[-1]) and _pictorial(text[position + 1 : position + 2]):
                kept.append(char)
        elif unicodedata.category(char) in _SPACES:
            kept.append(" ")
        elif unicodedata.category(char) not in _CONTROL and not _noncharacter(ord(char)):
            kept.append(char)
    return "".join(kept)


def _pictorial(char: str) -> bool:
    """Whether an emoji may be joined at this character: a symbol, a skin tone or a variation mark."""
    return char != "" and (char in _VARIATION or unicodedata.category(char) in ("So", "Sk"))


def _noncharacter(code: int) -> bool:
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def _break(text: str, token: str) -> str:
    """Put a space after the first character of each occurrence of `token`."""
    if not token.strip():
        return text
    broken = f"{token[0]} {token[1:]}" if len(token) > 1 else " "
    while token in text:
        shorter = text.replace(token, broken)
        if token in broken:
            return shorter
        text = shorter
    return text


def _shorten(text: str, limit: int, longer: bool) -> str:
    """Cut to `limit` at the end of a word; `longer` says that the last word may be incomplete already."""
    if len(text) > limit:
        inside = text[limit] != " "
        text = text[:limit]
    else:
        inside = longer
    if inside and " " in text:
        text = text[: text.rindex(" ")]
    return text.rstrip(" " + _ZERO_WIDTH_JOINER)
