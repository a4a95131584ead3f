"""Whether events fulfil conditions: the same truth for goals in training and for lists in reports.

A condition is a field of `Objective` with a value (`verbalize.goals`). Some are about an item, some about
the event, some about the item and the history before a cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from llmrec.data.attributes import matches, written
from llmrec.data.events import History
from llmrec.data.facts import HIGH, LOW, ItemFacts
from llmrec.verbalize.goals import TARGET
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.seasons import SEASONS, season_of_time, season_of_words
from llmrec.verbalize.wishes import WishMaker

LEVELS = {"low": LOW, "high": HIGH}
_MOMENTS = 64
"""Moments whose newest items are kept."""


class Behaviour:
    """One user's events with what goals ask of them.

    `items` int64 [events]; `first[e]` is the place of the first event with the item of event e, and
    `newest_category[e]` the place where the last of its categories came up (-1: it has none). So the item
    was seen before a cut when `first < cut`, and had a category that was new when `newest_category >= cut`.
    """

    def __init__(self, history: History, facts: ItemFacts) -> None:
        self.history = history
        self.items = np.array([event.item for event in history], dtype=np.int64)
        self._categories = facts.categories

    def __len__(self) -> int:
        return len(self.history)

    @cached_property
    def first(self) -> np.ndarray:
        """Place of the first event with each event's item, int64 [events]."""
        _, places, number = np.unique(self.items, return_index=True, return_inverse=True)
        first: np.ndarray = places[number.reshape(-1)]
        return first

    @cached_property
    def newest_category(self) -> np.ndarray:
        """Place where the last of each event's categories came up, int64 [events], -1 without categories."""
        known: dict[int, int] = {}
        sets = self._categories
        newest = np.full(len(self.items), -1, dtype=np.int64)
        for place, item in enumerate(self.items.tolist()):
            own = sets.ids[sets.offsets[item] : sets.offsets[item + 1]].tolist()
            newest[place] = max((known.setdefault(category, place) for category in own), default=-1)
        return newest


class Conditions:
    """Decides conditions over one catalogue, its facts and the words of its items."""

    def __init__(self, maker: WishMaker, facts: ItemFacts) -> None:
        self.maker = maker
        self.facts = facts
        self._masks: dict[Any, np.ndarray] = {}
        self._fresh: Callable[[int | None], np.ndarray] = lru_cache(maxsize=_MOMENTS)(facts.fresh)

    def of_items(self, name: str, value: Any) -> np.ndarray | None:
        """Which items fulfil a condition that is about nothing else, bool [items]; None for other ones."""
        key = (name, tuple(value.items()) if isinstance(value, dict) else value)
        if key not in self._masks:
            mask = self._of_items(name, value)
            if mask is None:
                return None
            self._masks[key] = mask
        return self._masks[key]

    def _of_items(self, name: str, value: Any) -> np.ndarray | None:
        facts, items = self.facts, self.maker.catalog.items
        if name == "long_tail":
            return facts.tail
        if name == "price_level":
            return np.isin(facts.price_level, (LOW, HIGH) if value == TARGET else (LEVELS[value],))
        if name in ("min_price", "max_price"):  # an unknown price is NaN, and fulfils neither
            prices = self.maker.catalog.prices
            mask: np.ndarray = prices >= value if name == "min_price" else prices <= value
            return mask
        if name in ("include_words", "exclude_words"):
            with_all = self.maker.lexicon.items_with_all
            sets = [with_all(value)] if name == "include_words" else [with_all([word]) for word in value]
            found = np.zeros(len(items), dtype=bool)
            found[sorted(set().union(*sets))] = True
            return found if name == "include_words" else ~found
        if name in ("include_categories", "exclude_categories"):
            own = [{category.casefold() for category in item.categories} for item in items]
            if value == TARGET:
                return _mask(bool(each) for each in own)
            wanted = {category.casefold() for category in value}
            if name == "include_categories":
                return _mask(wanted <= each for each in own)
            return _mask(not wanted & each for each in own)
        if name in ("include_attributes", "exclude_attributes"):
            return self._with_attributes(value, wanted=name == "include_attributes")
        return None

    def said_attributes(self, item: int) -> tuple[tuple[str, str], ...]:
        """The attributes that are text, with the item's values: people seldom name a number exactly."""
        values = self.maker.catalog[item].attributes.items()
        return tuple((name, written(value)) for name, value in values if isinstance(value, str) and value)

    def _with_attributes(self, value: Any, wanted: bool) -> np.ndarray:
        """Items with one of the values of every attribute, or (not `wanted`) with none of any."""
        items = self.maker.catalog.items
        if value == TARGET:
            return _mask(self.said_attributes(item) for item in range(len(items)))
        found = np.ones(len(items), dtype=bool)
        for attribute, given in value.items():
            own = [item.attributes.get(attribute) for item in items]
            if given == TARGET:
                has = _mask(one is not None for one in own)
            else:
                has = _mask(any(matches(one, each) for each in _several(given)) for one in own)
            found &= has if wanted else ~has
        return found

    def hold(self, name: str, value: Any, behaviour: Behaviour, cut: int, stop: int) -> np.ndarray:
        """Which of the events `cut` to `stop` fulfil a condition after the first `cut`, bool [stop - cut]."""
        items, events = behaviour.items[cut:stop], behaviour.history[cut:stop]
        mask = self.of_items(name, value)
        if mask is not None:
            found: np.ndarray = mask[items]
            return found
        if name == "seen_before":
            return np.asarray(behaviour.first[cut:stop] < cut)
        if name == "new_for_user":
            return np.asarray(behaviour.first[cut:stop] >= cut)
        if name == "new_category":
            return np.asarray(behaviour.newest_category[cut:stop] >= cut)
        if name == "fresh":
            return _mask(self._fresh(event.time)[event.item] for event in events)
        if name == "min_value":
            return _mask(event.value is not None and event.value >= value for event in events)
        if name == "event":
            return _mask(event.type != "" and _is(event.type, value) for event in events)
        if name == "season":
            return _mask(_is(self.season(event.item, event.time), value) for event in events)
        if value == TARGET:
            return _mask(event.scenario for event in events)
        return _mask(
            all(_is(dict(event.scenario).get(column), wanted) for column, wanted in value.items())
            for event in events
        )

    def season(self, item: int, time: int | None) -> str | None:
        """The season of an item by its words, else, where no season's words are in it, of the time."""
        found = frozenset(self.maker.lexicon.texts[item])
        season = season_of_words(found)
        if season is None and not any(one.cues & found for one in SEASONS.values()):
            season = season_of_time(time)
        return season

    @cached_property
    def _seasons(self) -> np.ndarray:
        """The season that each item's words show, object [items], None for none."""
        found = [season_of_words(frozenset(text)) for text in self.maker.lexicon.texts]
        return np.array(found, dtype=object)

    def honouring(self, wish: Objective, history: History, now: int | None) -> np.ndarray | None:
        """Items that are what a wish says of items, after a history, at the moment `now`: bool [items].

        None when it says nothing of them: what is to happen (`event`, `min_value`, `scenario`) and what
        the whole list is to be (`diverse`) is not a matter of the item, nor is a season's time.
        """
        masks = [
            mask
            for name in wish.parts
            if (mask := self.of_items(name, _as_condition(name, getattr(wish, name)))) is not None
        ]
        seen = np.zeros(len(self.maker.catalog), dtype=bool)
        seen[[event.item for event in history]] = True
        if wish.seen_before:
            masks.append(seen)
        if wish.new_for_user:
            masks.append(~seen)
        if wish.new_category:
            masks.append(self.facts.categories.outside(np.flatnonzero(seen)))
        if wish.fresh:
            masks.append(self._fresh(now))
        if wish.season is not None:
            masks.append(self._seasons == wish.season)
        return np.logical_and.reduce(masks) if masks else None

    def target_value(self, name: str, column: str, behaviour: Behaviour, at: int) -> str:
        """What the event at `at` has where a goal says `target`, as the objective writes it."""
        event = behaviour.history[at]
        if name == "event":
            return event.type
        if name == "price_level":
            return "low" if self.facts.price_level[event.item] == LOW else "high"
        if name == "season":
            return self.season(event.item, event.time) or ""
        if name == "scenario":
            return dict(event.scenario)[column]
        return written(self.maker.catalog[event.item].attributes[column])


def _as_condition(name: str, value: Any) -> Any:
    """A part of an objective as the value of the condition of that name."""
    if not name.endswith("_attributes"):
        return value
    pairs: dict[str, tuple[str, ...]] = {}
    for attribute, one in value:
        pairs[attribute] = (*pairs.get(attribute, ()), one)
    return pairs


def _is(found: str | None, wanted: str | tuple[str, ...]) -> bool:
    """Whether a value is there and is what is wanted: one name, several, or whatever the target has."""
    if not found:
        return False
    return wanted == TARGET or found in _several(wanted)


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,)


def _mask(values: Iterable[Any]) -> np.ndarray:
    return np.fromiter((bool(value) for value in values), dtype=bool)
