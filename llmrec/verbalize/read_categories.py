"""The categories that a wish names: "from Makeup", "not in the Garden section", "skin care"."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.verbalize import grammar
from llmrec.verbalize.goal_grammar import NEW_CATEGORY
from llmrec.verbalize.reading import ARTICLES, QUOTES, Reading, Token, longest
from llmrec.verbalize.words import stems

_WORD_MARKS = frozenset({"word", "words", "titled", "called", "named"})
"""What follows these is a word of titles and no category: "with the word comedy"."""
_OR = ("or", "nor")


def read_categories_led(reading: Reading) -> None:
    """Categories that the words around them tell as such, in or out: "from X", "not in the X section"."""
    position, taken = 0, 0
    tokens = reading.tokens()
    # "From an unfamiliar category" names none, whatever word comes next.
    nameless = [match.span() for match in NEW_CATEGORY.finditer(reading.text)]
    while position < len(tokens):
        found = _named(reading, tokens[position:])
        if found is None:
            position += 1
            continue
        name, end = found
        stop = _at(tokens, end, position)
        before, after = _introduced(tokens[taken:position]), _followed(tokens, stop)
        if before is not None and any(start < before.end <= end for start, end in nameless):
            before = None
        if before is None and not after:
            position += 1
            continue
        start = tokens[position].start if before is None else before.start
        negation = reading.negated(start)
        stop = stop + 1 if after else stop
        others, last = _alternatives(reading, tokens, stop)
        if negation is not None:
            reading.understood(negation, exclude_categories=(name, *others))
            reading.take(negation, tokens[last - 1].end)
        elif others or _beside_or(tokens, tokens.index(before) if before else position, stop):
            reading.leave(start, tokens[last - 1].end)
        else:
            reading.understood(start, include_categories=(name,))
            reading.take(start, tokens[stop - 1].end)
            last = stop
        position = taken = last


def read_categories_bare(reading: Reading) -> None:
    """Categories that are named alone, where their words are not rather words of titles."""
    tokens, position = reading.tokens(), 0
    while position < len(tokens):
        found = category_alone(reading, tokens, position)
        if found is None:
            position += 1
            continue
        name, end = found
        start, stop = tokens[position].start, _at(tokens, end, position)
        if _beside_or(tokens, position, stop):  # alternatives are the model's
            reading.leave(start, end)
        else:
            reading.understood(start, include_categories=(name,))
            reading.take(start, end)
        position = stop


def category_alone(reading: Reading, tokens: Sequence[Token], position: int = 0) -> tuple[str, int] | None:
    """The category that the tokens from `position` on mean, and where it ends in the text.

    None where they rather name words: see `Lexicon.category_meant`; after "the word"; and together with
    the word before or after where a title has the two beside each other ("garden gnome").
    """
    found = _named(reading, tokens[position:])
    if found is None or _said_as_word(tokens[:position]):
        return None
    stop = _at(tokens, found[1], position)
    words = [word for token in tokens[position:stop] for word in token.words]
    name = reading.lexicon.category_meant(words)
    if name is None:
        return None
    own = stems(" ".join(words))
    before = stems(tokens[position - 1].text) if position else ()
    after = stems(tokens[stop].text) if stop < len(tokens) else ()
    pairs = [(before[-1:], own[:1]), (own[-1:], after[:1])]
    if any(one and two and reading.lexicon.beside(one[0], two[0]) for one, two in pairs):
        return None
    return name, found[1]


def words_only(phrase: Sequence[Token]) -> Sequence[Token] | None:
    """The words after "word" in a phrase that begins with it, None for another phrase."""
    return phrase[1:] if phrase and phrase[0].words[-1:] and phrase[0].words[-1] in _WORD_MARKS else None


def _named(reading: Reading, tokens: Sequence[Token]) -> tuple[str, int] | None:
    """The category whose name begins at the first token, and where it ends in the text."""
    lexicon = reading.lexicon
    if not tokens or not tokens[0].words or not lexicon.category_begins(tokens[0].words[0]):
        return None
    return longest(tokens, lexicon.category_named, lexicon.longest_category)


def _at(tokens: Sequence[Token], end: int, first: int) -> int:
    """The number of the first token, from `first` on, that starts at `end` of the text or later."""
    return next((at for at in range(first, len(tokens)) if tokens[at].start >= end), len(tokens))


def _alternatives(reading: Reading, tokens: Sequence[Token], stop: int) -> tuple[list[str], int]:
    """The categories that go on with "or" after one that ends before `stop`, and where the last ends."""
    names: list[str] = []
    while stop < len(tokens) and tokens[stop].words[:1] and tokens[stop].words[0] in _OR:
        at = stop + 1
        while at < len(tokens) and tokens[at].text.lower() in ARTICLES | QUOTES | {"in", "from"}:
            at += 1
        found = _named(reading, tokens[at:])
        if found is None:
            break
        names.append(found[0])
        stop = _at(tokens, found[1], at)
        stop = stop + 1 if _followed(tokens, stop) else stop
    return names, stop


def _beside_or(tokens: Sequence[Token], start: int, stop: int) -> bool:
    """Whether the tokens from `start` to `stop` are one of several alternatives."""
    sides = [*tokens[max(0, start - 1) : start], *tokens[stop : stop + 1]]
    return any(token.words == ("or",) for token in sides)


def _said_as_word(before: Sequence[Token]) -> bool:
    """Whether the words that come next are told as words of titles: "the word", "called"."""
    for token in reversed(before):
        if token.text in QUOTES:
            continue
        if token.words and token.words[-1] in _WORD_MARKS:
            return True
        if not token.words or not stems(token.text):
            return False
    return False


def _introduced(before: Sequence[Token]) -> Token | None:
    """The last of the words before a name, articles left aside, if it says that a category follows."""
    last = next((token for token in reversed(before) if token.text.lower() not in ARTICLES | QUOTES), None)
    if last is None or last.words[-1:] == () or last.words[-1] not in grammar.CATEGORY_BEFORE:
        return None
    return last


def _followed(tokens: Sequence[Token], stop: int) -> bool:
    """Whether the word after a name says that it was a category."""
    return stop < len(tokens) and bool(tokens[stop].words) and tokens[stop].words[0] in grammar.CATEGORY_AFTER
