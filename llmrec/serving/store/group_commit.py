"""Writes of many threads in few transactions: one wait for the disk serves all that came meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from llmrec.errors import LlmrecError
from llmrec.serving.store.contract import StoreUnavailable
from llmrec.serving.store.tables import Rows

MOST = 256
"""Writes in one transaction."""
T = TypeVar("T")


class Write:
    """One write on its way: what it does with the tables, and how that ended."""

    def __init__(self, work: Callable[[Rows], Any]) -> None:
        self._work = work
        self._refused: LlmrecError | None = None
        self._failed: str | None = None
        self._result: Any = None
        self.done = False

    def carry_out(self, rows: Rows) -> bool:
        """Do it; False when it refused to, and what it did must be undone."""
        try:
            self._result = self._work(rows)
        except LlmrecError as error:
            self._refused = error
        return self._refused is None

    def end(self, failed: str | None) -> None:
        """Its transaction ended; `failed` says why it was not committed."""
        self._failed, self.done = failed, True

    def outcome(self) -> Any:
        """What it gave, or raise what came of it."""
        if self._failed is not None:
            raise StoreUnavailable(self._failed)
        if self._refused is not None:
            raise self._refused
        return self._result


class GroupCommit:
    """Hands writes to `carrier`, which carries out a few of them in one transaction and commits it.

    While a transaction is under way, those who come wait; the first of them then takes all of them along.
    """

    def __init__(self, carrier: Callable[[Sequence[Write]], None]) -> None:
        self._carrier = carrier
        self._waiting: deque[Write] = deque()
        self._turn = threading.Lock()

    def run(self, work: Callable[[Rows], T]) -> T:
        """Do `work` in a transaction; it is on the disk when this returns.

        Raises what `work` raises, and `StoreUnavailable` when the transaction failed.
        """
        write = Write(work)
        self._waiting.append(write)
        with self._turn:
            while not write.done:
                self._carry_waiting()
        result: T = write.outcome()
        return result

    def _carry_waiting(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        failed: str | None = "the write was given up together with another one: send it again"
        try:
            self._carrier(batch)
            failed = None
        except StoreUnavailable as error:
            failed = str(error)
        finally:
            for write in batch:
                write.end(failed)
