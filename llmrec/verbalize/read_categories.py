"""The categories that a wish names: "from Makeup", "not in the Garden section", "skin care"."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.verbalize import grammar
from llmrec.verbalize.goal_grammar import NEW_CATEGORY
from llmrec.verbalize.reading import ARTICLES, QUOTES, Reading, Token, longest
from llmrec.verbalize.words import stems


def read_categories_led(reading: Reading) -> None:
    """Categories that the words around them tell as such, in or out: "from X", "not in the X section"."""
    _read(reading, led=True)


def read_categories_bare(reading: Reading) -> None:
    """Categories that are named alone, where their words are not also words of titles."""
    _read(reading, led=False)


def _read(reading: Reading, led: bool) -> None:
    lexicon, position, taken = reading.lexicon, 0, 0
    tokens = reading.tokens()
    # "From an unfamiliar category" names none, whatever word comes next.
    nameless = [match.span() for match in NEW_CATEGORY.finditer(reading.text)] if led else []
    while position < len(tokens):
        words = tokens[position].words
        found = None
        if words and words[0] in lexicon.category_beginnings:
            found = longest(tokens[position:], lexicon.category_named, lexicon.longest_category)
        if found is None:
            position += 1
            continue
        name, end = found
        stop = next((at for at in range(position, len(tokens)) if tokens[at].start >= end), len(tokens))
        before, after = _introduced(tokens[taken:position]), _followed(tokens, stop)
        if before is not None and any(start < before.end <= end for start, end in nameless):
            before = None
        bare = any(not lexicon.in_titles(stem) for stem in stems(name))
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


def _introduced(before: Sequence[Token]) -> Token | None:
    """The last of the words before a name, articles left aside, if it says that a category follows."""
    last = next((token for token in reversed(before) if token.text.lower() not in ARTICLES | QUOTES), None)
    if last is None or last.words[-1:] == () or last.words[-1] not in grammar.CATEGORY_BEFORE:
        return None
    return last


def _followed(tokens: Sequence[Token], stop: int) -> bool:
    """Whether the word after a name says that it was a category."""
    return stop < len(tokens) and bool(tokens[stop].words) and tokens[stop].words[0] in grammar.CATEGORY_AFTER
