"""Asking a recommender the questions of a fold, and one row of figures from its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.data.prepared import Case, Prepared
from llmrec.decode.contract import Filters, Recommender, Request
from llmrec.errors import LlmrecError
from llmrec.evaluate import metrics
from llmrec.evaluate.bootstrap import compare, intervals

DEPTH = 100
"""Length of the lists, where nothing else is said; mrr is cut here."""
CUTS = (5, 10, 20)
NEXT_ITEM = "next-item"
"""Objective of a question without a wish."""
_ASKED = 512
"""Requests given to the recommender at a time."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A row of the report, and the figures of each user (float64 [users]) in the order of the cases."""

    row: dict[str, Any]
    per_user: Mapping[str, np.ndarray]


def ask(
    recommender: Recommender,
    requests: Sequence[Request],
    k: int = DEPTH,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Lists of the recommender as int64 [requests, k], -1 where a list is shorter."""
    lists = np.full((len(requests), k), -1, dtype=np.int64)
    for start in range(0, len(requests), _ASKED):
        part = requests[start : start + _ASKED]
        for row, answer in enumerate(recommender.recommend(part, k), start):
            lists[row, : len(answer)] = [each.index for each in answer]
        if progress:
            progress(min(start + _ASKED, len(requests)), len(requests))
    return lists


def questions(prepared: Prepared, split: str, fold: str) -> list[Case]:
    """The cases of a fold whose target may be recommended; raises `LlmrecError` when there are none."""
    retired = prepared.catalog.retired
    cases = [case for case in prepared.cases(split, fold) if not retired[case.target]]
    if not cases:
        raise LlmrecError(f"the split {split!r} of {prepared.name} has no {fold} events: choose another")
    return cases


def figures(lists: np.ndarray, targets: np.ndarray, bits: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """recall, ndcg at 5, 10, 20, mrr, and novelty given the items' `bits`: float64 [users] each."""
    found, counts = metrics.hits(lists, targets)
    values = {f"recall@{k}": metrics.recall(found, counts, k) for k in CUTS}
    values |= {f"ndcg@{k}": metrics.ndcg(found, counts, k) for k in CUTS}
    values["mrr"] = metrics.reciprocal_rank(found)
    if bits is not None:
        values["novelty"] = metrics.novelty(lists, bits)
    return values


def train_bits(prepared: Prepared, split: str) -> np.ndarray:
    """Self-information of each item among the users of the train fold, float64 [items]."""
    train = prepared.train(split)
    users = np.repeat(np.arange(len(train)), np.diff(train.offsets))
    pairs = np.unique(users * len(prepared.catalog) + train.items)
    buyers = np.bincount(pairs % len(prepared.catalog), minlength=len(prepared.catalog))
    return metrics.self_information(buyers, len(np.unique(users)))


def evaluate(
    recommender: Recommender,
    prepared: Prepared,
    split: str = "leave-last-out",
    fold: str = "test",
    filter_seen: bool = True,
    seed: int = 0,
    extra: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    k: int = DEPTH,
) -> Evaluation:
    """One question a user: the history before the target, the whole catalogue as candidates.

    With `filter_seen`, items of that history are left out of the lists; a target that the user had
    before (`targets_seen` counts them) is then a miss. `seed` is the seed that the model was fitted with,
    for the record; `extra` columns join the row. `seconds` is the time to answer all questions. `k` is the
    length of the lists, where mrr is cut.

    Raises `LlmrecError` when the fold is empty.
    """
    cases = questions(prepared, split, fold)
    filters = Filters(exclude_seen=filter_seen)
    histories = [prepared.histories.history(case.user, case.cut) for case in cases]
    requests = [
        Request(history, filters=filters, user=case.user)
        for history, case in zip(histories, cases, strict=True)
    ]
    start = time.perf_counter()
    lists = ask(recommender, requests, k, progress)
    seconds = time.perf_counter() - start
    targets = np.array([case.target for case in cases], dtype=np.int64)
    values = figures(lists, targets, train_bits(prepared, split))
    items = len(prepared.catalog)
    seen = sum(
        any(event.item == case.target for event in history)
        for history, case in zip(histories, cases, strict=True)
    )
    row: dict[str, Any] = {
        "model": recommender.name,
        "dataset": prepared.name,
        "split": split,
        "fold": fold,
        "objective": NEXT_ITEM,
        "filter_seen": filter_seen,
        "depth": k,
    }
    row |= {name: float(column.mean()) for name, column in values.items()}
    row |= {
        "coverage": metrics.coverage(lists, items),
        "gini": metrics.gini(lists, items),
        "users": len(cases),
        "targets_seen": seen,
        "seconds": seconds,
        "seed": seed,
        "intervals": bounds(values),
    }
    return Evaluation(row | dict(extra or {}), values)


def bounds(values: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """95% bootstrap interval [low, high] of the mean of each column."""
    found = intervals(np.stack(list(values.values()), axis=1))
    return {name: [each.low, each.high] for name, each in zip(values, found, strict=True)}


def comparison(first: Evaluation, second: Evaluation, metric: str = "recall@10") -> dict[str, Any]:
    """Paired bootstrap of two evaluations of the same cases, as an entry of the report's `comparisons`.

    Raises `ValueError` when dataset, split, fold, objective, seen filter or enforcement differ.
    """
    same = ["dataset", "split", "fold", "objective", "filter_seen"]
    if first.row.get("enforced") is not None:
        same.append("enforced")
    if any(first.row[name] != second.row.get(name) for name in same):
        raise ValueError("two evaluations of different questions cannot be compared")
    found = compare(first.per_user[metric], second.per_user[metric])
    return {name: first.row[name] for name in same} | {
        "first": first.row["model"],
        "second": second.row["model"],
        "metric": metric,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
    }
