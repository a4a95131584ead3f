"""Files of requests to files of answers: any size, streamed, going on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from llmrec.errors import LlmrecError
from llmrec.files import only_writer
from llmrec.progress import note, track
from llmrec.serving.answering import Answering, Question
from llmrec.serving.asked import filters_of, goals_of, person_given
from llmrec.serving.asking_routes import list_of
from llmrec.serving.batching import Job
from llmrec.serving.live import Bundles, Live
from llmrec.serving.metrics import Metrics
from llmrec.serving.people import Person
from llmrec.serving.problems import document, line_of, status_of
from llmrec.serving.schemas import Ask

_DIGEST = 16


Rows = list[dict[str, Any]]
"""What is said to some lines, in their order: the digest of a request and its list, or a problem."""


def run_batch(
    bundle: Path,
    requests: Path,
    out: Path,
    modes: tuple[str, ...] = (),
    together: int = 32,
    engine: str = "transformers",
) -> int:
    """Answer each line of `requests` (a body of `/v1/recommend`) with one of `out`; how many there are now.

    A line that cannot be answered gives a problem. Lines that `out` has already, from a run that stopped,
    stay as they are. Progress goes to stderr; `engine` as in `open_engine`. Raises `LlmrecError` where that
    cannot run, when `out` has answers to other requests, or another run writes it.
    """

    def rows(source: BinaryIO) -> Iterator[Rows]:
        answerer = Answerer(bundle, modes, engine)
        return (answerer(lines) for lines in iter(lambda: list(islice(source, together)), []))

    return write_answers(requests, out, rows)


def write_answers(
    requests: Path,
    out: Path,
    answer: Callable[[BinaryIO], Iterator[Rows]],
) -> int:
    """`run_batch` with any way to answer: `answer` is given the file at the first line without an answer."""
    try:
        source = requests.open("rb")
    except OSError as error:
        raise LlmrecError(f"{requests} cannot be read: {error.strerror}") from error
    with source, only_writer(out):
        first = done = _done(out, source)
        if done:
            note(f"{out} has {done:,} answers already: going on behind them")
        total = _lines_left(source)
        note("opening the bundle")
        answers = answer(source)
        start = time.monotonic()
        with out.open("ab") as target, track("answers", total) as progress:
            for rows in answers:
                for row in rows:
                    done += 1
                    told = {"line": done, **row}
                    target.write(json.dumps(told, ensure_ascii=False, allow_nan=False).encode() + b"\n")
                target.flush()
                rate = (done - first) / max(time.monotonic() - start, 1e-9)
                progress.advance(len(rows), **{"a second": rate})
            os.fsync(target.fileno())
    return done


class Answerer:
    """An open bundle that answers lines."""

    def __init__(self, bundle: Path, modes: tuple[str, ...] = (), engine: str = "transformers") -> None:
        """Raises `LlmrecError` for a bundle or an engine that cannot be used."""
        metrics = Metrics()
        self._live, self._answering = Bundles(bundle, modes, metrics, engine).current, Answering(metrics)

    def __call__(self, lines: Sequence[bytes]) -> Rows:
        """What is said to some lines; the model reads them together."""
        told = _answers(self._live, self._answering, lines)
        return [{"request": _digest(line), **each} for line, each in zip(lines, told, strict=True)]


def _done(out: Path, source: BinaryIO) -> int:
    """Number of whole lines in `out`, whose requests are read from `source`; half a line is cut off."""
    if not out.exists():
        return 0
    done, size = 0, 0
    with out.open("rb") as answers:
        for answer in answers:
            if not answer.endswith(b"\n"):
                break
            request = source.readline()
            try:
                known = json.loads(answer)["request"]
            except (ValueError, KeyError, TypeError):
                known = None
            if not request or known != _digest(request):
                raise LlmrecError(
                    f"{out} has answers to other requests (line {done + 1}): remove it or name another file"
                )
            done, size = done + 1, size + len(answer)
    os.truncate(out, size)
    return done


def _lines_left(source: BinaryIO) -> int | None:
    """How many lines are behind where `source` stands, and stays; None for a pipe, which is read once."""
    if not source.seekable():
        return None
    here = source.tell()
    count = sum(1 for _ in source)
    source.seek(here)
    return count


def _digest(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\r\n")).hexdigest()[:_DIGEST]


def _answers(live: Live, answering: Answering, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """What is said to each of some lines."""
    asked = [_asked(live, line) for line in lines]
    jobs = [None if isinstance(each, dict) else Job(each[1], float("inf")) for each in asked]
    answering([job for job in jobs if job is not None])
    for each, job in zip(asked, jobs, strict=True):
        if isinstance(each, dict) or job is None:
            yield {"problem": each}
            continue
        try:
            yield list_of(job.outcome.result(), live, each[0])
        except LlmrecError as error:
            yield {"problem": document(status_of(error), line_of(error))}


def _asked(live: Live, line: bytes) -> tuple[Ask, Question] | dict[str, Any]:
    """The question in a line, or the problem that it is."""
    try:
        ask = Ask.model_validate(json.loads(line))
        prepared = live.prepared
        if ask.user is None:
            person = person_given(ask, prepared)
        else:
            person = Person(*prepared.asker(ask.user, None), ask.profile)
        return ask, Question(
            shop=live.shops[live.mode(ask.mode)],
            person=person,
            words=ask.words,
            goals=None if ask.objective is None else goals_of(ask.objective, ask.weights, prepared),
            filters=filters_of(ask.filters, prepared),
            k=ask.k,
            enforce=ask.enforce,
            hear=ask.hear,
            why=ask.why,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        return document(422, f"{where}: {first['msg']}")
    except LlmrecError as error:
        return document(status_of(error), line_of(error))
    except (ValueError, RecursionError):
        return document(400, "the line is no JSON in UTF-8")
