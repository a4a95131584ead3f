"""What the contract means in SQL, the same statements for SQLite and PostgreSQL.

Both know the placeholders $1, $2, ..., so no statement is put together from strings, ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from llmrec.serving.store.contract import (
    BEFORE_ALL,
    SCHEMA,
    Appended,
    KeyReusedError,
    LoggedChange,
    StoredUser,
    StoreError,
)
from llmrec.serving.store.documents import Batch, change_of, erased_digest, event_of, profile_of

USER = """
    SELECT u.number, u.events, u.profile, EXISTS (SELECT 1 FROM llmrec_erased WHERE digest = $2)
    FROM (SELECT 1) AS one LEFT JOIN llmrec_users u ON u.id = $1"""
NEWEST = """
    SELECT document FROM llmrec_events WHERE owner = $1 ORDER BY position DESC, number DESC LIMIT $2"""
# Holds the user's row until the transaction ends: appends of one user come one after the other.
HOLD_USER = """
    INSERT INTO llmrec_users (id, events) VALUES ($1, 0)
    ON CONFLICT (id) DO UPDATE SET events = llmrec_users.events RETURNING number, events, newest"""
KNOWN_KEY = "SELECT digest FROM llmrec_appends WHERE owner = $1 AND key = $2"
ADD_KEY = "INSERT INTO llmrec_appends (owner, key, digest) VALUES ($1, $2, $3)"
ADD_EVENT = "INSERT INTO llmrec_events (owner, position, number, document) VALUES ($1, $2, $3, $4)"
COUNT_EVENTS = "UPDATE llmrec_users SET events = $2, newest = $3 WHERE number = $1"
PUT_PROFILE = """
    INSERT INTO llmrec_users (id, events, profile) VALUES ($1, 0, $2)
    ON CONFLICT (id) DO UPDATE SET profile = excluded.profile"""
DELETE_USER = "DELETE FROM llmrec_users WHERE id = $1 RETURNING number"
DELETE_EVENTS = "DELETE FROM llmrec_events WHERE owner = $1"
DELETE_KEYS = "DELETE FROM llmrec_appends WHERE owner = $1"
ERASED = "INSERT INTO llmrec_erased (digest) VALUES ($1) ON CONFLICT (digest) DO NOTHING"
# Holds the log: numbers come into sight in their order, so that a reader misses none.
HOLD_LOG = "UPDATE llmrec_store SET changes = changes RETURNING changes"
KNOWN_CHANGE_KEY = "SELECT digest, last FROM llmrec_change_keys WHERE key = $1"
ADD_CHANGE_KEY = "INSERT INTO llmrec_change_keys (key, digest, last) VALUES ($1, $2, $3)"
ADD_CHANGE = "INSERT INTO llmrec_changes (number, document) VALUES ($1, $2)"
COUNT_CHANGES = "UPDATE llmrec_store SET changes = $1"
CHANGES = "SELECT number, document FROM llmrec_changes WHERE number > $1 ORDER BY number LIMIT $2"
ADD_SCHEMA = "INSERT INTO llmrec_store (one, schema, changes) VALUES (1, $1, 0)"
READ_SCHEMA = "SELECT schema FROM llmrec_store"


class Rows(Protocol):
    """Runs statements on one connection; `parameters` are $1, $2, ... in order."""

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """The rows that a statement gives."""
        ...

    def many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each of `parameters`."""
        ...


def read_user(rows: Rows, user: bytes, newest: int) -> StoredUser:
    """See `Store.read`."""
    [(number, count, profile, erased)] = rows.rows(USER, user, erased_digest(user))
    if number is None:
        return StoredUser(erased=bool(erased))
    found = rows.rows(NEWEST, number, newest) if newest and count else []
    events = tuple(event_of(document) for (document,) in reversed(found))
    return StoredUser(profile_of(profile), events, count, bool(erased))


def append_events(rows: Rows, user: bytes, batch: Batch) -> Appended:
    """See `Store.append`; inside a transaction."""
    [(owner, count, last)] = rows.rows(HOLD_USER, user)
    if batch.key is not None:
        known = rows.rows(KNOWN_KEY, owner, batch.key)
        if known:
            check_repeated(bytes(known[0][0]), batch)
            return Appended(count, True)
        rows.rows(ADD_KEY, owner, batch.key, batch.digest)
    added = []
    for number, (time, document) in enumerate(zip(batch.times, batch.documents, strict=True), count):
        position = time if time is not None else BEFORE_ALL if last is None else last
        last = position if last is None else max(last, position)
        added.append((owner, position, number, document))
    rows.many(ADD_EVENT, added)
    rows.rows(COUNT_EVENTS, owner, count + len(added), last)
    return Appended(count + len(added), False)


def put_profile(rows: Rows, user: bytes, document: str) -> None:
    """See `Store.put_profile`."""
    rows.rows(PUT_PROFILE, user, document)


def delete_user(rows: Rows, user: bytes) -> bool:
    """See `Store.delete_user`; inside a transaction."""
    found = rows.rows(DELETE_USER, user)
    for (owner,) in found:
        rows.rows(DELETE_EVENTS, owner)
        rows.rows(DELETE_KEYS, owner)
    rows.rows(ERASED, erased_digest(user))
    return bool(found)


def log_changes(rows: Rows, batch: Batch) -> int:
    """See `Store.change_items`; inside a transaction."""
    [(last,)] = rows.rows(HOLD_LOG)
    if batch.key is not None:
        known = rows.rows(KNOWN_CHANGE_KEY, batch.key)
        if known:
            check_repeated(bytes(known[0][0]), batch)
            return int(known[0][1])
    rows.many(ADD_CHANGE, list(enumerate(batch.documents, last + 1)))
    last += len(batch.documents)
    rows.rows(COUNT_CHANGES, last)
    if batch.key is not None:
        rows.rows(ADD_CHANGE_KEY, batch.key, batch.digest, last)
    return int(last)


def read_changes(rows: Rows, after: int, most: int) -> tuple[LoggedChange, ...]:
    """See `Store.changes`."""
    return tuple(
        LoggedChange(number, change_of(document)) for number, document in rows.rows(CHANGES, after, most)
    )


def check_schema(place: str, found: int) -> None:
    """Raise `StoreError` for what another version of llmrec wrote."""
    if found > SCHEMA:
        raise StoreError(
            f"the store {place} has schema {found}, this llmrec knows {SCHEMA}: take a newer llmrec"
        )


def check_repeated(digest: bytes, batch: Batch) -> None:
    """Raise `KeyReusedError` unless the key of `batch` came with the same before."""
    if digest != batch.digest:
        key = (batch.key or b"").decode()
        raise KeyReusedError(f"the key {key!r} came before with something else: give each write its own key")
