"""Words of a wish to an `Objective`: rules over phrases and over the words of the catalogue's titles.

What is found is exact enough to be enforced; what no rule understands stays in `rest`, for the model, which
reads the whole wish anyway. Any string is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmrec.verbalize import goal_grammar, grammar
from llmrec.verbalize.clean import clean
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.read_categories import (
    category_alone,
    read_categories_bare,
    read_categories_led,
    words_only,
)
from llmrec.verbalize.read_goals import (
    event_spans,
    read_bare_scenarios,
    read_decades,
    read_events,
    read_flag,
    read_names,
    read_values,
)
from llmrec.verbalize.read_prices import leave_price_alternatives
from llmrec.verbalize.reading import (
    ARTICLES,
    Reading,
    Token,
    longest,
    phrase_of,
    without_articles,
)
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.weighing import read_marks, weighed
from llmrec.verbalize.words import stems

WISH_LIMIT = 400
"""Characters of a wish that are looked at."""
_SIMILAR = 0.5


def parse(text: str, lexicon: Lexicon) -> Objective:
    """What the words ask for, as far as rules can tell; see the module.

    Names that the data gives (titles after "like", categories after "from", attributes, columns and types
    of the events), prices, seasons, goals and words of weight are phrases. Of the words that remain, those of
    titles must stand in an item (`include_words`) unless they are negated (`exclude_words`); a phrase that is
    negated ("not a lunch bag") excludes its rarest word only. Words that no item has together with the words
    after them, alternatives ("mugs or cups") and numbers go to `rest`.
    """
    reading = Reading(clean(text, WISH_LIMIT).replace("\u2019", "'"), lexicon)
    _read_names(reading)
    _read_phrases(reading)
    _read_negations(reading)
    read_categories_bare(reading)
    _read_words(reading)
    found = weighed(reading)
    rest = " ".join(said for _, said in sorted(reading.rest) if said)
    return replace(found, rest=rest)


def _read_names(reading: Reading) -> None:
    """What the data names comes first, since a name may hold any words: "like Under The Stars"."""
    _read_like(reading)
    read_categories_led(reading)
    read_names(reading)
    read_decades(reading)
    read_bare_scenarios(reading)
    read_events(reading)


def _read_phrases(reading: Reading) -> None:
    """Fixed phrases, those that hold the words of others before them: "from a category new to me"."""
    lexicon = reading.lexicon
    read_marks(reading)
    read_values(reading)
    leave_price_alternatives(reading)
    _read_prices(reading)
    if lexicon.has_categories:
        read_flag(reading, goal_grammar.NEW_CATEGORY, new_category=True)
    read_flag(reading, goal_grammar.FRESH, fresh=True)
    read_flag(reading, grammar.NEW, new_for_user=True)
    read_flag(reading, goal_grammar.SEEN_BEFORE, "new_for_user", seen_before=True)
    read_flag(reading, goal_grammar.LONG_TAIL, long_tail=True)
    read_flag(reading, goal_grammar.DIVERSE, diverse=True)
    if lexicon.has_prices:
        read_flag(reading, goal_grammar.PRICE_LOW, price_level="low")
        read_flag(reading, goal_grammar.PRICE_HIGH, price_level="high")
    _read_seasons(reading)


def _read_like(reading: Reading) -> None:
    lexicon = reading.lexicon
    events = [match.span() for match in event_spans(reading)]
    for match in grammar.LIKE.finditer(reading.text):
        if any(start <= match.start() < end for start, end in events):
            continue  # "to like", in data with likes
        after = reading.tokens(match.end())
        bare = without_articles(after)
        found = longest(after, lexicon.item_titled, lexicon.longest_title) or longest(
            bare, lexicon.item_titled, lexicon.longest_title
        )
        if found is None:
            phrase = phrase_of(bare)
            wanted = tuple(dict.fromkeys(stem for token in phrase for stem in stems(token.text)))
            if not wanted:
                continue
            end = phrase[-1].end
            nearest = lexicon.nearest_titles(wanted, 1)
            if not nearest or nearest[0][0] < _SIMILAR:
                reading.leave(match.start(), end)
                return
            found = nearest[0][1], end
        reading.understood(match.start(), like=found[0])
        reading.take(match.start(), found[1])
        return


def _read_prices(reading: Reading) -> None:
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
            if not reading.lexicon.has_prices:  # no item has one: no bound could be held
                reading.leave(*match.span())
                continue
            bound = grammar.amount(match, "a")
            if name.startswith("range"):
                low, high = sorted((bound, grammar.amount(match, "b")))
                _bound(reading, match.start(), low, high)
            elif name.startswith("max"):
                _bound(reading, match.start(), None, bound)
            else:
                _bound(reading, match.start(), bound, None)
            reading.take(*match.span())


def _bound(reading: Reading, at: int, low: float | None, high: float | None) -> None:
    """Add price bounds."""
    if low is not None:
        reading.understood(at, min_price=low)
    if high is not None:
        reading.understood(at, max_price=high)


def _read_seasons(reading: Reading) -> None:
    for match in list(grammar.SEASON.finditer(reading.text)):
        if match["not"]:
            continue
        if reading.objective.season is None:
            reading.understood(match.start(), season=next(name for name in SEASONS if match[name]))
            reading.take(*match.span())
        else:
            reading.leave(*match.span())


def _read_negations(reading: Reading) -> None:
    for match in list(grammar.IDIOM.finditer(reading.text)):
        reading.leave(*match.span())
    while (negation := grammar.NEGATION.search(reading.text)) is not None:
        phrase = phrase_of(reading.tokens(negation.end()))
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


def _split_alternatives(phrase: Sequence[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in phrase:
        if token.words in (("and",), ("or",), ("nor",)):
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _exclude(reading: Reading, phrase: list[Token]) -> bool:
    """Exclude the category that a negated phrase names, or its rarest word; False for neither."""
    lexicon = reading.lexicon
    named = without_articles(phrase)
    told = words_only(named)
    if told is None and (meant := category_alone(reading, named)) is not None:
        reading.understood(phrase[0].start, exclude_categories=(meant[0],))
        return True
    named = named if told is None else list(told)
    found = [stem for token in named for stem in stems(token.text) if reading.knows(stem)]
    if found:
        rarest = min(reversed(found), key=lexicon.in_titles)
        reading.understood(phrase[0].start, exclude_words=(rarest,))
        return True
    category = longest(named, lexicon.category_named, lexicon.longest_category)
    if category is not None:
        reading.understood(phrase[0].start, exclude_categories=(category[0],))
    return category is not None


def _read_words(reading: Reading) -> None:
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
        elif token.words[0] in ARTICLES:
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
    places: dict[int, list[str]] = {}  # of each run: words of weight are about one of them
    gentle = _preferred(reading, [run[0][0] if run else -1 for run in runs])
    for number in sorted(range(len(runs)), key=lambda number: (number in gentle, -number)):
        paired = number in alternatives and runs[number]
        for start, stem, said in reversed(runs[number]):
            if paired or not reading.lexicon.items_with_all([stem, *kept]):
                reading.rest.append((start, said))
            else:
                kept.append(stem)
                places.setdefault(number, []).append(stem)
    for number, words in places.items():
        reading.understood(runs[number][0][0], include_words=tuple(reversed(words)))


def _preferred(reading: Reading, starts: list[int]) -> set[int]:
    """Which of the runs of words that begin at `starts` (-1: empty) words of less weight stand before."""
    found = set()
    for _, end, weight in reading.marks:
        after = [start for start in starts if start >= end]
        if weight < 1 and after:
            found.add(starts.index(min(after)))
    return found
