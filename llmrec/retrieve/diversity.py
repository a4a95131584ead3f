"""Lists that differ within themselves: maximal marginal relevance, and a determinantal point process.

Both choose items one by one. `balance` from 0 to 1 weighs how well an item fits against how little it is
like those already chosen: 1 is the order of relevance alone. Likeness is the cosine of item vectors.
"""

from __future__ import annotations

import numpy as np

MMR_BALANCE, DPP_BALANCE = 0.6, 0.8
"""Where a list differs clearly and keeps nearly all its hits: see `benchmarks/diversity.py`."""
POOL = 5
"""A list that is to differ within itself is chosen out of so many times its length."""
_LEAST = 1e-9
"""A determinant below this is numerically zero: nothing new is left."""


def scaled(scores: np.ndarray) -> np.ndarray:
    """Scores float [n] moved and stretched to lie between 0 and 1; all 1 where they are equal."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values) or values.max() == values.min():
        return np.ones(len(values))
    low, high = values.min(), values.max()
    found: np.ndarray = (values - low) / (high - low)
    return found


def mmr(relevance: np.ndarray, vectors: np.ndarray, k: int, balance: float = MMR_BALANCE) -> np.ndarray:
    """Places int64 [min(k, n)] of the chosen, first chosen first (Carbonell and Goldstein 1998).

    `relevance` float [n] (see `scaled`), `vectors` float [n, width]. Each step takes the item with the most
    balance * relevance - (1 - balance) * cosine with the chosen item most like it; of equals the first.
    """
    unit, relevance = _checked(relevance, vectors, k, balance)
    nearest = np.full(len(relevance), -1.0)  # so that the first choice is by relevance
    gains = np.array(relevance)
    chosen: list[int] = []
    for _ in range(min(k, len(relevance))):
        best = int(np.argmax(gains))
        chosen.append(best)
        np.maximum(nearest, unit @ unit[best], out=nearest)
        gains = balance * relevance - (1 - balance) * nearest
        gains[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)


def dpp(relevance: np.ndarray, vectors: np.ndarray, k: int, balance: float = DPP_BALANCE) -> np.ndarray:
    """Places int64 [min(k, n)] of a greedy most probable set, first chosen first (Chen et al. 2018).

    The kernel is L = diag(q) S diag(q), S = (1 + cosine) / 2 and q = exp(relevance * b / (2 - 2 b)) with
    b = `balance`: each step takes the item that adds most to log det L, of equals the first. The determinant
    grows by one row of a Cholesky factor a step, so that n items cost O(n k^2). When all that is left lies
    in the span of the chosen, the rest follows by relevance.
    """
    unit, relevance = _checked(relevance, vectors, k, balance)
    count = min(k, len(relevance))
    factor = np.zeros((len(relevance), count))
    # log det L = 2 log q + log det S over the chosen, so q never needs to be computed, nor can overflow.
    left = (1 + (unit**2).sum(axis=1)) / 2
    chosen: list[int] = []
    while len(chosen) < count:
        gains = balance * relevance
        if balance < 1:
            free = left > _LEAST
            gains = np.where(free, gains + (1 - balance) * np.log(np.where(free, left, 1.0)), -np.inf)
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        if np.isneginf(gains[best]):
            rest = [int(at) for at in np.argsort(-relevance, kind="stable") if at not in chosen]
            chosen += rest[: count - len(chosen)]
            break
        done = len(chosen)
        if balance < 1:
            likeness = (1 + unit @ unit[best]) / 2
            row = (likeness - factor[:, :done] @ factor[best, :done]) / np.sqrt(left[best])
            factor[:, done] = row
            left = np.maximum(left - row**2, 0.0)
        chosen.append(best)
    return np.array(chosen, dtype=np.int64)


def balance_for(weight: float, usual: float) -> float:
    """The balance where difference counts `weight` times as much as it does at the `usual` balance."""
    return usual / (usual + (1 - usual) * weight)


def differing(scores: np.ndarray, vectors: np.ndarray, k: int, weight: float = 1.0) -> np.ndarray:
    """Places int64 [min(k, n)] of a list that differs within itself, of items with `scores` float [n].

    By `mmr`, where difference counts `weight` times as much as it usually does.
    """
    return mmr(scaled(scores), vectors, k, balance_for(weight, MMR_BALANCE))


def likeness_within(vectors: np.ndarray) -> float:
    """Mean cosine of all pairs of a list's item vectors [n, width]; 0 for fewer than two."""
    if len(vectors) < 2:
        return 0.0
    unit = _unit(vectors)
    total = unit.sum(axis=0)
    return float((total @ total - (unit**2).sum()) / (len(unit) * (len(unit) - 1)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float64; a row of zeros stays."""
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: np.ndarray = rows / np.where(lengths > 0, lengths, 1.0)
    return found


def _checked(
    relevance: np.ndarray, vectors: np.ndarray, k: int, balance: float
) -> tuple[np.ndarray, np.ndarray]:
    if len(relevance) != len(vectors):
        raise ValueError(f"{len(relevance)} relevances, {len(vectors)} vectors")
    if k < 1 or not 0 <= balance <= 1:
        raise ValueError(f"k is {k}, it must be at least 1; balance is {balance}, it must be from 0 to 1")
    return _unit(vectors), np.asarray(relevance, dtype=np.float64)
