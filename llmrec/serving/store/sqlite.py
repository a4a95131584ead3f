"""The store in one SQLite file: the default, and fast enough for one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

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
from llmrec.serving.store.group_commit import GroupCommit, Write

T = TypeVar("T")
READERS = 8
"""Connections that read at once."""
PATIENCE = 2.0
"""Seconds to wait for another process that writes, or for a free connection."""
OLDEST_SQLITE = (3, 37)
# Events lie in the order in which they are read: the newest 50 of a user are one or two pages of the file.
# AUTOINCREMENT: a deleted user's number is never given to another one.
CREATE = """
    CREATE TABLE llmrec_users (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE,
        events INTEGER NOT NULL, newest INTEGER, profile TEXT) STRICT;
    CREATE TABLE llmrec_events (
        owner INTEGER NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (owner, position, number)) STRICT, WITHOUT ROWID;
    CREATE TABLE llmrec_appends (
        owner INTEGER NOT NULL, key BLOB NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (owner, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE llmrec_erased (digest BLOB NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE llmrec_changes (number INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT;
    CREATE TABLE llmrec_change_keys (
        key BLOB NOT NULL PRIMARY KEY, digest BLOB NOT NULL, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE llmrec_store (
        one INTEGER PRIMARY KEY CHECK (one = 1), schema INTEGER NOT NULL, changes INTEGER NOT NULL) STRICT
"""
# FULL: a commit waits until the log is on the disk (fullfsync: on a Mac too, where fsync alone does not).
# secure_delete: what is deleted is overwritten in the file.
SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA journal_size_limit = 67108864",
)
_REASONS = {
    "SQLITE_FULL": "is full: free some space",
    "SQLITE_READONLY": "is read-only: let the service write the file and its directory",
    "SQLITE_BUSY": "is locked by another program: let that one end",
    "SQLITE_IOERR_WRITE": "cannot be written: is the disk full, broken, or the size of files limited?",
    "SQLITE_CANTOPEN": "cannot be opened: is the file there, and may the service read and write it?",
    "SQLITE_CORRUPT": "is damaged: restore the file from a backup",
    "SQLITE_NOTADB": "is no SQLite file: restore it from a backup, or name another file",
}


class SqliteRows:
    """Statements on one SQLite connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """See `tables.Rows`."""
        return self._connection.execute(statement, _named(parameters)).fetchall()

    def many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        """See `tables.Rows`."""
        self._connection.executemany(statement, [_named(each) for each in parameters])


def _named(parameters: Sequence[Any]) -> Mapping[str, Any]:
    """What sqlite3 wants to have for $1, $2, ..."""
    return {str(number): value for number, value in enumerate(parameters, 1)}


class SqliteStore:
    """`Store` in the file `path`, which is made when it is missing; several processes may share it."""

    def __init__(self, path: Path) -> None:
        """Raises `StoreError` for a file of something else or of a newer llmrec, `StoreUnavailable`."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreError(
                f"this Python has SQLite {sqlite3.sqlite_version}, the store needs "
                f"{'.'.join(map(str, OLDEST_SQLITE))}: use a newer Python, or redis:// or postgresql://"
            )
        self._path = Path(path).absolute()
        self.place = f"sqlite:///{self._path}"
        self._file = self._make()
        self._readers = Connections(self._connect, self.place, READERS, PATIENCE, lambda _: True)
        self._writers = Connections(self._connect, self.place, 1, PATIENCE, lambda _: True)
        self._commits = GroupCommit(self._carry_out)
        try:
            with self._explained():
                self._create()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """See `Store.check`."""
        self._reading(lambda rows: rows.rows(tables.READ_SCHEMA))

    def read(self, user: str, newest: int) -> StoredUser:
        """See `Store.read`."""
        check_reading(newest)
        name = id_bytes(user, "user")
        return self._reading(lambda rows: tables.read_user(rows, name, newest))

    def append(
        self, user: str, events: Sequence[StoredEvent], key: str | None = None, now: int | None = None
    ) -> Appended:
        """See `Store.append`."""
        name, batch = id_bytes(user, "user"), event_batch(events, key, now)
        return self._commits.run(lambda rows: tables.append_events(rows, name, batch))

    def put_profile(self, user: str, profile: Mapping[str, str | float]) -> None:
        """See `Store.put_profile`."""
        name, document = id_bytes(user, "user"), profile_document(profile)
        self._commits.run(lambda rows: tables.put_profile(rows, name, document))

    def delete_user(self, user: str) -> bool:
        """See `Store.delete_user`; the log, which still has what was deleted, is emptied too if it can be."""
        name = id_bytes(user, "user")
        found = self._commits.run(lambda rows: tables.delete_user(rows, name))
        with contextlib.suppress(StoreUnavailable):
            self._reading(lambda rows: rows.rows("PRAGMA wal_checkpoint(TRUNCATE)"), snapshot=False)
        return found

    def change_items(self, changes: Sequence[ItemChange], key: str | None = None) -> int:
        """See `Store.change_items`."""
        batch = change_batch(changes, key)
        return self._commits.run(lambda rows: tables.log_changes(rows, batch))

    def changes(self, after: int = 0, most: int = MOST_EVENTS) -> tuple[LoggedChange, ...]:
        """See `Store.changes`."""
        check_range(after, most)
        return self._reading(lambda rows: tables.read_changes(rows, after, most))

    def close(self) -> None:
        """See `Store.close`."""
        self._readers.close()
        self._writers.close()

    def transaction(self, work: Callable[[tables.Rows], T]) -> T:
        """Do `work` of `tables` in one transaction: much at once, as a benchmark needs it."""
        return self._commits.run(work)

    def _make(self) -> tuple[int, int]:
        """The file's identity; a new one may be read by its owner alone."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o600))
            found = self._path.stat()
        except OSError as error:
            raise StoreUnavailable(
                f"the store {self.place} cannot be made: {error.strerror or error}"
            ) from error
        return found.st_dev, found.st_ino

    def _check_file(self) -> None:
        """An open file that was removed or replaced takes writes that nobody ever sees again."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise StoreUnavailable(
                f"the store {self.place} is gone ({error.strerror}): put the file back"
            ) from error
        if (found.st_dev, found.st_ino) != self._file:
            raise StoreUnavailable(
                f"the store {self.place} is another file now: put the first one back, or restart the service"
            )

    def _connect(self) -> sqlite3.Connection:
        self._check_file()
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",  # never makes a file
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,  # transactions begin and end where this module says so
            check_same_thread=False,  # `Connections` lends one to one thread at a time
        )
        try:
            for setting in SETTINGS:
                connection.execute(setting)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        """Make the tables in an empty file; check the schema of any other."""
        with self._writers.lend() as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            if names and "llmrec_store" not in names:
                raise StoreError(f"{self._path} is a database of something else: name another file")
            [(mode,)] = connection.execute("PRAGMA journal_mode = WAL")
            if mode != "wal":
                raise StoreError(
                    f"{self._path} is on a file system without shared memory: choose a local disk"
                )
            if not names:
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT name FROM sqlite_schema").fetchall():  # nobody was faster
                    for statement in CREATE.split(";"):
                        connection.execute(statement)
                    SqliteRows(connection).rows(tables.ADD_SCHEMA, SCHEMA)
                connection.execute("COMMIT")
            [(schema,)] = connection.execute(tables.READ_SCHEMA)
            tables.check_schema(self.place, schema)

    def _reading(self, work: Callable[[SqliteRows], T], snapshot: bool = True) -> T:
        """Do `work` on one state of the store."""
        with self._explained(), self._readers.lend() as connection:
            self._check_file()
            if snapshot:
                connection.execute("BEGIN")
            found = work(SqliteRows(connection))
            if snapshot:
                connection.execute("COMMIT")
            return found

    def _carry_out(self, writes: Sequence[Write]) -> None:
        """Some writes in one transaction; one that refuses leaves nothing behind."""
        with self._explained(), self._writers.lend() as connection:
            self._check_file()
            connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                connection.execute("SAVEPOINT one")
                if not write.carry_out(SqliteRows(connection)):
                    connection.execute("ROLLBACK TO one")
                connection.execute("RELEASE one")
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as `StoreUnavailable`."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            reason = next((said for known, said in _REASONS.items() if name.startswith(known)), None)
            said = reason or f"cannot be read or written ({error})"
            raise StoreUnavailable(f"the store {self.place} {said}") from error
