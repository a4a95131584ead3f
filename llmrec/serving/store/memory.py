"""What was last known of users, in memory and bounded, for when the store does not answer."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from llmrec.serving.store.contract import BEFORE_ALL, StoredEvent, StoredUser

KEEP_SECONDS = 3600.0
"""How long after it was last read or written a user is answered from memory."""
MOST_KEPT = 200_000
"""Events that are remembered, a user without any counting as one; about 100 MB."""
MOST_OF_A_USER = 200
"""Events of one user that are remembered."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A user, how many of the newest events were asked for, and when."""

    user: StoredUser
    newest: int
    at: float

    @property
    def size(self) -> int:
        return 1 + len(self.user.events)


class Reading:
    """A read under way; `current` until something of its user is written."""

    def __init__(self) -> None:
        self.current = True


class Memory:
    """The users that were read or written last; safe for threads.

    A read that was overtaken by a write here, a deletion above all, is not remembered.
    """

    def __init__(
        self,
        keep: float = KEEP_SECONDS,
        most: int = MOST_KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep users for `keep` seconds of `clock`, and `most` events of all of them."""
        self._keep, self._most, self._clock = keep, most, clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._size = 0
        self._readings: dict[str, set[Reading]] = {}

    @contextmanager
    def reading(self, user: str) -> Iterator[Reading]:
        """Around a read from the store that `remember` is told of."""
        reading = Reading()
        with self._lock:
            self._readings.setdefault(user, set()).add(reading)
        try:
            yield reading
        finally:
            with self._lock:
                others = self._readings[user]
                others.discard(reading)
                if not others:
                    del self._readings[user]

    def remember(self, user: str, reading: Reading, found: StoredUser, newest: int) -> None:
        """The store gave `found` when asked for the `newest` events."""
        newest = min(newest, MOST_OF_A_USER)
        found = replace(found, events=found.events[len(found.events) - newest :] if newest else ())
        with self._lock:
            if reading.current:
                self._put(user, _Known(found, newest, self._clock()))

    def recall(self, user: str, newest: int) -> StoredUser | None:
        """What is remembered, with at most `newest` events; None when it is nothing or too old."""
        with self._lock:
            known = self._known.get(user)
            if known is None or self._clock() - known.at > self._keep:
                return None
            self._known.move_to_end(user)
        events = known.user.events
        return replace(
            known.user, events=events[max(0, len(events) - newest) :] if newest else (), remembered=True
        )

    def appended(self, user: str, events: Sequence[StoredEvent]) -> None:
        """The store has appended `events`."""

        def change(known: _Known) -> StoredUser:
            ordered = merged(known.user.events, events)
            kept = ordered[max(0, len(ordered) - known.newest) :] if known.newest else ()
            return replace(known.user, events=kept, count=known.user.count + len(events))

        self._change(user, change)

    def profiled(self, user: str, profile: Mapping[str, str | float]) -> None:
        """The store has replaced the profile."""
        self._change(user, lambda known: replace(known.user, profile=dict(profile)))

    def deleted(self, user: str) -> None:
        """The store has deleted the user."""
        self._change(user, lambda _: StoredUser(erased=True))

    def doubt(self, user: str) -> None:
        """A write of this user may or may not have been done."""
        with self._lock:
            self._overtake(user)

    def _change(self, user: str, change: Callable[[_Known], StoredUser]) -> None:
        with self._lock:
            self._overtake(user)
            known = self._known.get(user)
            if known is not None:
                self._put(user, _Known(change(known), known.newest, self._clock()))

    def _overtake(self, user: str) -> None:
        for reading in self._readings.get(user, ()):
            reading.current = False

    def _put(self, user: str, known: _Known) -> None:
        old = self._known.pop(user, None)
        self._size += known.size - (0 if old is None else old.size)
        self._known[user] = known
        while self._size > self._most and self._known:
            _, dropped = self._known.popitem(last=False)
            self._size -= dropped.size


def merged(known: Sequence[StoredEvent], added: Sequence[StoredEvent]) -> tuple[StoredEvent, ...]:
    """Events with others that were appended later, in the contract's order."""
    ordered = list(known)
    for event in added:
        places = _positions(ordered)
        time = event.time
        ordered.insert(len(ordered) if time is None else bisect_right(places, time), event)
    return tuple(ordered)


def _positions(events: Sequence[StoredEvent]) -> list[int]:
    """Where in time events in order stand: one without a time came when those before it were the newest."""
    found: list[int] = []
    for event in events:
        found.append(event.time if event.time is not None else found[-1] if found else BEFORE_ALL)
    return found
