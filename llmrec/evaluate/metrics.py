"""Metrics of ranked lists, for all users at once.

Lists are int64 [users, depth] of catalogue indices, best first, -1 where a list is shorter. Targets are
int64 [users] or [users, most], -1 where a user has fewer. A hit is an item: places in the list decide, so
equal scores cannot count for free. Per-user figures are float64 [users].
"""

from __future__ import annotations

import numpy as np


def hits(lists: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a list holds a target, bool [users, depth], and the number of targets of each user, int64.

    Raises `ValueError` when a list or a row of targets names an item twice, or a user has no target.
    """
    targets = targets.reshape(len(lists), -1)
    for name, rows in (("list", lists), ("row of targets", targets)):
        ordered = np.sort(rows, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            raise ValueError(f"a {name} names an item twice")
    counts = (targets >= 0).sum(axis=1)
    if not counts.all():
        raise ValueError("a user has no target")
    found = np.zeros(lists.shape, dtype=bool)
    for column in targets.T:
        found |= (lists == column[:, None]) & (lists >= 0)
    return found, counts


def recall(found: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Share of a user's targets that stand in the first k places; with one target, 0 or 1."""
    share: np.ndarray = found[:, :k].sum(axis=1) / counts
    return share


def ndcg(found: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """Sum of 1 / log2(1 + place) over hits in the first k places, divided by the best possible sum."""
    gains = 1.0 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(gains)[np.minimum(counts, k) - 1]
    got = found[:, :k] @ gains[: found.shape[1]]
    return np.asarray(got / best)


def reciprocal_rank(found: np.ndarray) -> np.ndarray:
    """1 / place of the first hit, 0 when the list has none: MRR cut at the depth of the lists."""
    if found.shape[1] == 0:
        return np.zeros(len(found))
    return np.where(found.any(axis=1), 1.0 / (1 + found.argmax(axis=1)), 0.0)


def _exposure(lists: np.ndarray, items: int, k: int) -> np.ndarray:
    """How often each item stands in the first k places, int64 [items]."""
    top = lists[:, :k]
    return np.bincount(top[top >= 0], minlength=items)


def coverage(lists: np.ndarray, items: int, k: int = 10) -> float:
    """Share of the catalogue of `items` that stands in the first k places of at least one list."""
    return float((_exposure(lists, items, k) > 0).mean()) if items else 0.0


def gini(lists: np.ndarray, items: int, k: int = 10) -> float:
    """Gini index of how often items stand in the first k places: 0 all alike, towards 1 a few take all."""
    shown = np.sort(_exposure(lists, items, k))
    if shown.sum() == 0:
        return 0.0
    weights = 2 * np.arange(1, items + 1) - items - 1
    return float((weights * shown).sum() / (items * shown.sum()))


def self_information(buyers: np.ndarray, users: int) -> np.ndarray:
    """Bits of surprise of each item, -log2(share of the `users` who had it in train), float64 [items].

    An item that nobody had counts as had by one, so that the figure is finite.
    """
    return np.asarray(-np.log2(np.maximum(buyers, 1) / max(users, 1)))


def novelty(lists: np.ndarray, bits: np.ndarray, k: int = 10) -> np.ndarray:
    """Mean self-information (`bits` [items]) of the first k places of each list; 0 for an empty list."""
    top = lists[:, :k]
    real = top >= 0
    total = np.where(real, bits[np.maximum(top, 0)], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(real.sum(axis=1), 1))
