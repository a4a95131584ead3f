"""Who asks: the history of a bundle and what the store was told since, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrec.data.catalog import Catalog, Value
from llmrec.data.events import Event, History
from llmrec.data.prepared import Prepared
from llmrec.errors import UnknownIdError
from llmrec.serving.store.contract import BEFORE_ALL, Store, StoredEvent, StoredUser

NEWEST = 1_000
"""Events of a user that are read from the store, the newest."""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who asks; `position` and `profile` as in `decode.contract.Request`.

    `remembered`: the store did not answer, so what it was told last may be missing.
    """

    history: History
    position: int | None = None
    profile: Mapping[str, Value] | None = None
    remembered: bool = False


def person_of(prepared: Prepared, store: Store, user: str) -> Person:
    """The user with all that the bundle and the store know.

    What a bundle knows of a user who was deleted is not used. Raises `UnknownIdError` for a user of whom
    neither knows anything, `StoreUnavailable` when the store does not answer and nothing is remembered.
    """
    return joined(prepared, store.read(user, NEWEST), user)


def joined(prepared: Prepared, stored: StoredUser, user: str) -> Person:
    """The user's history in the data of a bundle, with what a store has of them."""
    position = None if stored.erased else position_of(prepared, user)
    if position is None and not stored.known:
        raise UnknownIdError(f"user {user[:80]!r} is not known: give a known user, or a history of item ids")
    known = () if position is None else prepared.histories.history(position)
    later = events_of(stored.events, prepared.catalog)
    return Person(merged(known, later), position, stored.profile, stored.remembered)


def position_of(prepared: Prepared, user: str) -> int | None:
    """Position of a user in the data; None where there is none of that id."""
    try:
        return prepared.histories.index(user)
    except UnknownIdError:
        return None


def events_of(stored: Sequence[StoredEvent], catalog: Catalog) -> History:
    """Stored events by indices; those of items that the catalogue does not have (any more) are left out."""
    return tuple(
        Event(catalog.index(event.item), event.time, event.type, event.value, event.scenario)
        for event in stored
        if event.item in catalog
    )


def merged(known: History, later: History) -> History:
    """Two histories in the order of their times; an event without a time stands behind all before it came.

    `later` came after `known`.
    """
    if not later:
        return known
    places: list[int] = []
    for events, start in ((known, BEFORE_ALL), (later, None)):
        newest = max(places, default=BEFORE_ALL) if start is None else start
        last = newest
        for event in events:
            last = max(last, newest) if event.time is None else event.time
            places.append(last)
    events = (*known, *later)
    return tuple(events[at] for at in sorted(range(len(events)), key=places.__getitem__))
