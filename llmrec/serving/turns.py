"""Work that takes seconds (changes of the catalogue, loads of bundles) apart from what answers questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import Refused

T = TypeVar("T")
WAITING = 8
"""Work that waits for its turn at most; more is refused."""


class Turns:
    """Does one piece of work after the other in a thread of its own; who waits holds no thread.

    Whoever comes when `WAITING` wait already, or whose turn has not come after `seconds`, is refused and
    nothing of theirs was done. What has begun is done to its end.
    """

    def __init__(self, seconds: float, metrics: Metrics) -> None:
        self._seconds, self._metrics = seconds, metrics
        self._thread = ThreadPoolExecutor(1, "llmrec-turns")
        self._count = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives; raises what it raises, and `Refused`. Called in one event loop."""
        if self._count > WAITING:
            raise self._refused("busy", f"{WAITING} changes and loads wait already")
        self._count += 1
        try:
            job = self._thread.submit(work)
            outcome = asyncio.wrap_future(job)
            await asyncio.wait([outcome], timeout=self._seconds)
            if job.cancel():
                raise self._refused("deadline", f"those before this one took longer than {self._seconds:g} s")
            return await outcome
        finally:
            self._count -= 1

    def close(self) -> None:
        """Drop what waits, and end what has begun."""
        self._thread.shutdown(cancel_futures=True)

    def _refused(self, why: str, said: str) -> Refused:
        self._metrics.refused.labels(why).inc()
        return Refused(503, f"{said}: nothing was changed, come back later", max(1.0, self._seconds))
