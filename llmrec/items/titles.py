"""Titles as a model writes them: token sequences that end their line, and the trie of all of them.

A title is written as in a prompt whose items are lines (`verbalize.render`): a space, the title, a new line.
Titles have no line ends inside (`verbalize.clean`), so the token with the new line stands at the end and
nowhere else, and no title begins another, "Mug" and "Mug Red" included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.errors import LlmrecError
from llmrec.items.trie import Trie
from llmrec.items.trie_building import padded
from llmrec.verbalize.clean import clean
from llmrec.verbalize.render import TITLE_LIMIT

LONGEST = 64
"""Tokens of a title at most, with its end; what is longer is cut after a whole word."""
_LEAST = 8  # room for any one character and the end
_LEAD = "-"
"""What stands before a title in a prompt: a tokenizer may write the beginning of a text in another way."""
_SAMPLE = 1000

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Token ids of each of some texts, without tokens that a tokenizer adds to every text."""


def titles_of(catalog: Catalog, forbidden: Sequence[str] = ()) -> list[str]:
    """The title of each item as prompts have it, never empty: the id, or the item's number, stands in.

    `forbidden` are the tokenizer's special tokens, see `verbalize.clean`.
    """
    return [
        clean(item.title, TITLE_LIMIT, forbidden)
        or clean(item.id, TITLE_LIMIT, forbidden)
        or f"item {number}"
        for number, item in enumerate(catalog.items)
    ]


def title_trie(titles: Sequence[str], encode: Encode, end: int | None, longest: int = LONGEST) -> Trie:
    """The trie of all titles; items of one title, or of one when both are cut, are at one leaf."""
    return Trie.build(padded(title_sequences(titles, encode, end, longest)))


def title_levels(trie: Trie) -> list[np.ndarray]:
    """For each place of a title all tokens that stand at some place of one, sorted int64."""
    return [np.unique(np.concatenate(trie.choices))] * trie.depth


def title_sequences(
    titles: Sequence[str], encode: Encode, end: int | None, longest: int = LONGEST
) -> list[list[int]]:
    """The tokens of each title and of its end, at most `longest`.

    `end` (the tokenizer's own token of an end) is added where the tokenizer does not tell lines apart.
    Raises `LlmrecError` where it has none.
    """
    if longest < _LEAST:
        raise LlmrecError(f"titles of at most {longest} tokens say nothing: allow at least {_LEAST}")
    distinct = list(dict.fromkeys(titles))
    rows = _lines(distinct, encode)
    inside = {token for row in rows for token in row[:-1]}
    if any(row[-1] in inside for row in rows):
        if end is None or any(end in row for row in rows):
            raise LlmrecError(
                "this model's tokenizer has no token that ends a title: choose another model to write titles"
            )
        rows = _short_enough(distinct, rows, encode, longest - 1)
        rows = [[*row, end] for row in rows]
    else:
        rows = _short_enough(distinct, rows, encode, longest)
    known = dict(zip(distinct, rows, strict=True))
    return [known[title] for title in titles]


def _lines(texts: Sequence[str], encode: Encode) -> list[list[int]]:
    """The tokens of each text on a line, as they stand behind `_LEAD`.

    Of many texts each word is encoded once, which is ten times as fast as whole texts; a sample of them,
    encoded whole, must come out the same, as with all tokenizers that begin anew at a space.
    """
    if len(texts) <= _SAMPLE:
        return _behind_lead([f" {text}\n" for text in texts], encode)
    split = [text.split(" ") for text in texts]
    inner = _by_word({word for words in split for word in words[:-1]}, "", encode)
    last = _by_word({words[-1] for words in split}, "\n", encode)
    rows = []
    for words in split:
        row: list[int] = []
        for word in words[:-1]:
            row += inner[word]
        rows.append(row + last[words[-1]])
    step = -(-len(texts) // _SAMPLE)
    if rows[::step] == _behind_lead([f" {text}\n" for text in texts[::step]], encode):
        return rows
    return _behind_lead([f" {text}\n" for text in texts], encode)


def _by_word(words: set[str], end: str, encode: Encode) -> dict[str, list[int]]:
    """The tokens of each word behind a space, with `end` after it."""
    ordered = sorted(words)
    rows = _behind_lead([f" {word}{end}" for word in ordered], encode)
    return dict(zip(ordered, rows, strict=True))


def _behind_lead(texts: Sequence[str], encode: Encode) -> list[list[int]]:
    """The tokens of each text behind `_LEAD`, without it."""
    (lead,) = encode([_LEAD])
    rows = encode([f"{_LEAD}{text}" for text in texts])
    if all(row[: len(lead)] == lead for row in rows):
        return [row[len(lead) :] for row in rows]
    return encode(texts)


def _short_enough(
    texts: Sequence[str], rows: list[list[int]], encode: Encode, longest: int
) -> list[list[int]]:
    """The rows, those with more than `longest` tokens made anew of less and less of their texts."""
    left = {number: texts[number] for number, row in enumerate(rows) if len(row) > longest}
    while left:
        shorter = {
            number: clean(text, max(1, min(len(text) - 1, len(text) * longest // len(rows[number]))))
            for number, text in left.items()
        }
        for number, row in zip(shorter, _lines(list(shorter.values()), encode), strict=True):
            rows[number] = row
        left = {number: text for number, text in shorter.items() if len(rows[number]) > longest}
    return rows
