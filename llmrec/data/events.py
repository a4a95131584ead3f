"""Events and histories: who did what with which item, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.errors import UnknownIdError

NO_TIME = np.iinfo(np.int64).min
"""Stands for an unknown time in arrays of seconds."""
NO_VALUE = np.iinfo(np.uint16).max
"""Stands for an unknown value in the codes of a scenario column."""
MOST_VALUES = int(NO_VALUE)
"""Different values that a scenario column may have."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A column of the events that says where they happened: a country, a device, a kind of session.

    `codes` uint16 [events] are indices into `values`, `NO_VALUE` where unknown.
    """

    values: tuple[str, ...]
    codes: np.ndarray


@dataclass(frozen=True, slots=True)
class Event:
    """One behaviour: `item` is a catalogue index, `time` seconds since 1970 UTC (None: unknown).

    `scenario` holds (column, value) pairs of where it happened, those that are known, in the
    order of data.yaml.
    """

    item: int
    time: int | None = None
    type: str = ""
    value: float | None = None
    scenario: tuple[tuple[str, str], ...] = ()


History = tuple[Event, ...]
"""Events of one user, oldest first."""


class Histories:
    """All users' events as flat arrays (CSR): user u owns rows offsets[u] to offsets[u + 1].

    offsets int64 [users + 1]; items int32, times int64 (`NO_TIME`: unknown), types uint8 (index into
    `event_types`) and values float32 (NaN: none), each [events]; oldest first within a user. `scenarios`
    are the scenario columns by name.
    """

    def __init__(
        self,
        users: Sequence[str],
        offsets: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        types: np.ndarray,
        values: np.ndarray,
        event_types: Sequence[str],
        scenarios: Mapping[str, Scenario] | None = None,
    ) -> None:
        self.users = tuple(users)
        self.offsets = offsets.astype(np.int64)
        self.items = items.astype(np.int32)
        self.times = times.astype(np.int64)
        self.types = types.astype(np.uint8)
        self.values = values.astype(np.float32)
        self.event_types = tuple(event_types)
        self.scenarios = dict(scenarios or {})
        self._index = {user: position for position, user in enumerate(self.users)}

    def __len__(self) -> int:
        return len(self.users)

    def index(self, user: str) -> int:
        """Position of a user id; raises `UnknownIdError`."""
        try:
            return self._index[user]
        except KeyError:
            raise UnknownIdError(
                f"user {user!r} is not in the events of {len(self):,} users: "
                "give a known user, or a history of item ids"
            ) from None

    def history(self, user: int, stop: int | None = None) -> History:
        """The first `stop` events (default all) of the user at position `user`."""
        start = int(self.offsets[user])
        end = int(self.offsets[user + 1]) if stop is None else start + stop
        return tuple(self._event(row) for row in range(start, end))

    def _event(self, row: int) -> Event:
        time, value = int(self.times[row]), float(self.values[row])
        return Event(
            item=int(self.items[row]),
            time=None if time == NO_TIME else time,
            type=self.event_types[self.types[row]],
            value=None if np.isnan(value) else value,
            scenario=self._scenario(row) if self.scenarios else (),
        )

    def _scenario(self, row: int) -> tuple[tuple[str, str], ...]:
        return tuple(
            (name, column.values[code])
            for name, column in self.scenarios.items()
            if (code := int(column.codes[row])) != NO_VALUE
        )

    def items_of(self, user: int) -> np.ndarray:
        """Catalogue indices of the user's events, int32 [events of the user], oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def select(self, rows: np.ndarray) -> Histories:
        """The same users with only the events where the boolean array `rows` [events] is true."""
        counts = np.add.reduceat(np.append(rows, False).astype(np.int64), self.offsets[:-1])
        counts[np.diff(self.offsets) == 0] = 0
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Histories(
            self.users,
            offsets,
            self.items[rows],
            self.times[rows],
            self.types[rows],
            self.values[rows],
            self.event_types,
            {name: Scenario(column.values, column.codes[rows]) for name, column in self.scenarios.items()},
        )

    @classmethod
    def from_lists(cls, histories: Iterable[tuple[str, Sequence[Event]]]) -> Histories:
        """Build from (user id, events) pairs; for tests and small data."""
        pairs = [(user, tuple(events)) for user, events in histories]
        flat = [event for _, events in pairs for event in events]
        names = sorted({event.type for event in flat}) or [""]
        number = {name: position for position, name in enumerate(names)}
        return cls(
            [user for user, _ in pairs],
            np.concatenate([[0], np.cumsum([len(events) for _, events in pairs])]).astype(np.int64),
            np.array([event.item for event in flat], dtype=np.int32),
            np.array([NO_TIME if event.time is None else event.time for event in flat], dtype=np.int64),
            np.array([number[event.type] for event in flat], dtype=np.uint8),
            np.array([np.nan if event.value is None else event.value for event in flat], dtype=np.float32),
            names,
            {
                name: _coded(name, flat)
                for name in dict.fromkeys(name for event in flat for name, _ in event.scenario)
            },
        )

    def __iter__(self) -> Iterator[tuple[str, History]]:
        for position, user in enumerate(self.users):
            yield user, self.history(position)


def _coded(name: str, events: Sequence[Event]) -> Scenario:
    """The scenario column `name` of some events."""
    said = [dict(event.scenario).get(name) for event in events]
    values = sorted({value for value in said if value is not None})
    number: dict[str | None, int] = {value: position for position, value in enumerate(values)}
    return Scenario(tuple(values), np.array([number.get(value, NO_VALUE) for value in said], dtype=np.uint16))
