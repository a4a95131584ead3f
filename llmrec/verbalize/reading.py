"""A wish while it is read: its text, what is understood so far and where that stood."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, TypeVar

from llmrec.verbalize import grammar
from llmrec.verbalize.goal_grammar import NEGATED
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.words import split_words

T = TypeVar("T")
_TOKEN = re.compile(r"[|,;:!?()\"“”]|[^\s|,;:!?()\"“”]+")
_BREAKS = frozenset('|,;:!?()"“”')
QUOTES = frozenset('"“”(')
ARTICLES = frozenset({"the", "a", "an", "my", "our", "those", "these", "that", "this"})
_TIGHTER: dict[str, Callable[[Sequence[float]], float]] = {
    "max_price": min,
    "min_price": max,
    "min_value": max,
}
"""Of several bounds this one holds."""
_LOOK_BACK = 80
"""Characters before a phrase in which what negates it must stand."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text between white space, its words, and where it stands; a break has no words."""

    text: str
    words: tuple[str, ...]
    start: int
    end: int


@dataclass(slots=True)
class Reading:
    """The wish while it is read: what is understood is blanked out of `text` by a break.

    `spans` say where something was understood: (start, name of the part, its value). `marks` are the words
    of weight: (start, end, weight). `said` is the wish as it was.
    """

    text: str
    lexicon: Lexicon
    objective: Objective = field(default_factory=Objective)
    rest: list[tuple[int, str]] = field(default_factory=list)
    spans: list[tuple[int, str, Any]] = field(default_factory=list)
    marks: list[tuple[int, int, float]] = field(default_factory=list)
    said: str = ""

    def __post_init__(self) -> None:
        self.said = self.said or self.text

    def take(self, start: int, end: int) -> None:
        """Blank out a span; positions of the others stay."""
        self.text = self.text[:start] + "|".ljust(end - start) + self.text[end:]

    def leave(self, start: int, end: int, before: str = "") -> None:
        """Move a span to `rest`, with a word before it."""
        self.rest.append((start, before + self.text[start:end].strip(" .")))
        self.take(start, end)

    def understood(self, at: int, **parts: Any) -> None:
        """Set parts of the objective that stand at a position, together with those that stood elsewhere."""
        for name, value in parts.items():
            self.spans.append((at, name, value))
            every = sorted((each for each in self.spans if each[1] == name), key=lambda each: each[0])
            if isinstance(value, tuple) or name in _TIGHTER:
                parts[name] = together(name, [values for _, _, values in every])
        self.objective = replace(self.objective, **parts)

    def tokens(self, start: int = 0) -> list[Token]:
        """The tokens from `start` on; taken spans are breaks."""
        found = []
        for match in _TOKEN.finditer(self.text, start):
            words = () if match[0] in _BREAKS else tuple(split_words(match[0]))
            found.append(Token(match[0], words, match.start(), match.end()))
        return found

    def knows(self, stem: str) -> bool:
        """Whether an item can be asked to have this word."""
        return stem not in grammar.SOFT and not stem.isdigit() and self.lexicon.in_titles(stem) > 0

    def before(self, at: int, pattern: re.Pattern[str]) -> int | None:
        """Where the phrase that ends right before `at` begins, None when there is none."""
        start = max(0, at - _LOOK_BACK)
        match = pattern.search(self.text[start:at])
        return None if match is None else start + match.start()

    def negated(self, at: int) -> int | None:
        """Where the negation of what stands at `at` begins, None when it is not negated."""
        return self.before(at, NEGATED)


def together(name: str, values: Sequence[Any]) -> Any:
    """What the values of a part mean together: all of several, the tightest of bounds, else the first."""
    if isinstance(values[0], tuple):
        return tuple(dict.fromkeys(one for each in values for one in each))
    return _TIGHTER[name](values) if name in _TIGHTER else values[0]


def longest(
    tokens: Sequence[Token], named: Callable[[Sequence[str]], T | None], most: int
) -> tuple[T, int] | None:
    """The value that `named` gives the longest beginning of `tokens`, and where it ends in the text."""
    words: list[str] = []
    found: tuple[T, int] | None = None
    for token in tokens:
        words += token.words
        if token.text == "|" or len(words) > most:
            break
        if token.words and (value := named(words)) is not None:
            found = value, token.end
    return found


def without_articles(tokens: list[Token]) -> list[Token]:
    """The tokens after the articles and quotation marks that they begin with."""
    while tokens and tokens[0].text.lower() in ARTICLES | QUOTES:
        tokens = tokens[1:]
    return tokens


def phrase_of(tokens: Sequence[Token]) -> list[Token]:
    """The tokens up to a break or a word that begins another thought."""
    phrase: list[Token] = []
    for token, following in zip_longest(tokens, tokens[1:]):
        if not token.words or token.words[0] in grammar.END_OF_OBJECT:
            break
        if token.words == ("and",) and (
            following is None or not following.words or following.words[0] in grammar.POSITIVE_AFTER_AND
        ):
            break
        phrase.append(token)
    return phrase
