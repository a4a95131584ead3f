"""Questions of many people answered together: one call of the model, then a list for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from llmrec.decode.answers import Asked
from llmrec.decode.contract import Filters
from llmrec.decode.readout import Found, Wanted, nearest_each, read_apart
from llmrec.errors import LlmrecError
from llmrec.recommend import Shop
from llmrec.serving.batching import Job
from llmrec.serving.metrics import Metrics
from llmrec.serving.people import Person
from llmrec.verbalize.objective import Objective


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a shop, as `Shop.ask` takes it; `about` says what to answer with.

    "list": `Answers` of `k` items. "scores": the score of each item of `items`, None where the limits forbid
    it. "reasons": the causes of each item of `items`, a tuple of `Cause` each.
    """

    shop: Shop
    person: Person
    words: str = ""
    goals: Objective | None = None
    filters: Filters = field(default_factory=Filters)
    k: int = 10
    enforce: bool = True
    hear: bool = True
    why: bool = False
    about: str = "list"
    items: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question: `value` as `Question.about` says, how its wish was understood, seconds taken.

    `remembered`: the history is from memory, see `people.Person`.
    """

    value: Any
    asked: Asked
    seconds: float
    remembered: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """A job whose request the model read: the lists that it needs, and these where they are found already."""

    job: Job[Question]
    asked: Asked
    wanted: list[Wanted]
    found: list[Found] | None


class Answering:
    """Answers jobs of a `Batcher`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, jobs: Sequence[Job[Question]]) -> None:
        """End each of the jobs, those of one shop with one call of its model; what is quick comes first."""
        by_shop: dict[int, list[Job[Question]]] = {}
        for job in jobs:
            by_shop.setdefault(id(job.asked.shop), []).append(job)
        for group in by_shop.values():
            self._together(group[0].asked.shop, group)

    def _together(self, shop: Shop, jobs: Sequence[Job[Question]]) -> None:
        start = time.perf_counter()
        understood = []
        for job in jobs:
            try:
                understood.append((job, _understood(job.asked)))
            except LlmrecError as error:
                job.end(error)
        with self._metrics.timing("model"):
            read = self._read(shop, understood)
        shared = time.perf_counter() - start
        for each in sorted(read, key=lambda own: _slow(own.job.asked)):
            begun = time.perf_counter()
            try:
                value = self._value(each)
            except LlmrecError as error:
                each.job.end(error)
            else:
                spent = shared + time.perf_counter() - begun
                each.job.end(Reply(value, each.asked, spent, each.job.asked.person.remembered))

    def _read(self, shop: Shop, understood: Sequence[tuple[Job[Question], Asked]]) -> list[_Read]:
        """The jobs whose requests the model read; where all together cannot be read, one after the other.

        A model that writes what it recommends writes the lists of all here.
        """
        try:
            read = read_apart(shop.recommender, [asked.request for _, asked in understood])
            asked = [replace(each, read=own) for (_, each), own in zip(understood, read, strict=True)]
            jobs = [job for job, _ in understood]
            wanted = [_wanted(job.asked, own) for job, own in zip(jobs, asked, strict=True)]
            found: Sequence[list[Found] | None] = (
                nearest_each(shop.recommender, wanted) if shop.recommender.writes else [None] * len(jobs)
            )
        except LlmrecError as error:
            if len(understood) == 1:
                understood[0][0].end(error)
                return []
            return [own for each in understood for own in self._read(shop, [each])]
        return [_Read(*each) for each in zip(jobs, asked, wanted, found, strict=True)]

    def _value(self, read: _Read) -> Any:
        question, asked, shop = read.job.asked, read.asked, read.job.asked.shop
        if question.about == "reasons":
            with self._metrics.timing("why"):
                return shop.reasons(asked, np.array(question.items, dtype=np.int64))
        with self._metrics.timing("why" if question.why else "list"):
            found = shop.recommender.nearest(read.wanted) if read.found is None else read.found
            if question.about == "scores":
                return _scores(question.items, *found[0])
            answers = shop.answered(asked, question.k, found, question.why)
        places = shop.catalog.indices([answer.item for answer in answers.items])
        self._metrics.invalid.inc(int((~asked.allowed[places]).sum()))
        if asked.notes:
            self._metrics.fallbacks.labels("words").inc()
        return answers


def _understood(question: Question) -> Asked:
    person = question.person
    return question.shop.understood(
        question.words,
        person.history,
        person.position,
        question.filters,
        question.enforce,
        question.hear,
        question.goals,
        person.profile,
    )


def _slow(question: Question) -> bool:
    return question.why or question.about == "reasons"


def _wanted(question: Question, asked: Asked) -> list[Wanted]:
    """The lists that an answer is made of."""
    if question.about == "reasons":
        return []
    if question.about == "list":
        return question.shop.wanted(asked, question.k)
    among = np.zeros_like(asked.allowed)
    among[list(question.items)] = True
    return [Wanted(asked.read, among & asked.allowed, len(set(question.items)))]


def _scores(items: Sequence[int], index: np.ndarray, scores: np.ndarray) -> list[float | None]:
    """The score of each of `items`, None where it is not in `index`: the limits forbid it."""
    known = dict(zip(index.tolist(), scores.tolist(), strict=True))
    return [known.get(item) for item in items]
