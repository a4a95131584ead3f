"""Values of the contract as bytes and JSON, and back; what cannot be kept exactly is refused here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmrec.errors import DataError
from llmrec.serving.store.contract import (
    FARTHEST_TIME,
    KINDS,
    MOST_DOCUMENT,
    MOST_EVENTS,
    MOST_ID,
    ItemChange,
    StoredEvent,
)

_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call brings: documents in order, the times of events, and a key with a digest of it all."""

    documents: tuple[str, ...]
    times: tuple[int | None, ...] = ()
    key: bytes | None = None
    digest: bytes = b""


def id_bytes(text: str, what: str) -> bytes:
    """An id or a key in UTF-8; `what` names it in the error."""
    try:
        found = text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} {_shown(text)} is no Unicode text (half of a surrogate pair)") from None
    if not 0 < len(found) <= MOST_ID:
        raise DataError(f"{what} {_shown(text)} has {len(found):,} bytes, it must have 1 to {MOST_ID:,}")
    return found


def erased_digest(user: bytes) -> bytes:
    """What stays of a deleted user."""
    return hashlib.sha256(user).digest()


def timed(events: Sequence[StoredEvent], now: int | None) -> Sequence[StoredEvent]:
    """The events, with the time `now` where they have none."""
    return [event if event.time is not None else replace(event, time=now) for event in events]


def event_batch(events: Sequence[StoredEvent], key: str | None, now: int | None = None) -> Batch:
    """The events of one append; the digest is of what was told, without `now`."""
    _check_count(len(events), "event")
    told = _batch([_event_document(event) for event in events], key)
    if now is not None:
        events = timed(events, now)
    documents = tuple(_event_document(event) for event in events)
    return replace(told, documents=documents, times=tuple(event.time for event in events))


def change_batch(changes: Sequence[ItemChange], key: str | None) -> Batch:
    """The changes of one call."""
    _check_count(len(changes), "change")
    return _batch([_change_document(change) for change in changes], key)


def profile_document(profile: Mapping[str, str | float]) -> str:
    """A profile as JSON; attributes are texts and finite numbers."""
    for name, value in profile.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"attribute {_shown(str(name))} of the user is neither a text nor a number")
    return _document(dict(profile), "the user's profile")


def profile_of(document: str | bytes | None) -> Mapping[str, str | float] | None:
    """The profile in a document; None stays."""
    return None if document is None else dict(json.loads(document))


def event_of(document: str | bytes) -> StoredEvent:
    """The event in a document."""
    told = json.loads(document)
    return StoredEvent(
        told["item"],
        told.get("time"),
        told.get("type", ""),
        told.get("value"),
        tuple((name, value) for name, value in told.get("scenario", ())),
    )


def change_of(document: str | bytes) -> ItemChange:
    """The change in a document."""
    told = json.loads(document)
    return ItemChange(told["kind"], told["item"], told.get("fields", {}))


def check_reading(newest: int) -> None:
    """Raise for a number of events that cannot be asked for."""
    if not 0 <= newest <= FARTHEST_TIME:
        raise DataError(f"the newest {newest} events were asked for, it must be 0 or more")


def check_range(after: int, most: int) -> None:
    """Raise for changes that cannot be asked for."""
    if not (0 <= after <= FARTHEST_TIME and 0 <= most <= FARTHEST_TIME):
        raise DataError(f"{most} changes after {after} were asked for, both must be 0 or more")


def _event_document(event: StoredEvent) -> str:
    id_bytes(event.item, "item")
    if event.time is not None and not (
        isinstance(event.time, int) and -FARTHEST_TIME <= event.time <= FARTHEST_TIME
    ):
        raise DataError(f"the time of an event is {event.time} seconds: give a whole number of a real clock")
    if event.value is not None and not math.isfinite(event.value):
        raise DataError(f"the value of an event is {event.value}, it must be finite")
    told: dict[str, Any] = {"item": event.item}
    if event.time is not None:
        told["time"] = event.time
    if event.type:
        told["type"] = event.type
    if event.value is not None:
        told["value"] = float(event.value)
    if event.scenario:
        told["scenario"] = [[name, value] for name, value in event.scenario]
    return _document(told, "an event")


def _change_document(change: ItemChange) -> str:
    id_bytes(change.item, "item")
    if change.kind not in KINDS:
        raise DataError(f"a change is {_shown(change.kind)}, it must be one of: {', '.join(KINDS)}")
    told: dict[str, Any] = {"kind": change.kind, "item": change.item}
    if change.fields:
        told["fields"] = dict(change.fields)
    return _document(told, f"the change of item {_shown(change.item)}")


def _document(value: Any, what: str) -> str:
    try:
        document = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(document.encode())
    except (TypeError, ValueError, RecursionError):  # also surrogates: UnicodeEncodeError is a ValueError
        raise DataError(f"{what} has something that JSON cannot hold: give Unicode texts, numbers") from None
    if size > MOST_DOCUMENT:
        raise DataError(f"{what} has {size:,} bytes, at most {MOST_DOCUMENT:,} are kept")
    return document


def _batch(documents: Sequence[str], key: str | None) -> Batch:
    if key is None:
        return Batch(tuple(documents))
    digest = hashlib.sha256("\n".join(documents).encode()).digest()  # JSON has no bare line ends
    return Batch(tuple(documents), key=id_bytes(key, "key"), digest=digest)


def _check_count(count: int, what: str) -> None:
    if not 0 < count <= MOST_EVENTS:
        raise DataError(f"there are {count:,} {what}s in one call, it must be 1 to {MOST_EVENTS:,}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
