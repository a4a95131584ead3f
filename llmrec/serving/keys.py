"""API keys: made at random, kept as hashes in a file, with scopes, an expiry and a rate."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from llmrec.config import build
from llmrec.errors import LlmrecError
from llmrec.files import only_writer, read_json, write_json
from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import Refused

_LOG = logging.getLogger("llmrec.serving")

SCOPES = ("ask", "write", "admin")
"""What a key may do: ask for lists; tell and see what users did; change items and bundles."""
RATE = 50.0
"""Requests a second of a key that has no rate of its own."""
BURST = 2.0
"""Seconds of requests that may come at once."""
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its id, the SHA-256 of its secret (which nobody has but its owner), and what it may do.

    `expires` is a moment in UTC (ISO 8601), "" for never; `rate` requests a second.
    """

    id: str
    digest: str
    scopes: tuple[str, ...]
    note: str = ""
    expires: str = ""
    rate: float = RATE

    def expired(self, now: float) -> bool:
        """Whether it is past its time at `now`, seconds since 1970 UTC."""
        return bool(self.expires) and now >= datetime.datetime.fromisoformat(self.expires).timestamp()


def read_keys(path: Path) -> list[Key]:
    """The keys of a file, none when there is no file; raises `LlmrecError` for a file of something else."""
    if not path.exists():
        return []
    found = read_json(path, "keys")
    if not isinstance(found, dict) or found.get("format") != _FORMAT or "keys" not in found:
        raise LlmrecError(f"{path} is no file of keys of this llmrec: make one with `llmrec keys add`")
    return [build(Key, each, str(path)) for each in found["keys"]]


def add_key(
    path: Path, scopes: Sequence[str], note: str = "", days: float | None = None, rate: float = RATE
) -> str:
    """Make a key and write its hash to the file; the key itself is given here once and never again."""
    if not scopes or set(scopes) - set(SCOPES):
        raise LlmrecError(f"the scopes are {', '.join(scopes) or 'none'}, choose of: {', '.join(SCOPES)}")
    if days is not None and not 0 < days < 36_500:
        raise LlmrecError(f"the key is to live {days:g} days, it must be above 0 and below 36,500")
    if not 0 < rate < 1e6:
        raise LlmrecError(f"the rate is {rate:g} requests a second, it must be above 0")
    expires = ""
    if days is not None:
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        expires = moment.isoformat(timespec="seconds")
    name, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    with only_writer(path, wait=True):
        key = Key(name, _digest(secret), tuple(scopes), note, expires, rate)
        _write(path, [*read_keys(path), key])
    return f"llmrec_{name}_{secret}"


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file; a running service refuses it at once."""
    with only_writer(path, wait=True):
        keys = read_keys(path)
        if name not in [key.id for key in keys]:
            raise LlmrecError(f"{path} has no key {name!r}, `llmrec keys list` shows what it has")
        _write(path, [key for key in keys if key.id != name])


def _write(path: Path, keys: Sequence[Key]) -> None:
    write_json(path, {"format": _FORMAT, "keys": [asdict(key) for key in keys]})
    path.chmod(0o600)


def _digest(secret: str) -> str:
    # A secret has 256 random bits: there is nothing to guess that a slow hash would protect.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class KeyRing:
    """The keys of a file, read again when it changes, and how fast each of them asks."""

    def __init__(
        self,
        path: Path,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `LlmrecError` when the file has no key: nobody could ask."""
        self._path, self._metrics, self._now, self._clock = path, metrics, now, clock
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._spent: dict[str, tuple[float, float]] = {}
        self._read()
        if not self._keys:
            raise LlmrecError(f"{path} has no keys: make one with `llmrec keys add {path} --scope ask`")

    def check(self, header: str, scope: str) -> Key:
        """The key of an Authorization header, if it may do `scope`.

        Raises `Refused`: 401 without a key that is good now, 403 without the scope, 429 when it is too fast,
        503 when the file of keys cannot be read.
        """
        kind, _, given = header.partition(" ")
        if kind.lower() != "bearer" or not given:
            raise Refused(401, "give an API key: Authorization: Bearer KEY")
        _, _, rest = given.strip().partition("_")
        name, _, secret = rest.partition("_")
        with self._lock:
            try:
                self._read()
            except Refused:
                raise
            except LlmrecError as error:  # no mistake of who asks, who need not know its name either
                _LOG.error("%s", error)
                raise Refused(503, "the file of API keys cannot be read", 1) from None
            key = self._keys.get(name)
        digest = key.digest if key is not None else _digest("")
        if not hmac.compare_digest(digest, _digest(secret)) or key is None:
            raise Refused(401, "the API key is not known: it was mistyped or revoked")
        if key.expired(self._now()):
            raise Refused(401, f"the API key {key.id} expired at {key.expires}: ask for a new one")
        if scope not in key.scopes:
            raise Refused(403, f"the API key {key.id} may not do this, it needs the scope {scope}")
        self._spend(key)
        return key

    def _spend(self, key: Key) -> None:
        """Take one request out of the key's bucket, which fills at its rate."""
        with self._lock:
            now, most = self._clock(), max(1.0, BURST * key.rate)
            left, at = self._spent.get(key.id, (most, now))
            left = min(most, left + (now - at) * key.rate)
            self._spent[key.id] = (left - (left >= 1), now)
        if left < 1:
            wait = (1 - left) / key.rate
            self._metrics.refused.labels("rate").inc()
            raise Refused(429, f"the API key {key.id} may ask {key.rate:g} times a second: slow down", wait)

    def _read(self) -> None:
        try:
            found = os.stat(self._path)
        except OSError:
            raise Refused(503, "the file of API keys cannot be read", 1) from None
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._keys = {key.id: key for key in read_keys(self._path)}
            self._stamp = stamp
