"""Other views of a history, so that few histories teach more: random windows, and small changes of order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmrec.data.events import History
from llmrec.tune.settings import ExampleSettings


def augmented(history: History, settings: ExampleSettings, rng: np.random.Generator) -> History:
    """The history, or a random window of it, perhaps in another order, at the rates of `settings`.

    Without a rate nothing is drawn from `rng`.
    """
    if settings.crop and rng.random() < settings.crop:
        history = crop(history, rng)
    if settings.shuffle and rng.random() < settings.shuffle:
        history = shuffle_near(history, settings.shuffle_within, rng)
    return history


def crop(history: History, rng: np.random.Generator) -> History:
    """A window of at least two events; every length is as probable, and every place."""
    if len(history) <= 2:
        return history
    length = int(rng.integers(2, len(history) + 1))
    start = int(rng.integers(len(history) - length + 1))
    return history[start : start + length]


def shuffle_near(history: History, within: int, rng: np.random.Generator) -> History:
    """Events change places within runs of `within` events; the times stay where they are.

    The runs begin at a random event, so that any two neighbours may change places.
    """
    order = list(range(len(history)))
    for start in range(-int(rng.integers(within)), len(history), within):
        first, end = max(start, 0), min(start + within, len(history))
        order[first:end] = (first + rng.permutation(end - first)).tolist()
    return tuple(replace(history[at], time=event.time) for at, event in zip(order, history, strict=True))
