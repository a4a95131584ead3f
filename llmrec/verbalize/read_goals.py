"""The parts of a wish that are goals, read from words: names of the data first, then fixed phrases."""

from __future__ import annotations

import re
from typing import Any

from llmrec.data.attributes import range_of, written
from llmrec.verbalize import goal_grammar as grammar
from llmrec.verbalize.names import NamedField
from llmrec.verbalize.reading import Reading, longest, phrase_of

_OF_ME = (
    r"(?:i|we)(?:'m|'re| am| are)?(?: (?:now|currently))?"
    r"(?: (?:live|living|shop|shopping|stay|staying|based|located))?"
)
_BARE_SCENARIO = re.compile(rf"(?<!\w)(?P<me>{_OF_ME} )?(?:in|on|at)\s+(?:the\s+)?", re.IGNORECASE)
_NO_SCENARIO = re.compile(
    rf"(?<!\w)(?:{_OF_ME} |(?:something|anything|things?) )?"
    r"(?:from|outside(?: of)?|out of|near|not (?:in|on|at|from))\s+(?:the\s+)?",
    re.IGNORECASE,
)
"""What stands before a value of a column and says of it something else than where the user is."""
_LIVES = re.compile(r"(?<!\w)(?:i|we)(?:'m|'re| am| are)?(?: now)? (?:live|living) in(?!\w)", re.IGNORECASE)
_OR = re.compile(r"[\"”)]?\s*,?\s*or\s+(?:(?:in|on|at|for|when|while)\s+)?(?:the\s+)?", re.IGNORECASE)
_EXPLICIT = re.compile(r"\s*(?:[=:]|(?:should be|must be|equal to|equals|is|are)(?!\w))", re.IGNORECASE)
_BEGIN = """
and or for with without in from on at to not no less more up max maximum min minimum like
"""
_BEGINNING = frozenset(_BEGIN.split())
"""Words that begin another part of a wish and so end a value that the data does not have."""


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
    """Read the value after a name that stands from `start` to `end`; where it ends, None without a value.

    The model's, and so left as they stand, are a value that the data does not have, a scenario that is ruled
    out, and alternatives of scenarios. Of the alternatives of an attribute an item needs one.
    """
    field = fields[0]
    lead = reading.before(start, grammar.SCENARIO_LEADS)
    if len(fields) > 1 and lead is not None:
        field = next(each for each in fields if each.scenario)
    connected = grammar.CONNECT.match(reading.text, end)
    after = connected.end() if connected else end
    found, denied = _value_at(reading, field, after), False
    if (denial := grammar.NOT.match(reading.text, after)) is not None and found is None:
        after, denied = denial.end(), True
        found = _value_at(reading, field, after)
    begin = start if lead is None or not field.scenario else lead
    negation = reading.negated(begin)
    if found is None:
        stop = _unknown_value(reading, end, after)
        if stop is not None:
            reading.leave(begin if negation is None else negation, stop)
        return stop
    values, stop = _listed(reading, field, found)
    denied = denied != (negation is not None)
    if reading.text[stop : stop + 1] in ('"', "”", ")"):
        stop += 1
    if field.scenario and (denied or _OR.match(reading.text, stop) or len(values) > 1):
        reading.leave(begin if negation is None else negation, stop)
        return stop
    begin = start if negation is None else negation
    part = "scenario" if field.scenario else "exclude_attributes" if denied else "include_attributes"
    reading.understood(begin, **{part: tuple((field.name, value) for value in values)})
    reading.take(begin, stop)
    return stop


def _listed(reading: Reading, field: NamedField, found: tuple[str, int]) -> tuple[list[str], int]:
    """The value found and the alternatives to it: "red or blue", "red or colour blue"; and where they end."""
    names = reading.lexicon.names
    values, stop = [found[0]], found[1]
    while (other := _OR.match(reading.text, stop)) is not None:
        named = longest(reading.tokens(other.end()), names.fields_named, names.longest)
        after = other.end()
        if named is not None and field in named[0]:
            connected = grammar.CONNECT.match(reading.text, named[1])
            after = connected.end() if connected else named[1]
        following = _value_at(reading, field, after)
        if following is None:
            break
        values.append(following[0])
        stop = following[1]
    return values, stop


def _unknown_value(reading: Reading, named: int, at: int) -> int | None:
    """Where what a name that ends at `named` is said to be ends, though it is no value of the data.

    None where no word between them says that a value follows: "country garden".
    """
    if _EXPLICIT.match(reading.text, named) is None:
        return None
    return _end_of_unknown(reading, at)


def _end_of_unknown(reading: Reading, at: int) -> int | None:
    """Where a phrase that is no value of the data ends, before the next part of the wish; None for none."""
    end = None
    for token in phrase_of(reading.tokens(at)):
        if token.words[0] in _BEGINNING:
            break
        end = token.end
    return end


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
    """Read "in France", "I live in France", where one column of the events alone has such a value.

    "Not in France", "from France", "in France or Germany" and a home that the data does not know say
    something else: the model's, words of titles the least.
    """
    names = reading.lexicon.names
    for match in list(_NO_SCENARIO.finditer(reading.text)) if names.longest_bare else ():
        known = longest(reading.tokens(match.end()), names.scenario_value, names.longest_bare)
        if known is not None:
            negation = reading.negated(match.start())
            start = match.start() if negation is None else negation
            reading.leave(start, _after_alternatives(reading, known[1]))
    for match in list(_BARE_SCENARIO.finditer(reading.text)) if names.longest_bare else ():
        known = longest(reading.tokens(match.end()), names.scenario_value, names.longest_bare)
        if known is None:
            continue
        found = longest(reading.tokens(match.end()), names.scenario_valued, names.longest_bare)
        negation, end = reading.negated(match.start()), _after_alternatives(reading, known[1])
        one = found is not None and end == known[1] and _OR.match(reading.text, end) is None
        if found is not None and one and negation is None:
            reading.understood(match.start(), scenario=(found[0],))
            reading.take(match.start(), found[1])
        else:
            reading.leave(match.start() if negation is None else negation, end)
    for match in list(_LIVES.finditer(reading.text)):
        home = _end_of_unknown(reading, match.end())
        if home is not None:
            reading.leave(match.start(), home)


def _after_alternatives(reading: Reading, end: int) -> int:
    """Where the values of columns end that go on with "or" after one that ends at `end`."""
    names = reading.lexicon.names
    while (other := _OR.match(reading.text, end)) is not None:
        found = longest(reading.tokens(other.end()), names.scenario_value, names.longest_bare)
        if found is None:
            break
        end = found[1]
    return end


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
