"""What every store holds: SQLite, Redis and PostgreSQL, each for real."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_places import KINDS, empty_place

from llmrec.errors import DataError, MissingExtraError
from llmrec.serving.store.contract import (
    BEFORE_ALL,
    FARTHEST_TIME,
    MOST_EVENTS,
    MOST_ID,
    SCHEMA,
    Appended,
    ItemChange,
    KeyReusedError,
    LoggedChange,
    Store,
    StoredEvent,
    StoredUser,
    StoreError,
    StoreUnavailable,
)
from llmrec.serving.store.memory import merged
from llmrec.serving.store.opening import open_real, open_store, place_of

ALL = 10_000


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, server_of: Callable[[str], Any], tmp_path: Path) -> str:
    return empty_place(request.param, server_of, tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_real(url)
    yield store
    store.close()


def items(store: Store, user: str, newest: int = ALL) -> list[str]:
    return [event.item for event in store.read(user, newest).events]


def test_the_newest_events_in_their_order(store: Store):
    assert store.read("ann", 5) == StoredUser() and not store.read("ann", 5).known
    event = StoredEvent("mug", 1_290_000_000, "purchase", 2.5, (("country", "Malta"), ("device", "phone")))
    assert store.append("ann", [event]) == Appended(1, False)
    assert store.append("ann", [replace(event, item=name) for name in "abc"]) == Appended(4, False)
    late, unknown = replace(event, item="late", time=1_280_000_000), replace(event, item="now", time=None)
    assert store.append("ann", [late, unknown, replace(event, item="d")]) == Appended(7, False)
    assert items(store, "ann") == ["late", "mug", "a", "b", "c", "now", "d"]
    assert items(store, "ann", 3) == ["c", "now", "d"]
    read = store.read("ann", 0)
    assert (read.events, read.count, read.known, read.profile) == ((), 7, True, None)
    assert store.read("ann", ALL).events[:2] == (late, event)
    assert not store.read("bob", 5).known
    store.check()


EVENTS = st.builds(
    StoredEvent,
    item=st.text(min_size=1, max_size=5),
    time=st.none() | st.integers(-3, 3) | st.integers(-FARTHEST_TIME, FARTHEST_TIME),
    type=st.sampled_from(("", "click", "\x00é")),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    scenario=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=2).map(tuple),
)


def in_order(batches: list[list[StoredEvent]]) -> list[StoredEvent]:
    """The contract's order, by its words."""
    placed: list[tuple[int, StoredEvent]] = []
    for event in (event for batch in batches for event in batch):
        newest = max((place for place, _ in placed), default=BEFORE_ALL)
        placed.append((newest if event.time is None else event.time, event))
    return [event for _, event in sorted(placed, key=lambda pair: pair[0])]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(EVENTS, min_size=1, max_size=6), max_size=4), data=st.data())
def test_any_events_keep_their_order(store: Store, batches: list[list[StoredEvent]], data: st.DataObject):
    user = data.draw(st.text(min_size=1, max_size=8))
    store.delete_user(user)
    remembered: tuple[StoredEvent, ...] = ()
    for number, batch in enumerate(batches, 1):
        count = sum(map(len, batches[:number]))
        assert store.append(user, batch, str(number)) == Appended(count, False)
        assert store.append(user, batch, str(number)) == Appended(count, True)
        remembered = merged(remembered, batch)
    expected = in_order(batches)
    newest = data.draw(st.integers(0, len(expected) + 1))
    read = store.read(user, newest)
    assert list(read.events) == (expected[-newest:] if newest else [])
    assert read == StoredUser(None, read.events, len(expected), erased=True)
    assert list(remembered) == expected


HOSTILE = (
    "'; DROP TABLE llmrec_users; --", '"', "\\", "a:events", "a", "ann:about", "llmrec:schema", "{a}", "*",
    "?", "%s", "%00", "$1", "\x00", "a\x00b", "a\nb", "a\r\n$3\r\n", " a", "a ", "\u202eabc", "é",
    "e\u0301", "🛒", "']) redis.call('FLUSHALL') --", "../../etc/passwd", "\ufeff", "\U0010ffff",
    "x" * MOST_ID, "é" * (MOST_ID // 2),
)  # fmt: skip


def test_hostile_texts_are_only_texts(store: Store):
    """Each is a user of its own, and comes back as it was from wherever it stood."""
    for number, text in enumerate(HOSTILE):
        event = StoredEvent(text, number, text, 1.0, ((text, text),))
        assert store.append(text, [event], text) == Appended(1, False)
        store.put_profile(text, {text: text, "number": number})
        store.change_items([ItemChange("update", text, {text: [text, {text: None}]})], text)
    for number, text in enumerate(HOSTILE):
        event = StoredEvent(text, number, text, 1.0, ((text, text),))
        assert store.read(text, ALL) == StoredUser({text: text, "number": number}, (event,), 1)
    assert [each.change.item for each in store.changes()] == list(HOSTILE)
    assert store.changes(3, 1)[0].change.fields == {HOSTILE[3]: [HOSTILE[3], {HOSTILE[3]: None}]}
    assert store.delete_user("a") and not store.read("a", 1).known
    assert store.read("a:events", 1).known and store.read("a ", 1).known


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda store: store.append("\ud800", [StoredEvent("a")]), r"user '\\ud800' is no Unicode text"),
        (lambda store: store.append("", [StoredEvent("a")]), "user '' has 0 bytes, it must have 1 to 1,024"),
        (lambda store: store.read("é" * MOST_ID, 1), "has 2,048 bytes"),
        (lambda store: store.delete_user(""), "has 0 bytes"),
        (lambda store: store.read("ann", -1), "newest -1 events"),
        (lambda store: store.changes(-1), "after -1"),
        (lambda store: store.changes(0, -1), "-1 changes"),
        (lambda store: store.append("ann", []), "0 events in one call"),
        (lambda store: store.append("ann", [StoredEvent("a")] * (MOST_EVENTS + 1)), "1,001 events"),
        (lambda store: store.append("ann", [StoredEvent("a")], ""), "key '' has 0 bytes"),
        (lambda store: store.append("ann", [StoredEvent("a"), StoredEvent("")]), "item ''"),
        (lambda store: store.append("ann", [StoredEvent("a", 2**53)]), "time of an event"),
        (lambda store: store.append("ann", [StoredEvent("a", 1.5)]), "time of an event is 1.5"),
        (
            lambda store: store.append("ann", [StoredEvent("a", value=float("nan"))]),
            "value of an event is nan",
        ),
        (lambda store: store.append("ann", [StoredEvent("a", type="\ud800")]), "an event has something"),
        (lambda store: store.append("ann", [StoredEvent("a", type="x" * 2**20)]), "at most 1,048,576"),
        (lambda store: store.put_profile("ann", {"age": float("inf")}), "profile has something"),
        (lambda store: store.put_profile("ann", {"vip": True}), "attribute 'vip' of the user is neither"),
        (lambda store: store.change_items([ItemChange("burn", "a")]), "a change is 'burn'"),
        (lambda store: store.change_items([ItemChange("add", "a", {"x": {1, 2}})]), "the change of item 'a'"),
        (lambda store: store.change_items([]), "0 changes"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, call: Callable[[Store], Any], said: str):
    """It never comes to the database, so one store stands for all."""
    store = open_real(f"sqlite:///{tmp_path}/store.db")
    with pytest.raises(DataError, match=said) as raised:
        call(store)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200
    assert not store.read("ann", 1).known and store.changes() == ()
    store.close()


def test_keys(store: Store):
    """A key is a user's own, means one write, and goes with the user."""
    first, second = [StoredEvent("a", 1), StoredEvent("b", 1)], [StoredEvent("c", 1)]
    store.append("ann", first, "k")
    store.append("ann", second)
    assert store.append("ann", first, "k") == Appended(3, True)
    for other in (second, first[:1], [*first, *second], first[::-1]):
        with pytest.raises(KeyReusedError, match="the key 'k' came before with something else"):
            store.append("ann", other, "k")
    assert store.append("bob", second, "k") == Appended(1, False)
    assert items(store, "ann") == ["a", "b", "c"] and items(store, "bob") == ["c"]
    assert store.append("ann", second, "other") == Appended(4, False)
    store.delete_user("ann")
    assert store.append("ann", second, "k") == Appended(1, False)


def test_now_is_the_time_of_what_has_none(store: Store):
    """It is no part of what a key stands for: what is sent again later is the same."""
    told = [StoredEvent("a", 9), StoredEvent("b")]
    assert store.append("ann", told, "k", now=5) == Appended(2, False)
    assert store.append("ann", told, "k", now=7) == Appended(2, True)
    assert store.append("ann", [StoredEvent("c")], now=6) == Appended(3, False)
    assert store.read("ann", ALL).events == (StoredEvent("b", 5), StoredEvent("c", 6), StoredEvent("a", 9))
    with pytest.raises(KeyReusedError):
        store.append("ann", [StoredEvent("a", 9), StoredEvent("b", 5)], "k", now=5)


def test_profiles(store: Store):
    store.put_profile("ann", {"city": "Valletta", "age": 31, "income": 0.1})
    assert store.read("ann", 1) == StoredUser({"city": "Valletta", "age": 31, "income": 0.1})
    store.append("ann", [StoredEvent("a")])
    store.put_profile("ann", {})
    assert store.read("ann", 1) == StoredUser({}, (StoredEvent("a"),), 1)


def test_a_deleted_user_is_gone_and_stays_marked(store: Store, tmp_path: Path):
    store.append("ann-7391", [StoredEvent("a secret thing", number) for number in range(40)], "k")
    store.put_profile("ann-7391", {"city": "a secret town"})
    store.append("bob", [StoredEvent("b")])
    assert store.delete_user("ann-7391") is True
    assert store.read("ann-7391", ALL) == StoredUser(erased=True)
    assert store.delete_user("ann-7391") is False and store.delete_user("carl") is False
    assert store.read("carl", 1) == StoredUser(erased=True)
    store.append("ann-7391", [StoredEvent("new")])
    assert store.read("ann-7391", ALL) == StoredUser(None, (StoredEvent("new"),), 1, erased=True)
    assert items(store, "bob") == ["b"] and not store.read("bob", 1).erased
    store.delete_user("ann-7391")
    for path in tmp_path.glob("store.db*"):  # not only out of sight
        assert b"secret" not in path.read_bytes() and b"ann-7391" not in path.read_bytes()


def test_changes_of_the_catalogue(store: Store):
    added = ItemChange("add", "24001", {"title": "Zebra Lunch Bag", "price": 1.65, "categories": ["Bags"]})
    assert store.changes() == ()
    assert store.change_items([added, ItemChange("retire", "22423")], "k") == 2
    assert store.change_items([ItemChange("update", "24001", {"price": None})]) == 3
    assert store.change_items([added, ItemChange("retire", "22423")], "k") == 2
    with pytest.raises(KeyReusedError):
        store.change_items([added], "k")
    assert store.changes()[0] == LoggedChange(1, added)
    assert [(each.number, each.change.kind) for each in store.changes(1)] == [(2, "retire"), (3, "update")]
    assert [each.number for each in store.changes(1, 1)] == [2]
    assert store.changes(3) == store.changes(0, 0) == ()


def test_many_threads_of_two_services(store: Store, url: str):
    """Nothing is lost or doubled, each thread's events keep their order, no number of the log is skipped."""
    stores, threads, count = [store, open_real(url)], 6, 12
    seen: list[int] = []
    writing = threading.Event()

    def write(thread: int) -> None:
        mine = stores[thread % 2]
        for number in range(count):
            name = f"{thread}:{number}"
            mine.append("shared", [StoredEvent(name, 7)], name)
            mine.append("shared", [StoredEvent(name, 7)], name)
            mine.append(f"own {thread}", [StoredEvent(name, 7)])
            mine.change_items([ItemChange("update", name)] * 2)

    def follow() -> None:
        while not writing.is_set() or stores[1].changes(len(seen)):
            seen.extend(each.number for each in stores[1].changes(len(seen), 5))

    follower = threading.Thread(target=follow)
    writers = [threading.Thread(target=write, args=[thread]) for thread in range(threads)]
    for each in (follower, *writers):
        each.start()
    for each in writers:
        each.join()
    writing.set()
    follower.join()
    shared = items(store, "shared")
    for thread in range(threads):
        expected = [f"{thread}:{number}" for number in range(count)]
        assert [name for name in shared if name.startswith(f"{thread}:")] == expected
        assert items(stores[1], f"own {thread}") == expected
    assert len(shared) == threads * count
    assert seen == list(range(1, 2 * threads * count + 1))
    stores[1].close()


def test_under_asyncio(store: Store):
    async def serve() -> list[StoredUser]:
        calls = [asyncio.to_thread(store.append, "ann", [StoredEvent(str(n), n)]) for n in range(40)]
        await asyncio.gather(*calls)
        return await asyncio.gather(*(asyncio.to_thread(store.read, "ann", 50) for _ in range(40)))

    for read in asyncio.run(serve()):
        assert [event.item for event in read.events] == [str(number) for number in range(40)]


def test_it_is_all_there_when_opened_again(store: Store, url: str):
    store.append("ann", [StoredEvent("a", 5), StoredEvent("b", 5)], "k")
    store.put_profile("ann", {"age": 31})
    store.delete_user("bob")
    store.change_items([ItemChange("retire", "a")], "k")
    before = (store.read("ann", ALL), store.read("bob", ALL), store.changes())
    store.close()
    again = open_real(url)
    assert (again.read("ann", ALL), again.read("bob", ALL), again.changes()) == before
    assert again.append("ann", [StoredEvent("a", 5), StoredEvent("b", 5)], "k").repeated
    assert again.change_items([ItemChange("retire", "b")]) == 2
    again.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        again.read("ann", 1)


def execute(url: str, sql: str, *, redis_command: tuple[Any, ...]) -> None:
    """Do something to a store behind its back."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute(sql)
        connection.close()
    elif url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(sql)
    else:
        with redis.Redis.from_url(url) as client:
            client.execute_command(*redis_command)


def test_a_newer_schema_is_refused(store: Store, url: str):
    store.append("ann", [StoredEvent("a")])
    newer = SCHEMA + 1
    execute(url, f"UPDATE llmrec_store SET schema = {newer}", redis_command=("SET", "llmrec:schema", newer))
    with pytest.raises(
        StoreError, match=f"has schema {newer}, this llmrec knows {SCHEMA}: take a newer llmrec"
    ):
        open_real(url)
    execute(url, f"UPDATE llmrec_store SET schema = {SCHEMA}", redis_command=("SET", "llmrec:schema", SCHEMA))
    again = open_real(url)
    assert items(again, "ann") == ["a"]
    again.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    other, text = tmp_path / "other.db", tmp_path / "notes.txt"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    text.write_text("not a database, " * 100)
    before = other.read_bytes(), text.read_bytes()
    with pytest.raises(StoreError, match="is a database of something else: name another file"):
        open_real(f"sqlite:///{other}")
    with pytest.raises(StoreUnavailable, match="is no SQLite file"):
        open_real(f"sqlite:///{text}")
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        open_real(f"sqlite:///{text}/store.db")
    assert before == (other.read_bytes(), text.read_bytes())


def test_a_new_file_is_its_owners_alone(tmp_path: Path):
    store = open_real(f"sqlite:///{tmp_path}/new/a%20b.db")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {0o600}
    assert {path.name.partition(".")[0] for path in (tmp_path / "new").iterdir()} == {"a b"}
    store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("store.db", "has no ://"),
        ("mysql://user:hunter2@host/db", "begins with 'mysql', give sqlite:///FILE"),
        ("sqlite://store.db", "must be sqlite:///FILE"),
        ("sqlite:///", "must be sqlite:///FILE"),
        ("sqlite:///a.db?mode=memory", "must be sqlite:///FILE"),
        ("redis://user:hunter2@host:port/0", "the address of the store redis://host:port/0 cannot be read"),
        (
            "redis://user:hunter2@127.0.0.1:1/0",
            "redis://127.0.0.1:1/0 cannot be reached: is the server running",
        ),
        ("redis://127.0.0.1:1/0?durable=maybe", "only durable=no may stand there"),
        ("postgresql://user:hunter2@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db cannot be reached"),
        ("postgresql://user:hunter2@127.0.0.1:port/db", "postgresql://127.0.0.1:port/db"),
    ],
)
def test_addresses(url: str, said: str):
    """One clear line each, without the password."""
    with pytest.raises((StoreError, StoreUnavailable), match=said) as raised:
        open_store(url)
    assert "hunter2" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:hunter2@host:6379/0?durable=no", "redis://host:6379/0"),
        ("postgresql://u:hunter2@h1,h2/db?sslmode=require", "postgresql://h1,h2/db"),
        ("postgresql://u:hunt#er2/?@host/db", "postgresql://..."),
        ("postgresql://u:hunt/er2#x@host/db", "postgresql://host/db"),
        ("postgresql://host/db?user=a@b&password=hunter2", "postgresql://..."),
    ],
)
def test_what_is_shown_of_an_address(url: str, place: str):
    assert place_of(url) == place


@pytest.mark.parametrize(("package", "url"), [("redis", "redis://host/0"), ("psycopg", "postgres://host/db")])
def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, package: str, url: str):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"a store at .*:// needs {package}; install it with"):
        open_store(url)
