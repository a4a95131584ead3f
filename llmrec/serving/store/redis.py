"""The store in Redis, for services on several machines; its server must write every command to the disk.

Keys, for a user whose id is Q when percent-encoded (so that no id can reach another key):

    llmrec:user:Q:events   sorted set: position in time -> number of 16 digits, then the event's document
    llmrec:user:Q:about    hash: `count` of events, `profile`
    llmrec:user:Q:keys     hash: key -> digest of what came with it
    llmrec:erased          set of digests of deleted users
    llmrec:changes         list of documents; llmrec:change-keys hash: key -> digest, then the last number
    llmrec:schema          the schema's version
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

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
    change_of,
    check_range,
    check_reading,
    erased_digest,
    event_batch,
    event_of,
    id_bytes,
    profile_document,
    profile_of,
)
from llmrec.serving.store.tables import check_repeated, check_schema

CONNECTIONS = 16
"""Connections of one process."""
PATIENCE = 2.0
"""Seconds for one answer, to connect, or for a free connection."""
_SHOWN = 200
_NUMBER = 16
"""Digits before an event's document: they order events of one time."""

# Scripts run alone and whole. What differs between calls comes as KEYS and ARGV, never as code.
# KEYS events, about, keys; ARGV key or "", digest, then time or "" and document of each event. The number
# is `contract.BEFORE_ALL`.
APPEND = """
if ARGV[1] ~= '' then
    local known = redis.call('HGET', KEYS[3], ARGV[1])
    if known then return {known, tonumber(redis.call('HGET', KEYS[2], 'count') or 0)} end
end
local newest = redis.call('ZRANGE', KEYS[1], 0, 0, 'REV', 'WITHSCORES')
local last = tonumber(newest[2])
local count = redis.call('HINCRBY', KEYS[2], 'count', (#ARGV - 2) / 2) - (#ARGV - 2) / 2
for i = 3, #ARGV, 2 do
    local position = tonumber(ARGV[i]) or last or -9007199254740991
    if last == nil or position > last then last = position end
    redis.call('ZADD', KEYS[1], string.format('%.0f', position), string.format('%016d', count) .. ARGV[i + 1])
    count = count + 1
end
if ARGV[1] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[2]) end
return {'', count}
"""
# A script and no transaction: when its memory is full, Redis refuses all of those.
# KEYS events, about, keys, erased; ARGV digest of the id, the last place to read, or -1 for no events.
READ = """
local about = redis.call('HMGET', KEYS[2], 'count', 'profile')
local erased = redis.call('SISMEMBER', KEYS[4], ARGV[1])
local events = {}
if ARGV[2] ~= '-1' then events = redis.call('ZRANGE', KEYS[1], 0, ARGV[2], 'REV') end
return {about[1], about[2], erased, events}
"""
# KEYS events, about, keys, erased; ARGV digest of the id.
DELETE = """
local found = redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
redis.call('SADD', KEYS[4], ARGV[1])
return found
"""
# KEYS changes, keys; ARGV key or "", digest, then the documents.
CHANGE = """
if ARGV[1] ~= '' then
    local known = redis.call('HGET', KEYS[2], ARGV[1])
    if known then return {string.sub(known, 1, 32), tonumber(string.sub(known, 33))} end
end
local last = 0
for i = 3, #ARGV do last = redis.call('RPUSH', KEYS[1], ARGV[i]) end
if ARGV[1] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. string.format('%d', last)) end
return {'', last}
"""
_SAFE = {"appendonly": ("yes",), "appendfsync": ("always",), "maxmemory-policy": ("noeviction",)}
_REASONS = (
    (redis.exceptions.TimeoutError, "", f"did not answer in {PATIENCE:.0f} s: see to the server"),
    (redis.exceptions.OutOfMemoryError, "", "is full: raise maxmemory of the server"),
    (redis.exceptions.ReadOnlyError, "", "is read-only: point the service to the server that takes writes"),
    (redis.exceptions.NoPermissionError, "", "denies this: give its user the rights to the keys llmrec:*"),
    (redis.exceptions.AuthenticationError, "", "refuses its user or password"),
    (redis.exceptions.ConnectionError, "No connection available", "is too busy: no connection was free"),
    (redis.exceptions.BusyLoadingError, "", "is starting"),
    (redis.exceptions.ConnectionError, "", "cannot be reached: is the server running?"),
    (RedisError, "NOREPLICAS", "takes no writes now: its replicas are missing"),
    (RedisError, "MISCONF", "takes no writes now: the server cannot write to its disk"),
)


class RedisStore:
    """`Store` in the Redis database at `url`."""

    def __init__(self, url: str, place: str, durable: bool = True) -> None:
        """`durable` False takes a server that does not write every command to the disk before it answers.

        Raises `StoreError` for such a server otherwise and for keys of a newer llmrec; `StoreUnavailable`.
        """
        self.place = place
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=PATIENCE,
                socket_timeout=PATIENCE,
                socket_connect_timeout=PATIENCE,
                retry=Retry(NoBackoff(), 0),  # only the caller knows whether a write may be sent again
            )
        except ValueError as error:
            raise StoreError(f"the address of the store {place} cannot be read: {error}") from None
        self._redis = redis.Redis.from_pool(pool)
        self._read = self._redis.register_script(READ)
        self._append = self._redis.register_script(APPEND)
        self._delete = self._redis.register_script(DELETE)
        self._change = self._redis.register_script(CHANGE)
        self._closed = False
        try:
            with self._explained():
                if durable:
                    self._check_server()
                self._redis.set("llmrec:schema", SCHEMA, nx=True)
                check_schema(place, int(self._redis.get("llmrec:schema") or SCHEMA))
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """See `Store.check`."""
        with self._explained():
            self._redis.ping()

    def read(self, user: str, newest: int) -> StoredUser:
        """See `Store.read`."""
        check_reading(newest)
        keys = (*_keys(user), "llmrec:erased")
        with self._explained():
            count, profile, erased, found = self._read(keys=keys, args=[_digest(user), newest - 1])
        return StoredUser(
            profile_of(profile),
            tuple(event_of(member[_NUMBER:]) for member in reversed(found)),
            int(count or 0),
            bool(erased),
        )

    def append(
        self, user: str, events: Sequence[StoredEvent], key: str | None = None, now: int | None = None
    ) -> Appended:
        """See `Store.append`."""
        batch = event_batch(events, key, now)
        told: list[Any] = [batch.key or b"", batch.digest]
        for time, document in zip(batch.times, batch.documents, strict=True):
            told += ["" if time is None else time, document]
        with self._explained():
            digest, count = self._append(keys=_keys(user), args=told)
        if digest:
            check_repeated(digest, batch)
        return Appended(count, bool(digest))

    def put_profile(self, user: str, profile: Mapping[str, str | float]) -> None:
        """See `Store.put_profile`."""
        document = profile_document(profile)
        with self._explained():
            self._redis.hset(_keys(user)[1], "profile", document)

    def delete_user(self, user: str) -> bool:
        """See `Store.delete_user`; the server forgets what was deleted when it rewrites its log."""
        keys = (*_keys(user), "llmrec:erased")
        with self._explained():
            return bool(self._delete(keys=keys, args=[_digest(user)]))

    def change_items(self, changes: Sequence[ItemChange], key: str | None = None) -> int:
        """See `Store.change_items`."""
        batch = change_batch(changes, key)
        with self._explained():
            digest, last = self._change(
                keys=["llmrec:changes", "llmrec:change-keys"],
                args=[batch.key or b"", batch.digest, *batch.documents],
            )
        if digest:
            check_repeated(digest, batch)
        return int(last)

    def changes(self, after: int = 0, most: int = MOST_EVENTS) -> tuple[LoggedChange, ...]:
        """See `Store.changes`."""
        check_range(after, most)
        with self._explained():
            found = self._redis.lrange("llmrec:changes", after, after + most - 1) if most else []
        return tuple(LoggedChange(number, change_of(each)) for number, each in enumerate(found, after + 1))

    def close(self) -> None:
        """See `Store.close`."""
        self._closed = True  # the pool would connect again
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def _check_server(self) -> None:
        """Raise `StoreError` unless the server is known to keep what it acknowledged."""
        hint = "or add durable=no to the address to live with that"
        try:
            found = {name: self._redis.config_get(name).get(name) for name in _SAFE}
        except ResponseError:
            raise StoreError(
                f"the store {self.place} does not tell whether it keeps acknowledged writes "
                f"(CONFIG GET is not allowed): allow it, {hint}"
            ) from None
        wrong = [f"{name} {allowed[0]}" for name, allowed in _SAFE.items() if found[name] not in allowed]
        if wrong:
            raise StoreError(
                f"the store {self.place} may lose acknowledged writes: set {', '.join(wrong)} "
                f"in the server's configuration, {hint}"
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """The errors of Redis and of the network as `StoreUnavailable`."""
        if self._closed:
            raise StoreUnavailable(f"the store {self.place} was closed")
        try:
            yield
        except RedisError as error:
            said = str(error).partition("\n")[0][:_SHOWN]
            reason = next(
                (
                    reason
                    for kind, start, reason in _REASONS
                    if isinstance(error, kind) and said.startswith(start)
                ),
                f"failed ({said})",
            )
            raise StoreUnavailable(f"the store {self.place} {reason}") from error


def _digest(user: str) -> str:
    return erased_digest(user.encode()).hex()


def _keys(user: str) -> tuple[str, str, str]:
    """The keys of a user: events, about, keys."""
    name = quote(id_bytes(user, "user"), safe="")
    return f"llmrec:user:{name}:events", f"llmrec:user:{name}:about", f"llmrec:user:{name}:keys"
