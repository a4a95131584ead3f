"""Occasions of the year that wishes name: how they are said, which words show them, when people buy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Season:
    """`pattern` (regular expression) finds its name in a wish; `cues` are stems that show it in a text."""

    said: str
    pattern: str
    cues: frozenset[str]


SEASONS = {
    "christmas": Season(
        "Christmas",
        r"christmas|xmas|x-mas",
        frozenset({"christmas", "xmas", "santa", "advent", "reindeer", "snowman", "bauble", "nativity"}),
    ),
    "easter": Season("Easter", r"easter", frozenset({"easter"})),
    "valentine": Season("Valentine's Day", r"(?:saint |st\.? )?valentine'?s?", frozenset({"valentine"})),
    "halloween": Season("Halloween", r"hallowe'?en", frozenset({"halloween", "pumpkin"})),
    "thanksgiving": Season("Thanksgiving", r"thanksgiving", frozenset({"thanksgiving"})),
}
"""By the name that `Objective.season` has."""


def season_of_words(found: frozenset[str]) -> str | None:
    """The season that a text with these stems belongs to, None for no or several seasons."""
    names = [name for name, season in SEASONS.items() if season.cues & found]
    return names[0] if len(names) == 1 else None


def season_of_time(time: int | None) -> str | None:
    """The season for which people buy at `time` (seconds since 1970 UTC): it is at most a few weeks ahead."""
    if time is None:
        return None
    try:
        day = datetime.fromtimestamp(time, UTC).date()
    except (OverflowError, OSError, ValueError):
        return None
    for name, last, weeks in _calendar(day.year):
        if last - timedelta(weeks=weeks) <= day <= last:
            return name
    return None


@lru_cache(maxsize=512)
def _calendar(year: int) -> tuple[tuple[str, date, int], ...]:
    """(season, its day, weeks of buying before it), for seasons of one date in most countries."""
    return (
        ("valentine", date(year, 2, 14), 3),
        ("easter", _easter(year), 4),
        ("halloween", date(year, 10, 31), 3),
        ("christmas", date(year, 12, 24), 5),
    )


def _easter(year: int) -> date:
    """Easter Sunday (Gregorian), by the date of the full moon that the church tables give."""
    golden, century = year % 19, year // 100
    correction = century - century // 4 - (8 * century + 13) // 25
    moon = (19 * golden + correction + 15) % 30
    moon -= (moon // 28) * (1 - (29 // (moon + 1)) * ((21 - golden) // 11))
    weekday = (year + year // 4 + moon + 2 - century + century // 4) % 7
    offset = moon - weekday
    month = 3 + (offset + 40) // 44
    return date(year, month, offset + 28 - 31 * (month // 4))
