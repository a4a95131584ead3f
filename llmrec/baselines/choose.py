"""Choosing a baseline's setting on the validation fold, so that none is beaten by a poor default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters, Request
from llmrec.errors import LlmrecError
from llmrec.retrieve.rank import target_ranks
from llmrec.retrieve.scoring import ScoringRecommender

_BLOCK = 256
_MOST_CASES = 5_000
"""Validation users looked at, drawn with a fixed seed where there are more."""

Model = TypeVar("Model", bound=ScoringRecommender)


@dataclass(frozen=True, slots=True)
class Validation:
    """Questions with known answers: `targets` int64 [requests] are catalogue indices."""

    requests: tuple[Request, ...]
    targets: np.ndarray

    @classmethod
    def of(cls, prepared: Prepared, split: str, filter_seen: bool = True, fold: str = "valid") -> Validation:
        """The validation fold of a split (or another fold, for figures after the choice)."""
        cases = prepared.cases(split, fold)
        if len(cases) > _MOST_CASES:
            chosen = np.random.default_rng(0).choice(len(cases), _MOST_CASES, replace=False)
            cases = [cases[position] for position in np.sort(chosen)]
        filters = Filters(exclude_seen=filter_seen)
        return cls(
            tuple(
                Request(prepared.histories.history(case.user, case.cut), filters=filters, user=case.user)
                for case in cases
            ),
            np.array([case.target for case in cases], dtype=np.int64),
        )


def ndcg_of_ranks(ranks: np.ndarray, k: int = 10) -> float:
    """Mean over questions of 1 / log2(1 + rank) where the rank (from 1; 0: not in the list) is at most k."""
    hit = (ranks > 0) & (ranks <= k)
    return float(np.where(hit, 1.0 / np.log2(1.0 + np.maximum(ranks, 1)), 0.0).mean())


def validation_ndcg(model: ScoringRecommender, validation: Validation) -> float:
    """ndcg@10 of a model on the questions."""
    ranks = []
    for start in range(0, len(validation.requests), _BLOCK):
        part: Sequence[Request] = validation.requests[start : start + _BLOCK]
        allowed = np.stack([model.filters.mask(each.filters, each.history) for each in part])
        ranks.append(target_ranks(model.scores(part), allowed, validation.targets[start : start + _BLOCK]))
    return ndcg_of_ranks(np.concatenate(ranks))


def best_of(models: Iterable[Model], validation: Validation) -> tuple[Model, float]:
    """The model with the highest ndcg@10 and that figure; the first of equals."""
    best: Model | None = None
    figure = -1.0
    if not validation.requests:
        raise LlmrecError("the split has no validation events to choose a setting on: choose it yourself")
    for model in models:
        if (value := validation_ndcg(model, validation)) > figure:
            best, figure = model, value
    if best is None:
        raise ValueError("no models to choose from")
    return best, figure
