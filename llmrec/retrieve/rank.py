"""From scores to ranked lists: exact, deterministic, the same for every model."""

from __future__ import annotations

import numpy as np

from llmrec.errors import LlmrecError


def _masked(scores: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """A copy of `scores` with minus infinity where `allowed` is false."""
    if scores.ndim != 2:
        raise ValueError(f"scores must be [n, items], got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise LlmrecError("a model gave scores that are not finite: it diverged, fit it again")
    if allowed is None:
        return scores.copy()
    if allowed.shape != scores.shape:
        raise ValueError(f"allowed has shape {allowed.shape}, scores have {scores.shape}")
    return np.where(allowed, scores, -np.inf).astype(scores.dtype, copy=False)


def _lowest_indices_of_ties(values: np.ndarray, cut: np.ndarray, k: int) -> np.ndarray:
    """Per row the k entries that are above `cut`, then those equal to it from the left; int64 [n, k]."""
    above = values > cut
    equal = values == cut
    room = k - above.sum(axis=1, keepdims=True)
    keep = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return np.nonzero(keep)[1].reshape(len(values), k)


def top_k(scores: np.ndarray, allowed: np.ndarray | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best allowed items of each row, best first; of equal scores the lower index comes first.

    `scores` is float [n, items] and finite, `allowed` bool of that shape or None (all). Returns index
    int64 [n, k] and score [n, k]; where fewer than k items are allowed, index is -1 and score -inf.
    Raises `LlmrecError` when a score is not finite.
    """
    if k < 1:
        raise LlmrecError(f"k is {k}, it must be at least 1")
    values = _masked(scores, allowed)
    rows, items = values.shape
    width = min(k, items)
    if rows == 0 or width == 0:
        return np.full((rows, k), -1, dtype=np.int64), np.full((rows, k), -np.inf, dtype=values.dtype)
    if width < items:
        index = np.argpartition(-values, width - 1, axis=1)[:, :width].astype(np.int64)
        best = np.take_along_axis(values, index, axis=1)
        cut = best.min(axis=1, keepdims=True)
        # argpartition picks any of the equal scores at the cut: choose again where one was left out.
        unsure = np.flatnonzero((values == cut).sum(axis=1) > (best == cut).sum(axis=1))
        if len(unsure):
            index[unsure] = _lowest_indices_of_ties(values[unsure], cut[unsure], width)
        index.sort(axis=1)
    else:
        index = np.tile(np.arange(items, dtype=np.int64), (rows, 1))
    best = np.take_along_axis(values, index, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    index, best = np.take_along_axis(index, order, axis=1), np.take_along_axis(best, order, axis=1)
    index[np.isneginf(best)] = -1
    pad = ((0, 0), (0, k - width))
    return np.pad(index, pad, constant_values=-1), np.pad(best, pad, constant_values=-np.inf)


def target_ranks(scores: np.ndarray, allowed: np.ndarray | None, targets: np.ndarray) -> np.ndarray:
    """Rank of each row's target in the list that `top_k` would give, from 1; int64 [n].

    0 when the target is not allowed. Used to choose settings without building lists.
    """
    values = _masked(scores, allowed)
    targets = np.asarray(targets, dtype=np.int64)
    own = np.take_along_axis(values, targets[:, None], axis=1)
    before = np.arange(values.shape[1]) < targets[:, None]
    ranks = 1 + (values > own).sum(axis=1) + ((values == own) & before).sum(axis=1)
    return np.where(np.isneginf(own[:, 0]), 0, ranks).astype(np.int64)
