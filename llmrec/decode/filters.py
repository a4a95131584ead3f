"""Filters as masks over the catalogue: exact, and the only place where a limit is enforced."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from llmrec.data.catalog import Catalog, Value
from llmrec.data.events import History
from llmrec.decode.contract import Filters
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.words import stems

_NONE = np.zeros(0, dtype=np.int64)


def from_objective(objective: Objective) -> Filters:
    """The parts of a wish that can be enforced; likeness, season and loose words are the model's."""
    return Filters(
        max_price=objective.max_price,
        min_price=objective.min_price,
        include_words=objective.include_words,
        exclude_words=objective.exclude_words,
        include_categories=objective.include_categories,
        exclude_categories=objective.exclude_categories,
        exclude_seen=objective.new_for_user,
    )


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
        exclude_items=tuple(sorted({*first.exclude_items, *second.exclude_items})),
        allowed_items=allowed,
        exclude_seen=first.exclude_seen or second.exclude_seen,
    )


class _Postings:
    """Which items carry a key: for each key the sorted item indices, in one array (CSR)."""

    def __init__(self, keys_of_items: Iterable[Iterable[str]]) -> None:
        self._number: dict[str, int] = {}
        keys: list[int] = []
        items: list[int] = []
        for item, names in enumerate(keys_of_items):
            for name in dict.fromkeys(names):
                keys.append(self._number.setdefault(name, len(self._number)))
                items.append(item)
        flat = np.array(keys, dtype=np.int64)
        self._items = np.array(items, dtype=np.int64)[np.argsort(flat, kind="stable")]
        self._offsets = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=len(self._number)))])

    def __getitem__(self, key: str) -> np.ndarray:
        """Sorted indices of the items with `key`, int64; empty when no item has it."""
        number = self._number.get(key)
        if number is None:
            return _NONE
        found: np.ndarray = self._items[self._offsets[number] : self._offsets[number + 1]]
        return found


def _value_key(value: Value) -> str:
    """One writing for a value in the catalogue and in a filter: '2010', 2010.0 and '2010.0' are equal."""
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        number = math.nan
    return f"{number:.12g}" if math.isfinite(number) else str(value).strip().casefold()


class FilterIndex:
    """Turns `Filters` into boolean masks over one catalogue.

    Words, categories and attribute values are looked up in inverted lists that are built at their first
    use, so a mask costs time in the number of items that its parts name, and one pass for prices.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._attributes: dict[str, _Postings] = {}

    @cached_property
    def _words(self) -> _Postings:
        return _Postings(stems(f"{item.title} {item.text}") for item in self._catalog.items)

    @cached_property
    def _categories(self) -> _Postings:
        return _Postings(
            (category.casefold() for category in item.categories) for item in self._catalog.items
        )

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

        Raises `UnknownIdError` when no item has such an attribute.
        """
        if name not in self._attributes:
            if name not in self._catalog.attribute_names:
                known = ", ".join(self._catalog.attribute_names) or "none"
                raise UnknownIdError(f"items have no attribute {name!r}; they have: {known}")
            self._attributes[name] = _Postings(
                () if (value := item.attributes.get(name)) is None else (_value_key(value),)
                for item in self._catalog.items
            )
        found = [self._attributes[name][_value_key(value)] for value in values]
        return np.unique(np.concatenate(found)) if found else _NONE

    def mask(self, filters: Filters, history: History = ()) -> np.ndarray:
        """Which items `filters` allow after `history`: bool [items]; it may be all false.

        Raises `LlmrecError` for a part that cannot mean anything (a word without letters, a price bound
        that is no number, an attribute or an item index that the catalogue does not have).
        """
        allowed = self._prices_allow(filters)
        for word in filters.include_words:
            self._keep(allowed, self.with_word(word))
        for word in filters.exclude_words:
            allowed[self.with_word(word)] = False
        for category in filters.include_categories:
            self._keep(allowed, self.with_category(category))
        for category in filters.exclude_categories:
            allowed[self.with_category(category)] = False
        for name, values in filters.attributes:
            self._keep(allowed, self.with_attribute(name, values))
        if filters.allowed_items is not None:
            self._keep(allowed, self._checked(filters.allowed_items))
        if filters.exclude_items:
            allowed[self._checked(filters.exclude_items)] = False
        if filters.exclude_seen and history:
            allowed[self._checked([event.item for event in history])] = False
        return allowed

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
