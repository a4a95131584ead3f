"""Stores gone, full or read-only in mid-flight: memory answers, writes are refused, all comes back."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from store_places import KINDS, TABLES, empty_place

from llmrec.serving.store import sqlite
from llmrec.serving.store.contract import ItemChange, StoredEvent, StoredUser, StoreUnavailable
from llmrec.serving.store.memory import KEEP_SECONDS, Memory
from llmrec.serving.store.opening import open_real
from llmrec.serving.store.remembering import PAUSE, RememberingStore


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file may grow beyond what the store's files have now."""
    size = max(each.stat().st_size for each in path.parent.glob("store.db*"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def read_only_file(store: Any) -> Iterator[None]:
    """SQLite refuses to write, with the error of a file that is read-only.

    Tests may run as root, whom no permission stops, and a file system with open files is not made read-only.
    """
    file = store._store
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "SETTINGS", (*sqlite.SETTINGS, "PRAGMA query_only = ON"))
        file._writers.drop_idle()
        yield
    file._writers.drop_idle()


@contextlib.contextmanager
def told(url: str, wrong: tuple[Any, ...], right: tuple[Any, ...]) -> Iterator[None]:
    """Something that Redis is told, and taken back."""
    with redis.Redis.from_url(url) as client:
        client.execute_command(*wrong)
        try:
            yield
        finally:
            client.execute_command(*right)


@contextlib.contextmanager
def read_only_database(url: str) -> Iterator[None]:
    """All new connections to PostgreSQL may only read; the others are ended."""

    def others_end(server: psycopg.Connection[Any]) -> None:
        server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with psycopg.connect(url, autocommit=True) as server:
        server.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        others_end(server)
        yield
        server.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
        others_end(server)


@contextlib.contextmanager
def full_database(url: str) -> Iterator[None]:
    """PostgreSQL itself refuses whatever would be written, with the error of a full disk.

    It is raised by triggers: a disk of one's own that can be full takes the rights of root.
    """
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(
            "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
            "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        for table in TABLES:
            server.execute(
                f"CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE OR DELETE ON llmrec_{table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION disk_full()"
            )
        try:
            yield
        finally:
            server.execute("DROP FUNCTION disk_full CASCADE")


@contextlib.contextmanager
def gone(kind: str, url: str, server_of: Callable[[str], Any]) -> Iterator[None]:
    """The store's file is moved away, or its server killed."""
    if kind == "sqlite":
        path = Path(url.removeprefix("sqlite:///"))
        away = path.rename(path.with_name("away"))
        yield
        away.rename(path)
    else:
        server_of(kind).kill()
        yield
        server_of(kind)  # starts it again


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_kind(
    server_of: Callable[[str], Any], tmp_path: Path, clock: Clock
) -> Iterator[Callable[[str], tuple[str, RememberingStore]]]:
    made: list[RememberingStore] = []

    def open_it(kind: str) -> tuple[str, RememberingStore]:
        url = empty_place(kind, server_of, tmp_path)
        store = RememberingStore(open_real(url), clock=clock)
        made.append(store)
        store.append("ann", [StoredEvent("a", 1)])
        store.append("bob", [StoredEvent("b", 1)])
        assert store.read("ann", 5) == StoredUser(None, (StoredEvent("a", 1),), 1)
        return url, store

    yield open_it
    for store in made:
        store.close()


def writes_are_refused(store: RememberingStore, said: str) -> None:
    for write in (
        lambda: store.append("ann", [StoredEvent("c", 2)], "key"),
        lambda: store.put_profile("ann", {"x": 1}),
        lambda: store.delete_user("ann"),
        lambda: store.change_items([ItemChange("retire", "a")]),
    ):
        with pytest.raises(StoreUnavailable, match=said) as raised:
            write()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_gone(kind: str, open_kind: Callable[..., Any], server_of: Callable[[str], Any], clock: Clock):
    url, store = open_kind(kind)
    with gone(kind, url, server_of):
        known = store.read("ann", 5)
        assert known.remembered and [event.item for event in known.events] == ["a"]
        for ask in (store.check, store.changes, lambda: store.read("bob", 5)):
            with pytest.raises(StoreUnavailable, match=r"is gone|cannot be reached|terminating"):
                ask()
        writes_are_refused(store, r"is gone|cannot be reached|terminating")
    assert store.read("ann", 5).remembered  # left alone for a moment
    clock.now += PAUSE
    assert store.read("ann", 5) == StoredUser(None, (StoredEvent("a", 1),), 1)
    assert store.append("ann", [StoredEvent("c", 2)], "key").count == 2
    assert [event.item for event in store.read("bob", 5).events] == ["b"]


FULL, NOT_FULL = ("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)
REPLICA, MASTER = ("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")
NO_WRITES: dict[tuple[str, str], Callable[[str, Any], contextlib.AbstractContextManager[None]]] = {
    ("sqlite", "full"): lambda url, _: full_disk(Path(url.removeprefix("sqlite:///"))),
    ("sqlite", "read-only"): lambda _, store: read_only_file(store),
    ("redis", "full"): lambda url, _: told(url, FULL, NOT_FULL),
    ("redis", "read-only"): lambda url, _: told(url, REPLICA, MASTER),
    ("postgresql", "full"): lambda url, _: full_database(url),
    ("postgresql", "read-only"): lambda url, _: read_only_database(url),
}


@pytest.mark.parametrize(("kind", "what"), NO_WRITES)
def test_no_writes(kind: str, what: str, open_kind: Callable[..., Any], clock: Clock):
    """Reads go on from the store itself."""
    url, store = open_kind(kind)
    with NO_WRITES[kind, what](url, store):
        writes_are_refused(store, f"is {what}|is the disk {what}")
        read = store.read("bob", 5)
        assert not read.remembered and [event.item for event in read.events] == ["b"]
    clock.now += PAUSE
    assert store.append("ann", [StoredEvent("c", 2)], "key").count == 2
    assert [event.item for event in store.read("ann", 5).events] == ["a", "c"]


def test_memory_forgets(tmp_path: Path):
    """After an hour, the oldest first, and at once when a user is deleted meanwhile."""
    clock = Clock()
    memory = Memory(most=5, clock=clock)
    for name in ("ann", "bob"):
        with memory.reading(name) as reading:
            memory.remember(name, reading, StoredUser(None, (StoredEvent(name),), 1), 5)
    assert memory.recall("ann", 5) == StoredUser(None, (StoredEvent("ann"),), 1, remembered=True)
    with memory.reading("carl") as reading:
        memory.remember("carl", reading, StoredUser(None, (StoredEvent("c"),), 1), 5)
    assert memory.recall("bob", 5) is None and memory.recall("ann", 5) is not None
    with memory.reading("ann") as reading:
        memory.deleted("ann")
        memory.remember("ann", reading, StoredUser(None, (StoredEvent("ann"),), 1), 5)
    found = memory.recall("ann", 5)
    assert found is not None and found.erased and not found.events
    clock.now += KEEP_SECONDS + 1
    assert memory.recall("carl", 5) is None
