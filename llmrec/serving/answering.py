"""Questions of many people answered together: one call of the model, then a list for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from llmrec.decode.answers import Asked
from llmrec.decode.contract import Filters
from llmrec.decode.readout import read_apart
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
        for job, asked in sorted(read, key=lambda pair: _slow(pair[0].asked)):
            begun = time.perf_counter()
            try:
                value = self._value(job.asked, asked)
            except LlmrecError as error:
                job.end(error)
            else:
                spent = shared + time.perf_counter() - begun
                job.end(Reply(value, asked, spent, job.asked.person.remembered))

    def _read(
        self, shop: Shop, understood: Sequence[tuple[Job[Question], Asked]]
    ) -> list[tuple[Job[Question], Asked]]:
        """The jobs whose requests the model read; where all together cannot be read, one after the other."""
        try:
            found = read_apart(shop.recommender, [asked.request for _, asked in understood])
        except LlmrecError as error:
            if len(understood) == 1:
                understood[0][0].end(error)
                return []
            return [pair for each in understood for pair in self._read(shop, [each])]
        return [(job, replace(asked, read=own)) for (job, asked), own in zip(understood, found, strict=True)]

    def _value(self, question: Question, asked: Asked) -> Any:
        shop = question.shop
        if question.about == "scores":
            with self._metrics.timing("list"):
                return _scores(shop, asked, question.items)
        if question.about == "reasons":
            with self._metrics.timing("why"):
                return shop.reasons(asked, np.array(question.items, dtype=np.int64))
        with self._metrics.timing("why" if question.why else "list"):
            answers = shop.answered(asked, question.k, question.why)
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


def _scores(shop: Shop, asked: Asked, items: Sequence[int]) -> list[float | None]:
    """The score of each item, None where the limits forbid it."""
    among = np.zeros_like(asked.allowed)
    among[list(items)] = True
    index, scores = shop.recommender.nearest(asked.read, among & asked.allowed, len(set(items)))
    known = dict(zip(index.tolist(), scores.tolist(), strict=True))
    return [known.get(item) for item in items]
