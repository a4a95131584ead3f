"""Questions that a service answers together: the lists of each alone, in few passes through the model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import OTHER, USER

from llmrec.codes.recommender import CodeRecommender
from llmrec.codes.seen import PLACES, SeenGains
from llmrec.data.events import Event
from llmrec.decode.continuations import Continuations, TokenEngine
from llmrec.decode.contract import Filters
from llmrec.errors import LlmrecError
from llmrec.recommend import NOTHING_SEEN, Shop
from llmrec.serving.answering import Answering, Question, Reply
from llmrec.serving.batching import Job
from llmrec.serving.metrics import Metrics
from llmrec.serving.people import Person
from llmrec.verbalize.objective import Objective


class Counted:
    """An engine that remembers how many prompts each of its sessions began with."""

    def __init__(self, engine: TokenEngine) -> None:
        self.engine, self.sessions = engine, []

    def begin(self, prompts: Sequence[Sequence[int]]) -> Continuations:
        self.sessions.append(len(prompts))
        return self.engine.begin(prompts)


@pytest.fixture(scope="module", params=["codes", "text"])
def shop(request: pytest.FixtureRequest, code_bundle: Path) -> Shop:
    """Of a model that writes; of codes, items of the history gain so much that it counts."""
    own = Shop.open(code_bundle, request.param)
    own.recommender._search.engine = Counted(own.recommender._search.engine)
    if request.param == "codes":
        own.recommender._seen = SeenGains(np.linspace(2, -2, PLACES))
    return own


@pytest.fixture
def sessions(shop: Shop) -> list[int]:
    """How many prompts began together, each time."""
    found = shop.recommender._search.engine.sessions
    found.clear()
    return found


def person(shop: Shop, name: str, newest: int = 1_000) -> Person:
    at = shop.prepared.histories.index(name)
    return Person(shop.prepared.histories.history(at)[-newest:], at)


def answered(questions: Sequence[Question], metrics: Metrics | None = None) -> list[Reply]:
    """What is said to questions that are asked together."""
    jobs = [Job(each, math.inf) for each in questions]
    Answering(metrics or Metrics())(jobs)
    return [job.outcome.result() for job in jobs]


def mixed(shop: Shop) -> list[Question]:
    """Questions with masks, lengths, gains, histories and wishes of their own."""
    one, other = person(shop, USER), person(shop, OTHER)
    seen, items = Filters(), tuple(range(0, 60, 7))
    return [
        Question(shop, one),
        Question(shop, one, filters=NOTHING_SEEN, k=1),
        Question(shop, other, "bags under 3 pounds, not pink", k=3),
        Question(shop, other, "preferably something for tea", filters=NOTHING_SEEN, k=4),
        Question(shop, person(shop, OTHER, 2), "a varied list", k=5),
        Question(shop, Person(()), "a red bag", why=True, k=2),
        Question(shop, one, "what I had before", filters=Filters(seen_before=True), k=30),
        Question(shop, one, filters=Filters(max_price=2.0), k=1_000),
        Question(shop, other, goals=Objective(long_tail=True, weights=(("long_tail", 0.5),))),
        Question(shop, one, filters=Filters(max_price=3.0), about="scores", items=items),
        Question(shop, one, "bags", about="reasons", items=items[:3]),
        Question(shop, Person((Event(3), Event(5))), "bags", hear=False, filters=seen, k=50),
    ]


def said(reply: Reply) -> tuple[Any, list[float]]:
    """All of a reply but its floats, and these."""
    value, floats = reply.value, []
    if isinstance(value, list):
        rows = [row if isinstance(row, tuple) else (row,) for row in value]
        floats = [getattr(each, "weight", each) for row in rows for each in row]
        names = [[getattr(each, "item", each is None) for each in row] for row in rows]
        return names, [each for each in floats if each is not None]
    for each in value.items:
        floats += [each.score, *(cause.weight for cause in each.because)]
    names = [(each.item, [cause.item for cause in each.because]) for each in value.items]
    return (names, dataclasses.replace(value, items=())), floats


def test_together_is_as_each_alone(shop: Shop):
    questions = mixed(shop)
    for question, reply in zip(questions, answered(questions), strict=True):
        (alone,) = answered([question])
        (names, floats), (own_names, own_floats) = said(reply), said(alone)
        assert names == own_names and floats == pytest.approx(own_floats, abs=1e-4)


def test_beams_alike_in_width_are_one_search(shop: Shop, sessions: list[int]):
    questions = [Question(shop, person(shop, name), k=k) for name in (USER, OTHER) for k in range(1, 9)]
    metrics = Metrics()
    answered(questions, metrics)
    assert sessions == [16]
    shares = {
        stage: metrics.registry.get_sample_value("llmrec_stage_seconds_sum", {"stage": stage})
        for stage in ("model", "list")
    }
    assert shares["model"] > shares["list"]  # which has nothing left but to name the items
    sessions.clear()
    answered([*questions, Question(shop, person(shop, USER), k=60)])  # its beam is three times as wide
    assert sessions == [16, 1]


def test_the_wishes_of_one_person_are_one_search(shop: Shop, sessions: list[int]):
    shop.ask_many(user=USER, wishes=["a bag", "something under 2 pounds", ""])
    assert sessions == [3]


def test_one_that_cannot_be_read_leaves_the_others_theirs(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    writer = shop.recommender
    tokens = writer._tokens if isinstance(writer, CodeRecommender) else writer._asking.tokens
    monkeypatch.setattr(tokens.tokenizer, "model_max_length", 600)
    fine = Question(shop, person(shop, USER, 2), k=3)
    (alone,) = answered([fine])
    jobs = [Job(each, math.inf) for each in (fine, dataclasses.replace(fine, words="\U0001f381" * 240), fine)]
    Answering(Metrics())(jobs)
    with pytest.raises(LlmrecError, match="shorten the wish") as raised:
        jobs[1].outcome.result()
    assert "\n" not in str(raised.value)
    for job in (jobs[0], jobs[2]):
        assert said(job.outcome.result())[0] == said(alone)[0]
