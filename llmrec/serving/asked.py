"""What came in as what the library takes: events by ids, limits by indices, goals, someone with a history."""

from __future__ import annotations

import time
from collections.abc import Sequence

from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters
from llmrec.errors import DataError, LlmrecError, UnknownIdError
from llmrec.serving.people import Person, events_of
from llmrec.serving.schemas import Asker, EventIn, FiltersIn, GoalsIn
from llmrec.serving.store.contract import StoredEvent
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.words import stems

AHEAD = 86_400
"""Seconds by which the clocks of those who tell may be ahead."""


def person_given(asker: Asker, prepared: Prepared) -> Person:
    """Who asks with a history of their own; raises `LlmrecError` for what the data does not have."""
    given = [each if isinstance(each, EventIn) else EventIn(item=each) for each in asker.history or ()]
    prepared.catalog.indices([each.item for each in given])
    return Person(events_of(stored_events(given, prepared), prepared.catalog), None, asker.profile)


def stored_events(events: Sequence[EventIn], prepared: Prepared) -> list[StoredEvent]:
    """Events as a store keeps them.

    Raises `LlmrecError` for a type or a scenario the data has not, and for a time that has not come: told in
    milliseconds it would stand behind all events to come.
    """
    latest = int(time.time()) + AHEAD
    types, columns = prepared.histories.event_types, prepared.histories.scenarios
    for event in events:
        if event.time is not None and event.time > latest:
            raise DataError(
                f"the time of the event of item {event.item[:40]!r} is {event.time}, which has not come yet: "
                "give seconds since 1970 (not milliseconds)"
            )
        if event.type and event.type not in types:
            raise UnknownIdError(f"events have no type {event.type[:40]!r}, they have: {', '.join(types)}")
        for name, value in event.scenario.items():
            if name not in columns or value not in columns[name].values:
                known = ", ".join(columns) or "none"
                raise UnknownIdError(
                    f"events have no scenario {name[:40]!r} {value[:40]!r}; columns: {known}"
                )
    return [
        StoredEvent(
            event.item,
            event.time,
            event.type or types[0],
            event.value,
            tuple(event.scenario.items()),
        )
        for event in events
    ]


def filters_of(given: FiltersIn, prepared: Prepared) -> Filters:
    """The limits by indices; raises `UnknownIdError` for unknown items."""
    seen = given.seen or given.again
    if given.seen is False and given.again:
        raise LlmrecError("filters: again (items of the history only) contradicts seen: false")
    return Filters(
        max_price=given.max_price,
        min_price=given.min_price,
        include_words=tuple(given.words),
        exclude_words=tuple(given.not_words),
        include_categories=tuple(given.categories),
        exclude_categories=tuple(given.not_categories),
        attributes=tuple((name, tuple(values)) for name, values in given.attributes.items()),
        exclude_attributes=tuple((name, tuple(values)) for name, values in given.not_attributes.items()),
        exclude_items=tuple(prepared.catalog.indices(given.exclude)),
        allowed_items=None if given.only is None else tuple(prepared.catalog.indices(given.only)),
        exclude_seen=not seen,
        seen_before=given.again,
        new_category=given.new_category,
        long_tail=given.long_tail,
        fresh=given.fresh,
        price_levels=() if given.price_level is None else (given.price_level,),
    )


def goals_of(given: GoalsIn, weights: dict[str, float], prepared: Prepared) -> Objective:
    """The objective by indices and stems; raises `LlmrecError` for parts that cannot be."""
    values = given.model_dump()
    for name in ("include_words", "exclude_words"):
        for word in values[name]:
            if not stems(word):
                raise LlmrecError(f"objective: {name} has {word[:40]!r}, no word that can be looked for")
        values[name] = tuple(dict.fromkeys(stem for word in values[name] for stem in stems(word)))
    values["like"] = None if given.like is None else prepared.catalog.index(given.like)
    values["event"] = given.event or ""
    values["price_level"] = given.price_level or ""
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(tuple(each) if isinstance(each, tuple | list) else each for each in value)
    types = prepared.histories.event_types
    if given.event is not None and given.event not in types:
        raise UnknownIdError(
            f"objective: events have no type {given.event[:40]!r}, they have: {', '.join(types)}"
        )
    if given.season is not None and given.season not in SEASONS:
        raise UnknownIdError(f"objective: there is no season {given.season[:40]!r}: {', '.join(SEASONS)}")
    _check_scenario(given.scenario, prepared)
    unused = set(weights) - set(given.model_fields_set)
    if unused:
        raise LlmrecError(f"weights: {sorted(unused)[0][:40]!r} is no part of the objective")
    return Objective(**values, weights=tuple(weights.items()))


def _check_scenario(pairs: Sequence[tuple[str, str]], prepared: Prepared) -> None:
    """Raise `UnknownIdError` for a column or a value that the events do not have."""
    known = prepared.histories.scenarios
    for column, value in pairs:
        if column not in known:
            columns = ", ".join(known) or "none"
            raise UnknownIdError(f"objective: events have no column {column[:40]!r}, they have: {columns}")
        if value not in known[column].values:
            raise UnknownIdError(f"objective: no event has {column[:40]!r} {value[:40]!r}")
