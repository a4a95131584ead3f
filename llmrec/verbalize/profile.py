"""What a history says of its user in a few words: taste, usual price, how much, how long ago."""

from __future__ import annotations

from collections import Counter
from statistics import median

from llmrec.data.catalog import Catalog
from llmrec.data.events import History
from llmrec.verbalize.clean import clean
from llmrec.verbalize.words import split_words, stems

_PERIODS = ((365 * 86400, "years"), (30 * 86400, "months"), (7 * 86400, "weeks"), (43200, "days"))
_FAVOURITES = 3
_NAME_LIMIT = 30


def gap(seconds: int) -> str:
    """A noticeable gap by its order: "days", "weeks", "months" or "years"; "" below half a day."""
    return next((name for least, name in _PERIODS if seconds >= least), "")


def favourite_categories(history: History, catalog: Catalog) -> list[str]:
    """The categories that stand on at least two events and lead, most frequent first, at most three."""
    counts = Counter(name for event in history for name in dict.fromkeys(catalog[event.item].categories))
    return [name for name, count in counts.most_common(_FAVOURITES) if count > 1]


def favourite_words(history: History, catalog: Catalog) -> list[str]:
    """The title words on at least two events that lead, most frequent first, at most three.

    Words with digits say little of taste and are left out. A word is given as it was first written.
    """
    counts: Counter[str] = Counter()
    written: dict[str, str] = {}
    for event in history:
        title = catalog[event.item].title
        found = {stem for stem in stems(title) if len(stem) > 2 and stem.isalpha()}
        counts.update(sorted(found))
        for word in split_words(title):
            for stem in stems(word):
                written.setdefault(stem, word)
    return [written[stem] for stem, count in counts.most_common(_FAVOURITES) if count > 1]


def usual_price(history: History, catalog: Catalog) -> float | None:
    """Median price of the items of the history whose price is known, in the catalogue's currency."""
    prices = [price for event in history if (price := catalog[event.item].price) is not None]
    return float(median(prices)) if prices else None


def describe(history: History, catalog: Catalog, now: int | None = None) -> list[str]:
    """Short phrases on a history; none for an empty one.

    `now` (seconds since 1970 UTC) dates the last event; without it nothing is said of recency.
    """
    if not history:
        return []
    phrases = [f"{len(history)} event{'s' if len(history) > 1 else ''}"]
    if favourites := favourite_categories(history, catalog) or favourite_words(history, catalog):
        phrases.append("likes " + " ".join(clean(name, _NAME_LIMIT) for name in favourites))
    price = usual_price(history, catalog)
    if price is not None:
        phrases.append(f"price about {price:.2g}")
    last = history[-1].time
    if now is not None and last is not None and (age := gap(now - last)):
        phrases.append(f"last {age} ago")
    return phrases
