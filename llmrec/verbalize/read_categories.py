"""The categories that a wish names: "from Makeup", "not in the Garden section", "skin care"."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.verbalize import grammar
from llmrec.verbalize.goal_grammar import NEW_CATEGORY
from llmrec.verbalize.reading import ARTICLES, QUOTES, Reading, Token, longest
from llmrec.verbalize.words import singular, stems


def read_categories_led(reading: Reading) -> None:
    """Categories that the words around them tell as such, in or out: "from X", "not in the X section"."""
    _read(reading, led=True)


def read_categories_bare(reading: Reading) -> None:
    """Categories that are named alone, where their words are not rather words of titles."""
    _read(reading, led=False)


def _read(reading: Reading, led: bool) -> None:
    lexicon, position, taken = reading.lexicon, 0, 0
    tokens = reading.tokens()
    # "From an unfamiliar category" names none, whatever word comes next.
    nameless = [match.span() for match in NEW_CATEGORY.finditer(reading.text)] if led else []
    while position < len(tokens):
        words = tokens[position].words
        found = None
        if words and {words[0], singular(words[0])} & lexicon.category_beginnings:
            found = longest(tokens[position:], lexicon.category_named, lexicon.longest_category)
        if found is None:
            position += 1
            continue
        name, end = found
        stop = next((at for at in range(position, len(tokens)) if tokens[at].start >= end), len(tokens))
        before, after = _introduced(tokens[taken:position]), _followed(tokens, stop)
        if before is not None and any(start < before.end <= end for start, end in nameless):
            before = None
        beside = (*tokens[max(0, position - 1) : position], *tokens[stop : stop + 1])
        bare = not led and _means_category(reading, name, beside)
        if (before is not None or after) if led else bare:
            start = tokens[position].start if before is None else before.start
            end = tokens[stop].end if after else end
            negation = reading.negated(start) if led else None
            part = "include_categories" if negation is None else "exclude_categories"
            start = start if negation is None else negation
            reading.understood(start, **{part: (name,)})
            reading.take(start, end)
            position = taken = stop + 1 if after else stop
        else:
            position += 1


def _means_category(reading: Reading, name: str, beside: Sequence[Token]) -> bool:
    """Whether a name that nothing introduces is the category, not words of titles with those `beside` it.

    Alternatives ("drama or thriller") are none: an item would have to be of both.
    """
    lexicon = reading.lexicon
    if any(token.words == ("or",) for token in beside):
        return False
    if any(not lexicon.in_titles(stem) for stem in stems(name)):
        return True
    known = [stem for token in beside for stem in stems(token.text) if reading.knows(stem)]
    return lexicon.rather_category(name) and not any(
        lexicon.items_with_all([*stems(name), stem]) for stem in known
    )


def _introduced(before: Sequence[Token]) -> Token | None:
    """The last of the words before a name, articles left aside, if it says that a category follows."""
    last = next((token for token in reversed(before) if token.text.lower() not in ARTICLES | QUOTES), None)
    if last is None or last.words[-1:] == () or last.words[-1] not in grammar.CATEGORY_BEFORE:
        return None
    return last


def _followed(tokens: Sequence[Token], stop: int) -> bool:
    """Whether the word after a name says that it was a category."""
    return stop < len(tokens) and bool(tokens[stop].words) and tokens[stop].words[0] in grammar.CATEGORY_AFTER
