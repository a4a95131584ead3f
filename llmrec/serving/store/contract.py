"""The contract of all stores: profiles, histories and changes of the catalogue that survive the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmrec.errors import LlmrecError

SCHEMA = 1
"""Version of what the stores write; it steps with every change of a table, a key or a document."""
KINDS = ("add", "update", "retire")
"""What may happen to an item."""
MOST_EVENTS = 1_000
"""Events or changes that one call may bring."""
MOST_ID = 1_024
"""Bytes of an id or a key in UTF-8."""
MOST_DOCUMENT = 1 << 20
"""Bytes of one event, profile or change as JSON in UTF-8."""
FARTHEST_TIME = 2**53 - 1
"""Largest number of seconds, before or after 1970, that all stores hold exactly."""
BEFORE_ALL = -FARTHEST_TIME
"""Where in time a first event stands that has no time: all that comes later is behind it."""


class StoreError(LlmrecError):
    """A store cannot be opened as it is: its address, its settings, its schema."""


class StoreUnavailable(LlmrecError):
    """A store does not answer or takes no writes now: full, read-only, locked or gone.

    Whether a write that ended so was done is not known: send it again with its key.
    """


class KeyReusedError(LlmrecError):
    """A key came before, with something else."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One behaviour by ids, as it was told; see `data.events.Event`, which has indices of one catalogue."""

    item: str
    time: int | None = None
    type: str = ""
    value: float | None = None
    scenario: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredUser:
    """What a store knows of a user: `profile` None when none was put, the newest `events`, oldest first.

    `count` is the number of all events. `erased`: the user was deleted once, so what a bundle knows of them
    must not be used either. `remembered`: the store did not answer, this is from memory (`remembering`).
    """

    profile: Mapping[str, str | float] | None = None
    events: tuple[StoredEvent, ...] = ()
    count: int = 0
    erased: bool = False
    remembered: bool = False

    @property
    def known(self) -> bool:
        """Whether there is anything of the user."""
        return self.profile is not None or self.count > 0


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append: the user's `count` of events, and whether the key had come before."""

    count: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class ItemChange:
    """One change of the catalogue; `fields` as in an items file (docs/items.md), without the id."""

    kind: str
    item: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A change and its place in the log; places are 1, 2, 3, ... without gaps."""

    number: int
    change: ItemChange


class Store(Protocol):
    """Profiles, histories and changes of the catalogue.

    Every method blocks, and may be called from any number of threads: under asyncio call it in a thread
    (`await asyncio.to_thread(store.append, ...)`, or a FastAPI endpoint that is no coroutine). Open a store
    in each process, after any fork. A write that returned survives the death of the service, of the store's
    server and of the machine. All raise `StoreUnavailable` when the store does not answer in seconds, and
    `DataError` for values that cannot be kept (no Unicode text, not finite, too large).

    Events stand in the order of their times; those of equal time in the order in which they were appended.
    An event without a time stands behind all that was there when it came.

    `place` is the store's address without its password.
    """

    place: str

    def check(self) -> None:
        """Ask the store for a sign of life."""
        ...

    def read(self, user: str, newest: int) -> StoredUser:
        """The user with at most `newest` events, the newest ones; of an unknown user nothing is known."""
        ...

    def append(
        self, user: str, events: Sequence[StoredEvent], key: str | None = None, now: int | None = None
    ) -> Appended:
        """Append events of one user, all or none, in order; the user need not be known.

        Events without a time get `now`, where it is given. A `key` that came before with the same user and
        events appends nothing, at whichever `now` (the answer is as if it had). Raises `KeyReusedError` when
        it came with other events.
        """
        ...

    def put_profile(self, user: str, profile: Mapping[str, str | float]) -> None:
        """Replace the user's attributes."""
        ...

    def delete_user(self, user: str) -> bool:
        """Delete profile, events and keys; whether there were any.

        The SHA-256 of the id stays, for `StoredUser.erased`.
        """
        ...

    def change_items(self, changes: Sequence[ItemChange], key: str | None = None) -> int:
        """Log changes of the catalogue, all or none, in order; the number of the last one.

        A `key` as in `append`, across the whole log.
        """
        ...

    def changes(self, after: int = 0, most: int = MOST_EVENTS) -> tuple[LoggedChange, ...]:
        """At most `most` logged changes behind number `after`, in order; a server replays them."""
        ...

    def close(self) -> None:
        """Give back connections; the store is not used any more."""
        ...
