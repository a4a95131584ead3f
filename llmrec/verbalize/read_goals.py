"""The parts of a wish that are goals, read from words: names of the data first, then fixed phrases."""

from __future__ import annotations

import re
from typing import Any

from llmrec.data.attributes import range_of, written
from llmrec.verbalize import goal_grammar as grammar
from llmrec.verbalize.names import NamedField
from llmrec.verbalize.reading import Reading, longest

_BARE_SCENARIO = re.compile(r"(?<!\w)(?:in|on|at)\s+(?:the\s+)?", re.IGNORECASE)


def event_spans(reading: Reading) -> list[re.Match[str]]:
    """Where the text says what is to happen."""
    pattern = reading.lexicon.event_pattern
    return [] if pattern is None else list(pattern.finditer(reading.text))


def read_names(reading: Reading) -> None:
    """Attributes of items and columns of events by their names: "brand X", "not year 1995", "country UK"."""
    names = reading.lexicon.names
    read_to = 0
    tokens = reading.tokens()
    for index, token in enumerate(tokens):
        if token.start < read_to or not token.words or token.words[0] not in names.beginnings:
            continue
        found = longest(tokens[index:], names.fields_named, names.longest)
        if found is not None:
            read_to = _read_field(reading, found[0], token.start, found[1]) or token.end


def _read_field(reading: Reading, fields: list[NamedField], start: int, end: int) -> int | None:
    """Read the value after a name that stands from `start` to `end`; where it ends, None without a value."""
    field = fields[0]
    if len(fields) > 1 and reading.before(start, grammar.SCENARIO_LEADS) is not None:
        field = next(each for each in fields if each.scenario)
    connected = grammar.CONNECT.match(reading.text, end)
    after = connected.end() if connected else end
    found, denied = _value_at(reading, field, after), False
    if found is None and (denial := grammar.NOT.match(reading.text, after)) is not None:
        found, denied = _value_at(reading, field, denial.end()), True
    if found is None:
        return None
    value, stop = found
    begin, negation = start, reading.negated(start)
    if negation is not None:
        begin, denied = negation, not denied
    if field.scenario and denied:
        return None
    part = "scenario" if field.scenario else "exclude_attributes" if denied else "include_attributes"
    reading.understood(begin, **{part: ((field.name, value),)})
    if reading.text[stop : stop + 1] in ('"', "”", ")"):
        stop += 1
    reading.take(begin, stop)
    return stop


def _value_at(reading: Reading, field: NamedField, at: int) -> tuple[str, int] | None:
    """The value of a field that the text has at a position, perhaps after an article, and where it ends."""
    for start in (at, *(match.end() for match in (grammar.ARTICLE.match(reading.text, at),) if match)):
        if field.numeric and (number := _number_at(reading.text, start)) is not None:
            return number
        if (named := longest(reading.tokens(start), field.value_named, field.longest)) is not None:
            return named
    return None


def _number_at(text: str, at: int) -> tuple[str, int] | None:
    """The number or the range of numbers at a position, and where it ends."""
    if (match := grammar.RANGE.match(text, at)) is not None:
        low, high = sorted((float(match["low"]), float(match["high"])))
        return range_of(low, high), match.end()
    match = grammar.SINGLE.match(text, at)
    return None if match is None else (written(float(match["low"])), match.end())


def read_decades(reading: Reading) -> None:
    """Read "from the 1990s": the attribute of the catalogue that is about years."""
    for match in list(grammar.DECADE.finditer(reading.text)):
        found = reading.lexicon.names.decade(int(match["decade"]))
        if found is not None:
            negation = reading.negated(match.start())
            part = "include_attributes" if negation is None else "exclude_attributes"
            start = match.start() if negation is None else negation
            reading.understood(start, **{part: (found,)})
            reading.take(start, match.end())


def read_bare_scenarios(reading: Reading) -> None:
    """Read "in France", where one column of the events alone has such a value."""
    names = reading.lexicon.names
    if not names.longest_bare:
        return
    for match in list(_BARE_SCENARIO.finditer(reading.text)):
        found = longest(reading.tokens(match.end()), names.scenario_valued, names.longest_bare)
        if found is not None and reading.negated(match.start()) is None:
            reading.understood(match.start(), scenario=(found[0],))
            reading.take(match.start(), found[1])


def read_events(reading: Reading) -> None:
    """What is to happen: the first type of the data's events that is named; a second one goes to `rest`."""
    for match in event_spans(reading):
        if reading.negated(match.start()) is not None or grammar.SEEN_BEFORE.search(match[0]):
            continue  # "to buy again" says no more than that, even in data with the type "buy"
        if reading.objective.event:
            reading.leave(*match.span())
            continue
        reading.understood(match.start(), event=reading.lexicon.event_named(match["type"]))
        if match["again"]:
            reading.understood(match.start(), seen_before=True)
        reading.take(*match.span())


def read_values(reading: Reading) -> None:
    """Read "that I will rate 4 or more"; of two values the higher holds."""
    for match in list(grammar.MIN_VALUE.finditer(reading.text)):
        if reading.negated(match.start()) is None:
            value = next(float(found) for found in match.groups() if found is not None)
            reading.understood(match.start(), min_value=value)
            reading.take(*match.span())


def read_flag(reading: Reading, pattern: re.Pattern[str], opposite: str = "", **part: Any) -> None:
    """Set `part` where the pattern stands, or the part `opposite`, if there is one, where it is negated."""
    for match in list(pattern.finditer(reading.text)):
        negation = reading.negated(match.start())
        if negation is None:
            reading.understood(match.start(), **part)
            reading.take(*match.span())
        elif opposite:
            reading.understood(negation, **{opposite: True})
            reading.take(negation, match.end())
