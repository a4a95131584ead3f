"""Splits: which events train, which validate, which test. Pure functions of arrays.

Within a user no event of a later fold ever comes before one of an earlier fold.
"""

from __future__ import annotations

import numpy as np

from llmrec.data.events import NO_TIME
from llmrec.errors import DataError

TRAIN, VALID, TEST = 0, 1, 2
"""Positions in `prepared.FOLDS`."""
SHORTEST = 3
"""A user with fewer events has none to hold out: all of them train."""
TIME_BITS = 33
"""Bits of a time plus one; enough until the year 2242."""


def leave_last(offsets: np.ndarray, n: int) -> np.ndarray:
    """Folds, uint8 [events]: each user's last `n` events test, `n` before them validate, the rest train.

    Of a user with fewer than 4 n events a quarter each (rounded down, at least one) tests and validates, so
    that about half or more always trains. `offsets` int64 [users + 1] as in `Histories`.
    """
    lengths = np.diff(offsets)
    held = np.where(lengths >= SHORTEST, np.clip(lengths // 4, 1, n), 0)
    # How many events of its user come after each event.
    after = np.repeat(offsets[1:], lengths) - 1 - np.arange(int(offsets[-1]))
    each = np.repeat(held, lengths)
    folds = np.full(len(each), TRAIN, dtype=np.uint8)
    folds[after < 2 * each] = VALID
    folds[after < each] = TEST
    return folds


def known_times(offsets: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The latest time that each user's events have reached, int64 [events].

    An unknown time takes that of the event before it; before the first known one it stays `NO_TIME`.
    `times` int64 [events], from 0 to 2^33 - 2 or `NO_TIME`, in the order of each user's history.
    """
    # Users go up along the rows: with the user in the high bits, one running maximum serves all.
    users = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    keys = (users << TIME_BITS) + np.where(times == NO_TIME, 0, times + 1)
    reached = (np.maximum.accumulate(keys) & ((1 << TIME_BITS) - 1)) - 1
    return np.where(reached < 0, NO_TIME, reached)


def global_time(
    offsets: np.ndarray, times: np.ndarray, date: int, valid_share: float = 0.1
) -> tuple[np.ndarray, int]:
    """Folds, uint8 [events], cut at moments that hold for all users, and the first moment of validation.

    Events at or after `date` (seconds) test; of those before it, the last `valid_share` by time
    validate, no moment cut in two; the rest train. Times as in `known_times`; events before a user's
    first known time train.

    Raises:
        DataError: no event has a time, or training or test would be empty.
    """
    reached = known_times(offsets, times)
    before = np.sort(reached[reached < date])
    if not len(before) or before[-1] == NO_TIME:
        raise DataError("the global-time split has no event with a time before its date: choose a later date")
    if len(before) == len(reached):
        raise DataError("the global-time split has no event at or after its date: choose an earlier date")
    start = int(before[int(len(before) * (1 - valid_share))])
    if start == before[0]:
        raise DataError("the global-time split leaves nothing to train on: choose a later date")
    folds = np.zeros(len(times), dtype=np.uint8)
    folds[reached >= start] = VALID
    folds[reached >= date] = TEST
    return folds, start
