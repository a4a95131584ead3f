"""Crops and shuffles: still the user's own events, and nothing at all where nothing is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.events import Event
from llmrec.errors import LlmrecError
from llmrec.tune.augment import augmented, crop, shuffle_near
from llmrec.tune.settings import ExampleSettings

HISTORY = tuple(Event(at, 1_000 + at // 2, "buy" if at % 3 else "view", float(at)) for at in range(12))


@given(st.integers(0, 10**6), st.integers(0, 12))
def test_a_crop_is_a_window_of_at_least_two_events(seed: int, length: int) -> None:
    history = HISTORY[:length]
    found = crop(history, np.random.default_rng(seed))
    assert min(2, length) <= len(found) <= length
    assert any(history[at : at + len(found)] == found for at in range(length + 1))


@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(2, 5))
def test_a_shuffle_moves_no_event_far_and_no_time_at_all(seed: int, length: int, within: int) -> None:
    history = HISTORY[:length]
    found = shuffle_near(history, within, np.random.default_rng(seed))
    assert [event.time for event in found] == [event.time for event in history]
    assert sorted(event.item for event in found) == list(range(length))
    for at, event in enumerate(found):
        assert abs(at - event.item) < within
        assert (event.type, event.value) == (HISTORY[event.item].type, HISTORY[event.item].value)


def test_every_window_and_every_pair_of_neighbours_has_its_turn() -> None:
    rng = np.random.default_rng(0)
    windows = {tuple(event.item for event in crop(HISTORY[:4], rng)) for _ in range(300)}
    assert len(windows) == 6
    swapped = {
        at
        for _ in range(300)
        for found in [[event.item for event in shuffle_near(HISTORY[:5], 2, rng)]]
        for at in range(4)
        if found[at] == at + 1
    }
    assert swapped == {0, 1, 2, 3}


def test_they_come_as_often_as_asked_and_without_them_nothing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert augmented(HISTORY, ExampleSettings(), rng) is HISTORY
    assert rng.random() == np.random.default_rng(0).random()
    for name in ("crop", "shuffle"):
        settings = ExampleSettings(**{name: 0.4})
        changed = np.mean([augmented(HISTORY, settings, rng) != HISTORY for _ in range(2_000)])
        whole = {"crop": 1 / 11, "shuffle": 0.0}[name]  # windows that are the history itself
        assert changed == pytest.approx(0.4 * (1 - whole), abs=0.03)


@pytest.mark.parametrize("values", [{"crop": 1.5}, {"shuffle": -0.1}, {"shuffle_within": 1}])
def test_impossible_rates_are_one_line(values) -> None:
    with pytest.raises(LlmrecError, match=f"{next(iter(values))} is {next(iter(values.values()))}"):
        ExampleSettings(**values)
