"""A few connections that many threads share, each used by one thread at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from llmrec.errors import LlmrecError
from llmrec.serving.store.contract import StoreUnavailable


class Closable(Protocol):
    """What a connection must be able to do."""

    def close(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)


class Connections(Generic[C]):
    """Lends connections, makes them when there is none idle, and closes those that failed.

    It makes connections when they are asked for and never waits before it tries again, so a store that is
    back is used at once; pools of libraries try less and less often.
    """

    def __init__(
        self, connect: Callable[[], C], place: str, most: int, wait: float, alive: Callable[[C], bool]
    ) -> None:
        """At most `most` at once; who has waited `wait` seconds for one is refused."""
        self._connect, self._place, self._wait, self._alive = connect, place, wait, alive
        self._free = threading.Semaphore(most)
        self._idle: list[tuple[int, C]] = []
        self._lock = threading.Lock()
        self._age = 0
        self._closed = False

    @contextlib.contextmanager
    def lend(self) -> Iterator[C]:
        """A connection; any error but an `LlmrecError` closes it, and with it all that are idle."""
        if not self._free.acquire(timeout=self._wait):
            raise StoreUnavailable(
                f"the store {self._place} is too busy: no connection was free for {self._wait:.0f} s"
            )
        try:
            age, connection = self._take()
            try:
                yield connection
            except LlmrecError:
                self._put_back(age, connection)
                raise
            except BaseException:
                with contextlib.suppress(Exception):
                    connection.close()
                self.drop_idle()
                raise
            self._put_back(age, connection)
        finally:
            self._free.release()

    def drop_idle(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._age += 1
        for _, connection in idle:
            with contextlib.suppress(Exception):
                connection.close()

    def close(self) -> None:
        """Close all."""
        self._closed = True
        self.drop_idle()

    def _take(self) -> tuple[int, C]:
        if self._closed:
            raise StoreUnavailable(f"the store {self._place} was closed")
        while True:
            with self._lock:
                age, found = self._age, self._idle.pop() if self._idle else None
            if found is None:
                return age, self._connect()
            if self._alive(found[1]):
                return found
            found[1].close()

    def _put_back(self, age: int, connection: C) -> None:
        with self._lock:
            if age == self._age and not self._closed:
                self._idle.append((age, connection))
                return
        connection.close()
