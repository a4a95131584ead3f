"""Requests of many clients in few calls of the model: one thread takes what waits and answers it together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llmrec.errors import LlmrecError
from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import Refused

_LOG = logging.getLogger("llmrec.serving")
T = TypeVar("T")


@dataclass(slots=True)
class Job(Generic[T]):
    """One piece of work: what is asked, when it came, and by when (monotonic seconds) it is still wanted."""

    asked: T
    deadline: float
    came: float = field(default_factory=time.monotonic)
    outcome: Future[Any] = field(default_factory=Future)

    @property
    def wanted(self) -> bool:
        """Whether anyone still waits for it."""
        return not self.outcome.done() and time.monotonic() < self.deadline

    def end(self, result: Any) -> None:
        """Give the result, or an exception."""
        if self.outcome.set_running_or_notify_cancel():
            if isinstance(result, BaseException):
                self.outcome.set_exception(result)
            else:
                self.outcome.set_result(result)


class Batcher(Generic[T]):
    """Hands what waits, up to `together` jobs at once, to `answer`, which must `end` each of them.

    `answer` runs in one thread of the batcher's own, so the model is used by one thread only.
    """

    def __init__(
        self, answer: Callable[[Sequence[Job[T]]], None], together: int, waiting: int, metrics: Metrics
    ) -> None:
        self._answer, self._together, self._most, self._metrics = answer, together, waiting, metrics
        self._jobs: deque[Job[T]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="llmrec-model", daemon=True)
        self._thread.start()

    def put(self, asked: T, deadline: float) -> Job[T]:
        """Queue a job; raises `Refused` (503) when too many wait."""
        job = Job(asked, deadline)
        with self._changed:
            if self._closed:
                raise Refused(503, "the service is stopping", 1)
            if len(self._jobs) >= self._most:
                self._metrics.refused.labels("busy").inc()
                raise Refused(503, f"too busy: {self._most:,} requests wait already, come back later", 1)
            self._jobs.append(job)
            self._metrics.waiting.set(len(self._jobs))
            self._changed.notify()
        return job

    def close(self) -> None:
        """Answer what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _take(self) -> list[Job[T]]:
        """The next jobs; none when it is over."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            jobs = [self._jobs.popleft() for _ in range(min(self._together, len(self._jobs)))]
            self._metrics.waiting.set(len(self._jobs))
        return jobs

    def _work(self) -> None:
        while jobs := self._take():
            now = time.monotonic()
            for job in jobs:
                self._metrics.stages.labels("queue").observe(now - job.came)
            wanted = [job for job in jobs if job.wanted]
            if not wanted:
                continue
            self._metrics.together.observe(len(wanted))
            try:
                self._answer(wanted)
            except Exception as error:
                if not isinstance(error, LlmrecError):
                    _LOG.error("answering failed: %s", type(error).__name__)
                for job in wanted:
                    if not job.outcome.done():
                        job.end(error)
