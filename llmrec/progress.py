"""Progress of long steps on stderr: a live bar on a terminal, a plain line now and then in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

_EVERY_SECONDS = 10.0
_PAUSE_SECONDS = 1.0  # between two plain lines, so that a quick loop writes one line and not ten


class Progress(Protocol):
    """What a long step reports to."""

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Count `steps` done and show the newest `figures`, such as `loss=2.31`."""


def _duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _words(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


class PlainProgress:
    """Lines for logs: one every 10 seconds or every tenth of the way, whichever comes first."""

    def __init__(
        self,
        stage: str,
        total: int | None,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage, self._total, self._stream, self._clock = stage, total, stream, clock
        self._start = self._last = clock()
        self._done = self._tenth = 0
        self._figures: dict[str, float] = {}

    def advance(self, steps: int = 1, **figures: float) -> None:
        """Count `steps` done and write a line when one is due."""
        self._done += steps
        self._figures.update(figures)
        pause = self._clock() - self._last
        tenth = 10 * self._done // self._total if self._total else 0
        if pause >= _EVERY_SECONDS or (tenth > self._tenth and pause >= _PAUSE_SECONDS):
            self._tenth = tenth
            self._last = self._clock()
            self._write(self._time_left())

    def finish(self) -> None:
        """Write the last line, with the time that all took."""
        self._write(f"took {_duration(self._clock() - self._start)}")

    def _time_left(self) -> str:
        elapsed = self._clock() - self._start
        if not self._total or not self._done:
            return f"{_duration(elapsed)} so far"
        return f"{_duration(elapsed / self._done * max(self._total - self._done, 0))} left"

    def _write(self, when: str) -> None:
        count = f": {self._done}" if self._done or self._total else ""  # some steps cannot be counted
        if self._total:
            count += f"/{self._total}"
        parts = [f"{self._stage}{count}", _words(self._figures), when]
        self._stream.write(", ".join(part for part in parts if part) + "\n")
        self._stream.flush()


@contextlib.contextmanager
def _live(stage: str, total: int | None) -> Iterator[Progress]:
    """A rich bar: stage, bar, steps, newest figures, time spent and left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task(stage, total=total, figures="")
    newest: dict[str, float] = {}

    class _Live:
        def advance(self, steps: int = 1, **figures: float) -> None:
            newest.update(figures)
            bar.update(task, advance=steps, figures=_words(newest))

    with bar:
        yield _Live()


class _Silent:
    def advance(self, steps: int = 1, **figures: float) -> None:
        pass


@contextlib.contextmanager
def track(stage: str, total: int | None = None, show: bool = True) -> Iterator[Progress]:
    """Report the progress of `total` steps of `stage` (any number of them when None) on stderr.

        with track("fine-tune", total=steps) as progress:
            progress.advance(loss=2.31)

    `show=False` is for the processes of a distributed run that are not the first.
    """
    if not show:
        yield _Silent()
    elif sys.stderr.isatty():
        with _live(stage, total) as live:
            yield live
    else:
        plain = PlainProgress(stage, total, sys.stderr)
        yield plain
        plain.finish()


def note(text: str) -> None:
    """Write one line about what is going on to stderr, where it does not mix with results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
