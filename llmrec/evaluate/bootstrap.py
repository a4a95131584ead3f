"""Bootstrap over users: how far a mean, or the difference of two models, could be chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
_CELLS = 1 << 22
"""Draws held at a time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over users and the interval that holds it in 95 of 100 resamples."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval, for writing it as ±."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """First minus second, over the same users; `p` is the two-sided bootstrap p-value.

    `p` is twice the smaller share of resamples on one side of zero, and never below 1 / resamples.
    """

    difference: float
    low: float
    high: float
    p: float


def _means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of `values` [users, columns] over resampled users, float64 [resamples, columns]."""

    def blocks() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(seed)
        users = len(values)
        size = max(1, _CELLS // users)
        for start in range(0, resamples, size):
            rows = min(size, resamples - start)
            drawn = rng.integers(0, users, (rows, users)) + np.arange(rows)[:, None] * users
            # How often each user was drawn: one product then serves every column.
            times = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
            yield times @ values / users

    return np.concatenate(list(blocks()))


def intervals(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """Means and percentile intervals of each column of `values`, float [users, columns].

    All columns share the same resamples. Raises `ValueError` without users.
    """
    if len(values) == 0:
        raise ValueError("no users to resample")
    means = _means(values, resamples, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [Interval(*map(float, triple)) for triple in zip(values.mean(axis=0), low, high, strict=True)]


def compare(first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Paired bootstrap of two models' figures for the same users, float [users] each."""
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(f"figures of the same users are compared, got shapes {first.shape}, {second.shape}")
    difference = first.astype(np.float64) - second
    means = _means(difference[:, None], resamples, seed)[:, 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    side = min((means <= 0).mean(), (means >= 0).mean())
    p = float(np.clip(2 * side, 1 / resamples, 1.0))
    return Comparison(float(difference.mean()), float(low), float(high), p)
