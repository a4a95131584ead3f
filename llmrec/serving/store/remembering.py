"""A store that answers from memory while the real one does not, and uses it again as soon as it does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from llmrec.serving.store.contract import (
    MOST_EVENTS,
    Appended,
    ItemChange,
    LoggedChange,
    Store,
    StoredEvent,
    StoredUser,
    StoreUnavailable,
)
from llmrec.serving.store.documents import timed
from llmrec.serving.store.memory import Memory

PAUSE = 1.0
"""Seconds for which a store that failed is left alone: nobody else waits for it in vain."""
_LOG = logging.getLogger("llmrec.store")


class _Gate:
    """Lets calls through; after one that failed, one in `PAUSE` seconds, and refuses the others at once."""

    def __init__(self, what: str, clock: Callable[[], float]) -> None:
        self._what, self._clock = what, clock
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._until = 0.0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around a call; raises `StoreUnavailable` where it is not let through."""
        with self._lock:
            if self._reason is not None:
                if self._clock() < self._until:
                    raise StoreUnavailable(self._reason)
                self._until = self._clock() + PAUSE  # this call tries, others wait for what comes of it
        try:
            yield
        except StoreUnavailable as error:
            with self._lock:
                if self._reason is None:
                    _LOG.warning("%s: %s", self._what, error)
                self._reason, self._until = str(error), self._clock() + PAUSE
            raise
        if self._reason is not None:
            with self._lock:
                self._reason = None
            _LOG.warning("%s: the store works again", self._what)


class RememberingStore:
    """`Store` over another one, with a `Memory` of users.

    While the store does not answer, `read` gives what is remembered of a user (`StoredUser.remembered`) and
    raises `StoreUnavailable` for others. Writes are refused with `StoreUnavailable`, and so are `changes` and
    `check`. Reads and writes fail apart: where a disk is full, reads go on from the store itself.
    """

    def __init__(
        self, store: Store, memory: Memory | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` says when a failed store is tried again; `memory` has a clock of its own."""
        self._store, self._memory = store, memory or Memory()
        self._reads, self._writes = _Gate("reading", clock), _Gate("writing", clock)
        self.place = store.place

    def check(self) -> None:
        """See `Store.check`."""
        with self._reads.passing():
            self._store.check()

    def read(self, user: str, newest: int) -> StoredUser:
        """See `Store.read`."""
        try:
            with self._memory.reading(user) as reading, self._reads.passing():
                found = self._store.read(user, newest)
                self._memory.remember(user, reading, found, newest)
                return found
        except StoreUnavailable:
            known = self._memory.recall(user, newest)
            if known is None:
                raise
            return known

    def append(
        self, user: str, events: Sequence[StoredEvent], key: str | None = None, now: int | None = None
    ) -> Appended:
        """See `Store.append`."""
        with self._writing(user):
            found = self._store.append(user, events, key, now)
            if not found.repeated:
                self._memory.appended(user, timed(events, now))
            return found

    def put_profile(self, user: str, profile: Mapping[str, str | float]) -> None:
        """See `Store.put_profile`."""
        with self._writing(user):
            self._store.put_profile(user, profile)
            self._memory.profiled(user, profile)

    def delete_user(self, user: str) -> bool:
        """See `Store.delete_user`."""
        with self._writing(user):
            found = self._store.delete_user(user)
            self._memory.deleted(user)
            return found

    def change_items(self, changes: Sequence[ItemChange], key: str | None = None) -> int:
        """See `Store.change_items`."""
        with self._writes.passing():
            return self._store.change_items(changes, key)

    def changes(self, after: int = 0, most: int = MOST_EVENTS) -> tuple[LoggedChange, ...]:
        """See `Store.changes`."""
        with self._reads.passing():
            return self._store.changes(after, most)

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()

    @contextmanager
    def _writing(self, user: str) -> Iterator[None]:
        """Around a write of `user`, whose end may stay unknown."""
        try:
            with self._writes.passing():
                yield
        except StoreUnavailable:
            self._memory.doubt(user)
            raise
