"""What weighed most for a recommendation, measured by leaving it out and asking again.

The weight of a cause for an item is the fall of the item's log-probability, over the items that the limits
allow, when the cause is taken out of the prompt: an item of the history with all its events, or the wish.
It is a statement about the model and nothing else: causes that say the same cover for each other, and the
weights of all causes need not add up to anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.decode.contract import Recommender, Request

MOST_ITEMS = 16
"""Items of the history that are tried, the newest; each costs one more prompt."""
SHOWN = 2
"""Causes that are kept for each recommendation."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause: the title of a past item, or "your words" with `item` None; `weight` in nats, above 0."""

    title: str
    item: str | None
    weight: float


def causes(
    recommender: Recommender, request: Request, scores: np.ndarray, chosen: np.ndarray, allowed: np.ndarray
) -> list[tuple[Cause, ...]]:
    """The causes that weighed most for each of the `chosen` items (int64 [n]), the strongest first.

    `scores` float [items] are the answer to `request`; `allowed` bool [items] are what its limits allow. A
    cause whose absence does not lower the log-probability is none.
    """
    names, without = left_out(recommender, request)
    if not without:
        return [()] * len(chosen)
    whole = log_probabilities(scores[None], allowed)[:, chosen]
    return strongest(names, whole - log_probabilities(recommender.scores(without), allowed)[:, chosen])


def strongest(names: Sequence[Cause], falls: np.ndarray) -> list[tuple[Cause, ...]]:
    """For each item the causes that weighed most, given `falls` [causes, items] of its log-probability."""
    found = []
    for column in falls.T:
        first = np.argsort(-column, kind="stable")[:SHOWN]
        found.append(tuple(replace(names[at], weight=float(column[at])) for at in first if column[at] > 0))
    return found


class _Named(Protocol):
    catalog: Catalog


def left_out(recommender: _Named, request: Request) -> tuple[list[Cause], list[Request]]:
    """The causes to try, weights not yet known, and the request without each."""
    newest = list(dict.fromkeys(event.item for event in reversed(request.history)))[:MOST_ITEMS]
    names = [Cause(recommender.catalog[item].title, recommender.catalog[item].id, 0.0) for item in newest]
    without = [
        replace(request, history=tuple(event for event in request.history if event.item != item))
        for item in newest
    ]
    if request.words:
        names.append(Cause("your words", None, 0.0))
        without.append(replace(request, words=""))
    return names, without


def log_probabilities(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Log-softmax of scores [n, items] over the allowed items (bool [items]); -inf elsewhere."""
    masked = np.where(allowed[None, :], scores.astype(np.float64), -np.inf)
    top = masked.max(axis=1, keepdims=True)
    result: np.ndarray = masked - top - np.log(np.exp(masked - top).sum(axis=1, keepdims=True))
    return result
