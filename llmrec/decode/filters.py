"""Filters as masks over the catalogue: exact, and the only place where a limit is enforced."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from llmrec.data.attributes import number_range, value_key
from llmrec.data.catalog import Catalog
from llmrec.data.events import NO_TIME, History
from llmrec.data.facts import HIGH, LOW, ItemFacts
from llmrec.decode.contract import Filters
from llmrec.decode.postings import NO_ITEMS, Postings
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.words import stems

_LEVELS = {"low": LOW, "high": HIGH}


def from_objective(objective: Objective) -> Filters:
    """The parts of a wish that can be enforced, whatever their weights.

    What is to happen (event, value, scenario), likeness, season and loose words are the model's; that a list
    differs within itself is no limit on its items. Of several values of one attribute an item must have one.
    """
    return Filters(
        max_price=objective.max_price,
        min_price=objective.min_price,
        include_words=objective.include_words,
        exclude_words=objective.exclude_words,
        include_categories=objective.include_categories,
        exclude_categories=objective.exclude_categories,
        attributes=_by_name(objective.include_attributes),
        exclude_attributes=_by_name(objective.exclude_attributes),
        exclude_seen=objective.new_for_user,
        seen_before=objective.seen_before,
        new_category=objective.new_category,
        long_tail=objective.long_tail,
        fresh=objective.fresh,
        price_levels=(objective.price_level,) if objective.price_level else (),
    )


def _by_name(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(attribute, values) from (attribute, value) pairs, in their order."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        found[name] = (*found.get(name, ()), value)
    return tuple(found.items())


def _tighter(first: float | None, second: float | None, upper: bool) -> float | None:
    bounds = [bound for bound in (first, second) if bound is not None]
    if not bounds:
        return None
    return min(bounds) if upper else max(bounds)


def _joined(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def merge(first: Filters, second: Filters) -> Filters:
    """Filters that allow exactly the items that both allow."""
    allowed = first.allowed_items if second.allowed_items is None else second.allowed_items
    if first.allowed_items is not None and second.allowed_items is not None:
        allowed = tuple(sorted(set(first.allowed_items) & set(second.allowed_items)))
    return Filters(
        max_price=_tighter(first.max_price, second.max_price, upper=True),
        min_price=_tighter(first.min_price, second.min_price, upper=False),
        include_words=_joined(first.include_words, second.include_words),
        exclude_words=_joined(first.exclude_words, second.exclude_words),
        include_categories=_joined(first.include_categories, second.include_categories),
        exclude_categories=_joined(first.exclude_categories, second.exclude_categories),
        attributes=tuple(dict.fromkeys((*first.attributes, *second.attributes))),
        exclude_attributes=tuple(dict.fromkeys((*first.exclude_attributes, *second.exclude_attributes))),
        exclude_items=tuple(sorted({*first.exclude_items, *second.exclude_items})),
        allowed_items=allowed,
        exclude_seen=first.exclude_seen or second.exclude_seen,
        seen_before=first.seen_before or second.seen_before,
        new_category=first.new_category or second.new_category,
        long_tail=first.long_tail or second.long_tail,
        fresh=first.fresh or second.fresh,
        price_levels=_joined(first.price_levels, second.price_levels),
    )


class FilterIndex:
    """Turns `Filters` into boolean masks over one catalogue.

    Words, categories and attribute values are looked up in inverted lists that are built at their first
    use, so a mask costs time in the number of items that its parts name, and one pass for prices, ranges of
    numbers and facts. `facts` say what is popular and what is new; they can be given later.
    """

    def __init__(self, catalog: Catalog, facts: ItemFacts | None = None) -> None:
        self.facts = facts
        self._catalog = catalog
        self._attributes: dict[str, Postings] = {}
        self._numbers: dict[str, np.ndarray] = {}

    @cached_property
    def _words(self) -> Postings:
        return Postings(stems(f"{item.title} {item.text}") for item in self._catalog.items)

    @cached_property
    def _categories(self) -> Postings:
        return Postings((category.casefold() for category in item.categories) for item in self._catalog.items)

    @cached_property
    def _attribute_names(self) -> tuple[str, ...]:
        return self._catalog.attribute_names

    def with_word(self, word: str) -> np.ndarray:
        """Sorted indices of the items whose text has every stem of `word` (a word or a phrase).

        Raises `LlmrecError` when `word` has no letter or digit to look for.
        """
        parts = dict.fromkeys(stems(word))
        if not parts:
            raise LlmrecError(f"the filter word {word!r} has nothing to look for: give a word with a meaning")
        found: np.ndarray | None = None
        for part in parts:
            items = self._words[part]
            found = items if found is None else np.intersect1d(found, items, assume_unique=True)
        assert found is not None
        return found

    def with_category(self, category: str) -> np.ndarray:
        """Sorted indices of the items of a category; upper and lower case are the same."""
        return self._categories[category.casefold()]

    def with_attribute(self, name: str, values: Sequence[str]) -> np.ndarray:
        """Sorted indices of the items whose attribute `name` is one of `values`; case does not count.

        A value LOW-HIGH is also a range of numbers, both included. Raises `UnknownIdError` when no item has
        such an attribute.
        """
        if name not in self._attributes:
            if name not in self._attribute_names:
                known = ", ".join(self._attribute_names) or "none"
                raise UnknownIdError(f"items have no attribute {name!r}; they have: {known}")
            own = [item.attributes.get(name) for item in self._catalog.items]
            self._attributes[name] = Postings(() if value is None else (value_key(value),) for value in own)
            numbers = [value if isinstance(value, int | float) else math.nan for value in own]
            self._numbers[name] = np.array(numbers, dtype=np.float64)
        numbers_of = self._numbers[name]
        found = [items for value in values if len(items := self._attributes[name][value_key(value)])]
        for low, high in filter(None, map(number_range, values)):
            found.append(np.flatnonzero((numbers_of >= low) & (numbers_of <= high)))
        return found[0] if len(found) == 1 else np.unique(np.concatenate([NO_ITEMS, *found]))

    def mask(self, filters: Filters, history: History = (), now: int | None = None) -> np.ndarray:
        """Which items `filters` allow after `history`: bool [items]; it may be all false.

        `now` is the moment, in seconds since 1970 UTC, at which items count as new (default: the newest time
        that the facts know). Raises `LlmrecError` for a part that cannot mean anything (a word without
        letters, a price bound that is no number, an attribute or an item index that the catalogue does not
        have), or that needs facts where there are none.
        """
        allowed = self._prices_allow(filters)
        self._by_text(allowed, filters)
        for name, values in filters.attributes:
            self._keep(allowed, self.with_attribute(name, values))
        for name, values in filters.exclude_attributes:
            allowed[self.with_attribute(name, values)] = False
        if filters.allowed_items is not None:
            self._keep(allowed, self._checked(filters.allowed_items))
        if filters.exclude_items:
            allowed[self._checked(filters.exclude_items)] = False
        self._by_history(allowed, filters, history)
        if filters.long_tail:
            allowed &= self._facts("long_tail").tail
        if filters.fresh:
            allowed &= self._facts("fresh").fresh(now)
        return allowed

    def _by_text(self, allowed: np.ndarray, filters: Filters) -> None:
        for word in filters.include_words:
            self._keep(allowed, self.with_word(word))
        for word in filters.exclude_words:
            allowed[self.with_word(word)] = False
        for category in filters.include_categories:
            self._keep(allowed, self.with_category(category))
        for category in filters.exclude_categories:
            allowed[self.with_category(category)] = False

    def _by_history(self, allowed: np.ndarray, filters: Filters, history: History) -> None:
        if not (filters.exclude_seen or filters.seen_before or filters.new_category):
            return
        seen = self._checked([event.item for event in history])
        if filters.exclude_seen:
            allowed[seen] = False
        if filters.seen_before:
            self._keep(allowed, seen)
        if filters.new_category:
            allowed &= self._of_catalog.categories.outside(seen)

    def _facts(self, part: str) -> ItemFacts:
        if self.facts is None:
            raise LlmrecError(
                f"the filter {part} needs to know what people chose when: give FilterIndex the facts of "
                "the training events (ItemFacts.from_histories)"
            )
        return self.facts

    @cached_property
    def _of_catalog(self) -> ItemFacts:
        """Facts of which those that the catalogue alone tells are used: price levels and categories."""
        items = len(self._catalog)
        unknown = ItemFacts(self._catalog, np.zeros(items), np.full(items, NO_TIME))
        return unknown if self.facts is None else self.facts

    def _prices_allow(self, filters: Filters) -> np.ndarray:
        prices = self._catalog.prices
        allowed = ~self._catalog.retired
        for bound in (filters.max_price, filters.min_price):
            if bound is not None and math.isnan(bound):
                raise LlmrecError("a price bound is not a number: give a price or leave the bound out")
        # An unknown price is NaN, and every comparison with NaN is false: the item fails the bound.
        if filters.max_price is not None:
            allowed &= prices <= filters.max_price
        if filters.min_price is not None:
            allowed &= prices >= filters.min_price
        for level in filters.price_levels:
            if level not in _LEVELS:
                raise LlmrecError(f"the price level is {level!r}, it must be one of: {', '.join(_LEVELS)}")
            allowed &= self._of_catalog.price_level == _LEVELS[level]
        return allowed

    @staticmethod
    def _keep(allowed: np.ndarray, items: np.ndarray) -> None:
        """Forbid, in place, every item that is not among `items`."""
        kept = allowed[items]
        allowed[:] = False
        allowed[items] = kept

    def _checked(self, items: Sequence[int]) -> np.ndarray:
        indices = np.asarray(items, dtype=np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self._catalog)):
            raise UnknownIdError(
                f"a filter names an item outside the catalogue of {len(self._catalog):,} items"
            )
        return indices
