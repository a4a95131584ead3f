"""The store in a PostgreSQL database, for services on several machines."""

from __future__ import annotations

import contextlib
import re
import select
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg

from llmrec.errors import LlmrecError
from llmrec.serving.store import tables
from llmrec.serving.store.connections import Connections
from llmrec.serving.store.contract import (
    MOST_EVENTS,
    SCHEMA,
    Appended,
    ItemChange,
    LoggedChange,
    StoredEvent,
    StoredUser,
    StoreError,
    StoreUnavailable,
)
from llmrec.serving.store.documents import (
    change_batch,
    check_range,
    check_reading,
    event_batch,
    id_bytes,
    profile_document,
)

T = TypeVar("T")
CONNECTIONS = 16
"""Connections of one process."""
PATIENCE = 5.0
"""Seconds for one call; half of that to connect."""
_CREATING = 0x6C6C6D72
"""The advisory lock of whoever makes the tables."""
CREATE = """
    CREATE TABLE llmrec_users (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id BYTEA NOT NULL UNIQUE,
        events BIGINT NOT NULL, newest BIGINT, profile TEXT);
    CREATE TABLE llmrec_events (
        owner BIGINT NOT NULL, position BIGINT NOT NULL, number BIGINT NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (owner, position, number));
    CREATE TABLE llmrec_appends (
        owner BIGINT NOT NULL, key BYTEA NOT NULL, digest BYTEA NOT NULL, PRIMARY KEY (owner, key));
    CREATE TABLE llmrec_erased (digest BYTEA NOT NULL PRIMARY KEY);
    CREATE TABLE llmrec_changes (number BIGINT PRIMARY KEY, document TEXT NOT NULL);
    CREATE TABLE llmrec_change_keys (
        key BYTEA NOT NULL PRIMARY KEY, digest BYTEA NOT NULL, last BIGINT NOT NULL);
    CREATE TABLE llmrec_store (
        one INTEGER PRIMARY KEY CHECK (one = 1), schema BIGINT NOT NULL, changes BIGINT NOT NULL)
"""
# A commit waits for the disk whatever the server's default is; a statement that nobody waits for ends.
SETTINGS = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SET statement_timeout = 5000;
    SET idle_in_transaction_session_timeout = 10000
"""
_REASONS = {
    "53100": "is full: free some space on the server",
    "53300": "takes no more connections: raise max_connections of the server",
    "25006": "is read-only: point the service to a server that takes writes",
    "42P01": "has lost its tables: restore them from a backup, then start the service again",
    "42501": "denies this: grant its user the rights to the tables",
    "57014": "took too long",
    "57P": "is stopping or starting",
}


class _Late(Exception):
    """The server did not answer in time."""


class _Connection(psycopg.Connection[Any]):
    """A connection whose waits end at `deadline`, seconds of the monotonic clock.

    A server that hangs keeps its sockets open: without this its clients would hang too.
    """

    deadline = float("inf")

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        """As the original, but raise `_Late` at the deadline."""
        return super().wait(self._until(gen), *arguments, **named)

    def _until(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > self.deadline:
                    raise _Late
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


class PostgresRows:
    """Statements on one connection."""

    def __init__(self, connection: _Connection) -> None:
        self._cursor = psycopg.RawCursor(connection)

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """See `tables.Rows`."""
        self._cursor.execute(statement, parameters)
        return [] if self._cursor.description is None else self._cursor.fetchall()

    def many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        """See `tables.Rows`."""
        for each in parameters:
            self._cursor.execute(statement, each)


class PostgresStore:
    """`Store` in the database at `url`, whose tables are made when they are missing."""

    def __init__(self, url: str, place: str, durable: bool = True) -> None:
        """`durable` False takes a server with `fsync = off` too.

        Raises `StoreError` for a server that would lose acknowledged writes, for another encoding than UTF-8
        and for tables of a newer llmrec; `StoreUnavailable`.
        """
        self._url, self.place = url, place
        self._connections = Connections(self._connect, place, CONNECTIONS, PATIENCE, _alive)
        try:
            with self._explained(), self._connections.lend() as connection:
                self._check_server(PostgresRows(connection), durable)
            self._run(self._create)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """See `Store.check`."""
        self._run(lambda rows: rows.rows(tables.READ_SCHEMA), commit=False)

    def read(self, user: str, newest: int) -> StoredUser:
        """See `Store.read`."""
        check_reading(newest)
        name = id_bytes(user, "user")
        return self._run(lambda rows: tables.read_user(rows, name, newest), commit=False)

    def append(
        self, user: str, events: Sequence[StoredEvent], key: str | None = None, now: int | None = None
    ) -> Appended:
        """See `Store.append`."""
        name, batch = id_bytes(user, "user"), event_batch(events, key, now)
        return self._run(lambda rows: tables.append_events(rows, name, batch))

    def put_profile(self, user: str, profile: Mapping[str, str | float]) -> None:
        """See `Store.put_profile`."""
        name, document = id_bytes(user, "user"), profile_document(profile)
        self._run(lambda rows: tables.put_profile(rows, name, document))

    def delete_user(self, user: str) -> bool:
        """See `Store.delete_user`; the server overwrites what was deleted when it vacuums."""
        name = id_bytes(user, "user")
        return self._run(lambda rows: tables.delete_user(rows, name))

    def change_items(self, changes: Sequence[ItemChange], key: str | None = None) -> int:
        """See `Store.change_items`."""
        batch = change_batch(changes, key)
        return self._run(lambda rows: tables.log_changes(rows, batch))

    def changes(self, after: int = 0, most: int = MOST_EVENTS) -> tuple[LoggedChange, ...]:
        """See `Store.changes`."""
        check_range(after, most)
        return self._run(lambda rows: tables.read_changes(rows, after, most), commit=False)

    def close(self) -> None:
        """See `Store.close`."""
        self._connections.close()

    def _connect(self) -> _Connection:
        connection = _Connection.connect(
            self._url,
            autocommit=True,  # transactions begin and end where this module says so
            connect_timeout=max(2, int(PATIENCE / 2)),
            client_encoding="utf8",
            application_name="llmrec",
        )
        connection.deadline = time.monotonic() + PATIENCE
        try:
            connection.execute(SETTINGS)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_server(self, rows: PostgresRows, durable: bool) -> None:
        [(fsync, encoding)] = rows.rows("SELECT current_setting('fsync'), current_setting('server_encoding')")
        if encoding != "UTF8":
            raise StoreError(
                f"the store {self.place} has the encoding {encoding}: make a database with the encoding UTF8"
            )
        if fsync != "on" and durable:
            raise StoreError(
                f"the store {self.place} may lose acknowledged writes: set fsync = on in the server's "
                "configuration, or add durable=no to the address to live with that"
            )

    def _create(self, rows: PostgresRows) -> None:
        rows.rows("SELECT pg_advisory_xact_lock($1)", _CREATING)
        [(there,)] = rows.rows("SELECT to_regclass('llmrec_store') IS NOT NULL")
        if not there:
            for statement in CREATE.split(";"):
                rows.rows(statement)
            rows.rows(tables.ADD_SCHEMA, SCHEMA)
        [(schema,)] = rows.rows(tables.READ_SCHEMA)
        tables.check_schema(self.place, schema)

    def _run(self, work: Callable[[PostgresRows], T], commit: bool = True) -> T:
        """Do `work`, in a transaction when it has something to `commit`."""
        with self._explained(), self._connections.lend() as connection:
            connection.deadline = time.monotonic() + PATIENCE
            rows = PostgresRows(connection)
            if not commit:
                return work(rows)
            rows.rows("BEGIN")
            try:
                found = work(rows)
            except LlmrecError:
                rows.rows("ROLLBACK")
                raise
            rows.rows("COMMIT")
            return found

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """The errors of PostgreSQL and of the network as `StoreUnavailable`."""
        try:
            yield
        except _Late:
            raise StoreUnavailable(
                f"the store {self.place} did not answer in {PATIENCE:.0f} s: see to the server"
            ) from None
        except psycopg.Error as error:
            raise StoreUnavailable(f"the store {self.place} {_reason(error)}") from error


def _reason(error: psycopg.Error) -> str:
    """What is wrong, in words; nothing of what was written stands in it."""
    state = error.sqlstate or ""
    known = next((said for start, said in _REASONS.items() if state.startswith(start)), None)
    if known is not None:
        return known
    if state:
        return f"failed ({error.diag.message_primary})"
    refused = re.search(r"FATAL:\s+(.+)", str(error))  # while connecting there is no state
    return f"refuses: {refused[1]}" if refused else "cannot be reached: is the server running?"


def _alive(connection: _Connection) -> bool:
    """Whether nothing came in on an idle connection: what comes is the end of it."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
