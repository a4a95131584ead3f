"""Splits: every event in one fold, and no later fold before an earlier one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.events import NO_TIME
from llmrec.data.splits import TEST, TRAIN, VALID, global_time, known_times, leave_last
from llmrec.errors import DataError

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)
moments = st.one_of(st.just(NO_TIME), st.integers(0, 30))


def offsets_of(counts: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@given(lengths)
def test_leave_last_out(counts: list[int]) -> None:
    offsets = offsets_of(counts)
    folds = leave_last(offsets, 1)
    assert len(folds) == sum(counts)
    for start, end in zip(offsets, offsets[1:], strict=False):
        expected = (
            [TRAIN] * (end - start - 2) + [VALID, TEST] if end - start >= 3 else [TRAIN] * (end - start)
        )
        assert folds[start:end].tolist() == expected


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 12))
def test_leave_last_n(counts: list[int], n: int) -> None:
    offsets = offsets_of(counts)
    folds = leave_last(offsets, n)
    assert len(folds) == sum(counts)
    for start, end in zip(offsets, offsets[1:], strict=False):
        events = int(end - start)
        held = 0 if events < 3 else max(1, min(n, events // 4))
        expected = [TRAIN] * (events - 2 * held) + [VALID] * held + [TEST] * held
        assert folds[start:end].tolist() == expected


@given(st.data(), lengths)
def test_known_times_is_a_running_maximum(data: st.DataObject, counts: list[int]) -> None:
    times = data.draw(st.lists(moments, min_size=sum(counts), max_size=sum(counts)))
    offsets = offsets_of(counts)
    expected = [
        max(times[start : row + 1])
        for start, end in zip(offsets, offsets[1:], strict=False)
        for row in range(start, end)
    ]
    assert known_times(offsets, np.array(times)).tolist() == expected


@given(st.data(), lengths, st.integers(1, 31))
def test_global_time(data: st.DataObject, counts: list[int], date: int) -> None:
    times = np.array(data.draw(st.lists(moments, min_size=sum(counts), max_size=sum(counts))))
    offsets = offsets_of(counts)
    try:
        folds, start = global_time(offsets, times, date)
    except DataError:
        return
    reached = known_times(offsets, times)
    assert np.array_equal(folds == TEST, reached >= date)
    assert np.array_equal(folds == VALID, (reached >= start) & (reached < date))
    assert (folds == TRAIN).any() and (folds == TEST).any()
    for begin, end in zip(offsets, offsets[1:], strict=False):
        assert (np.diff(folds[begin:end].astype(int)) >= 0).all()


def test_validation_is_the_last_tenth_before_the_date() -> None:
    folds, start = global_time(np.array([0, 120]), np.arange(120), 100)
    assert np.bincount(folds).tolist() == [90, 10, 20]
    assert start == 90


@pytest.mark.parametrize(
    ("times", "date", "words"),
    [
        ([NO_TIME, NO_TIME], 5, "no event with a time before"),
        ([1, 2], 1, "before its date"),
        ([1, 2], 9, "at or after its date"),
        ([1, 9], 5, "nothing to train on"),
    ],
)
def test_splits_that_leave_a_side_empty(times: list[int], date: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        global_time(np.array([0, 2]), np.array(times), date)
