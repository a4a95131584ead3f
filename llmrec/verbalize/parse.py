"""Words of a wish to an `Objective`: rules over phrases and over the words of the catalogue's titles.

What is found is exact enough to be enforced; what no rule understands stays in `rest`, for the model, which
reads the whole wish anyway. Any string is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, TypeVar

from llmrec.verbalize import grammar
from llmrec.verbalize.clean import clean
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.words import split_words, stems

T = TypeVar("T")
WISH_LIMIT = 400
"""Characters of a wish that are looked at."""
_SIMILAR = 0.5
_TOKEN = re.compile(r"[|,;:!?()\"“”]|[^\s|,;:!?()\"“”]+")
_BREAKS = frozenset('|,;:!?()"“”')
_QUOTES = frozenset('"“”(')
_ARTICLES = frozenset({"the", "a", "an", "my", "our", "those", "these", "that", "this"})


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of the text between white space, its words, and where it stands; a break has no words."""

    text: str
    words: tuple[str, ...]
    start: int
    end: int


@dataclass(slots=True)
class _Reading:
    """The wish while it is read: what is understood is blanked out of `text` by a break."""

    text: str
    lexicon: Lexicon
    objective: Objective = field(default_factory=Objective)
    rest: list[tuple[int, str]] = field(default_factory=list)

    def take(self, start: int, end: int) -> None:
        """Blank out a span; positions of the others stay."""
        self.text = self.text[:start] + "|".ljust(end - start) + self.text[end:]

    def leave(self, start: int, end: int, before: str = "") -> None:
        """Move a span to `rest`, with a word before it."""
        self.rest.append((start, before + self.text[start:end].strip(" .")))
        self.take(start, end)

    def understood(self, **parts: Any) -> None:
        """Set parts of the objective."""
        self.objective = replace(self.objective, **parts)

    def tokens(self, start: int = 0) -> list[_Token]:
        """The tokens from `start` on; taken spans are breaks."""
        found = []
        for match in _TOKEN.finditer(self.text, start):
            words = () if match[0] in _BREAKS else tuple(split_words(match[0]))
            found.append(_Token(match[0], words, match.start(), match.end()))
        return found

    def knows(self, stem: str) -> bool:
        """Whether an item can be asked to have this word."""
        return stem not in grammar.SOFT and not stem.isdigit() and self.lexicon.in_titles(stem) > 0


def parse(text: str, lexicon: Lexicon) -> Objective:
    """What the words ask for, as far as rules can tell; see the module.

    Prices, "like" a title, seasons and novelty are phrases. Of the words that remain, those of titles must
    stand in an item (`include_words`) unless they are negated (`exclude_words`); a phrase that is negated
    ("not a lunch bag") excludes its rarest word only. Words that no item has together with the words after
    them, alternatives ("mugs or cups") and numbers go to `rest`.
    """
    reading = _Reading(clean(text, WISH_LIMIT).replace("\u2019", "'"), lexicon)
    _read_like(reading)
    _read_prices(reading)
    _read_new(reading)
    _read_seasons(reading)
    _read_negations(reading)
    _read_categories(reading)
    _read_words(reading)
    reading.understood(rest=" ".join(said for _, said in sorted(reading.rest) if said))
    return reading.objective


def _longest(
    tokens: Sequence[_Token], named: Callable[[Sequence[str]], T | None], most: int
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


def _without_articles(tokens: list[_Token]) -> list[_Token]:
    while tokens and tokens[0].text.lower() in _ARTICLES | _QUOTES:
        tokens = tokens[1:]
    return tokens


def _phrase(tokens: Sequence[_Token]) -> list[_Token]:
    """The tokens up to a break or a word that begins another thought."""
    phrase: list[_Token] = []
    for token, following in zip_longest(tokens, tokens[1:]):
        if not token.words or token.words[0] in grammar.END_OF_OBJECT:
            break
        if token.words == ("and",) and (
            following is None or not following.words or following.words[0] in grammar.POSITIVE_AFTER_AND
        ):
            break
        phrase.append(token)
    return phrase


def _read_like(reading: _Reading) -> None:
    lexicon = reading.lexicon
    for match in grammar.LIKE.finditer(reading.text):
        after = reading.tokens(match.end())
        bare = _without_articles(after)
        found = _longest(after, lexicon.item_titled, lexicon.longest_title) or _longest(
            bare, lexicon.item_titled, lexicon.longest_title
        )
        if found is None:
            phrase = _phrase(bare)
            wanted = tuple(dict.fromkeys(stem for token in phrase for stem in stems(token.text)))
            if not wanted:
                continue
            end = phrase[-1].end
            nearest = lexicon.nearest_titles(wanted, 1)
            if not nearest or nearest[0][0] < _SIMILAR:
                reading.leave(match.start(), end)
                return
            found = nearest[0][1], end
        reading.understood(like=found[0])
        reading.take(match.start(), found[1])
        return


def _read_prices(reading: _Reading) -> None:
    currency = reading.lexicon.catalog.currency
    for name, pattern in grammar.price_patterns(currency).items():
        for match in list(pattern.finditer(reading.text)):
            marked = grammar.has_currency(match, "a", *(["b"] if name.startswith("range") else []))
            if name in ("about", "bare"):
                if marked:
                    reading.leave(*match.span())
                continue
            if not marked and (
                name in ("range_bare", "min_from") or (currency and name in ("max_after", "min_after"))
            ):
                continue
            bound = grammar.amount(match, "a")
            if name.startswith("range"):
                low, high = sorted((bound, grammar.amount(match, "b")))
                _bound(reading, low, high)
            elif name.startswith("max"):
                _bound(reading, None, bound)
            else:
                _bound(reading, bound, None)
            reading.take(*match.span())


def _bound(reading: _Reading, low: float | None, high: float | None) -> None:
    """Add price bounds; of two upper bounds the lower holds, and the other way round."""
    known = reading.objective
    lows = [price for price in (low, known.min_price) if price is not None]
    highs = [price for price in (high, known.max_price) if price is not None]
    reading.understood(min_price=max(lows, default=None), max_price=min(highs, default=None))


def _read_new(reading: _Reading) -> None:
    for match in list(grammar.NEW.finditer(reading.text)):
        reading.understood(new_for_user=True)
        reading.take(*match.span())


def _read_seasons(reading: _Reading) -> None:
    for match in list(grammar.SEASON.finditer(reading.text)):
        if match["not"]:
            continue
        if reading.objective.season is None:
            reading.understood(season=next(name for name in SEASONS if match[name]))
            reading.take(*match.span())
        else:
            reading.leave(*match.span())


def _read_negations(reading: _Reading) -> None:
    for match in list(grammar.IDIOM.finditer(reading.text)):
        reading.leave(*match.span())
    while (negation := grammar.NEGATION.search(reading.text)) is not None:
        if (category_end := _exclude_category(reading, negation.end())) is not None:
            reading.take(negation.start(), category_end)
            continue
        phrase = _phrase(reading.tokens(negation.end()))
        understood = False
        for part in _split_alternatives(phrase):
            if _exclude(reading, part):
                understood = True
            elif understood:
                reading.rest.append((part[0].start, "no " + " ".join(token.text for token in part)))
        end = phrase[-1].end if phrase else negation.end()
        if understood:
            reading.take(negation.start(), end)
        else:
            reading.leave(negation.start(), end)


def _split_alternatives(phrase: Sequence[_Token]) -> list[list[_Token]]:
    parts: list[list[_Token]] = [[]]
    for token in phrase:
        if token.words in (("and",), ("or",), ("nor",)):
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _exclude_category(reading: _Reading, start: int) -> int | None:
    """Exclude the category that "from ..." names at `start`; where it ends, None when there is none."""
    tokens = reading.tokens(start)
    if not tokens or tokens[0].text.lower() not in grammar.CATEGORY_BEFORE:
        return None
    named = _without_articles(tokens[1:])
    found = _longest(named, reading.lexicon.category_named, reading.lexicon.longest_category)
    if found is None:
        return None
    name, end = found
    after = next((token for token in named if token.start >= end), None)
    reading.understood(exclude_categories=_with(reading.objective.exclude_categories, name))
    return after.end if after is not None and after.text.lower() in grammar.CATEGORY_AFTER else end


def _exclude(reading: _Reading, phrase: list[_Token]) -> bool:
    """Exclude the rarest word of a negated phrase, or the category that it names; False for neither."""
    lexicon, known = reading.lexicon, reading.objective
    named = _without_articles(phrase)
    found = [stem for token in named for stem in stems(token.text) if reading.knows(stem)]
    if found:
        rarest = min(reversed(found), key=lexicon.in_titles)
        reading.understood(exclude_words=_with(known.exclude_words, rarest))
        return True
    category = _longest(named, lexicon.category_named, lexicon.longest_category)
    if category is not None:
        reading.understood(exclude_categories=_with(known.exclude_categories, category[0]))
    return category is not None


def _with(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    return values if value in values else (*values, value)


def _read_categories(reading: _Reading) -> None:
    lexicon, position = reading.lexicon, 0
    tokens = reading.tokens()
    while position < len(tokens):
        found = _longest(tokens[position:], lexicon.category_named, lexicon.longest_category)
        if found is None or not tokens[position].words:
            position += 1
            continue
        name, end = found
        stop = next(
            (index for index in range(position, len(tokens)) if tokens[index].start >= end), len(tokens)
        )
        start = position
        while start > 0 and tokens[start - 1].text.lower() in _ARTICLES | _QUOTES:
            start -= 1
        before = (
            start > 0
            and tokens[start - 1].words[-1:]
            and tokens[start - 1].words[-1] in grammar.CATEGORY_BEFORE
        )
        after = (
            stop < len(tokens) and tokens[stop].words[:1] and tokens[stop].words[0] in grammar.CATEGORY_AFTER
        )
        bare = any(not lexicon.in_titles(stem) for stem in stems(name))
        if before or after or bare:
            reading.understood(include_categories=_with(reading.objective.include_categories, name))
            first = tokens[start - 1] if before else tokens[position]
            reading.take(first.start, tokens[stop].end if after else end)
            position = stop
        else:
            position += 1


def _read_words(reading: _Reading) -> None:
    runs: list[list[tuple[int, str, str]]] = [[]]
    alternatives = set()
    for token in reading.tokens():
        said = token.text.strip(".'")
        if not token.words:
            runs.append([])
            if not token.text.isascii():
                reading.rest.append((token.start, said))
        elif token.words == ("or",):
            alternatives |= {len(runs) - 1, len(runs)}
            runs.append([])
        elif token.words[0] in _ARTICLES:
            continue
        else:
            found = [stem for stem in stems(token.text) if stem not in grammar.FILLERS]
            known = [stem for stem in found if reading.knows(stem)]
            if known and len(known) == len(found):
                runs[-1] += [(token.start, stem, said) for stem in known]
            else:
                runs.append([])
                if found and not any(word in grammar.FILLERS for word in token.words):
                    reading.rest.append((token.start, said))
    kept: list[str] = []
    for number in reversed(range(len(runs))):
        paired = number in alternatives and runs[number]
        for start, stem, said in reversed(runs[number]):
            if paired or not reading.lexicon.items_with_all([stem, *kept]):
                reading.rest.append((start, said))
            else:
                kept.append(stem)
    reading.understood(include_words=tuple(dict.fromkeys(reversed(kept))))
