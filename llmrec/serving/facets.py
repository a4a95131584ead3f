"""What the items of a catalogue can be filtered by: categories, values of attributes, prices."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from llmrec.data.attributes import value_key, written
from llmrec.data.catalog import Catalog, Value

MOST_VALUES = 1_000
"""Values of a facet that are kept: an attribute may have one of its own for each item."""


@dataclass(frozen=True, slots=True)
class Facet:
    """Values and the number of items that have each, the most frequent first, of `distinct` ones.

    `low` and `high` are the bounds of those that are numbers, None where none is.
    """

    values: tuple[tuple[str, int], ...] = ()
    distinct: int = 0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Facets:
    """The facets of a catalogue; items that were retired do not count."""

    categories: Facet
    attributes: Mapping[str, Facet]
    prices: Facet


def facets_of(catalog: Catalog) -> Facets:
    """Count them, in one pass over the items."""
    items = [item for item in catalog.items if not item.retired]
    prices = catalog.prices[~catalog.retired & ~np.isnan(catalog.prices)]
    bounds = (float(prices.min()), float(prices.max())) if len(prices) else (None, None)
    return Facets(
        _counted(category for item in items for category in item.categories),
        {name: _counted(item.attributes.get(name) for item in items) for name in catalog.attribute_names},
        Facet((), 0, *bounds),
    )


def _counted(values: Iterable[Value]) -> Facet:
    """Values that filters take as one are one here, in the writing that comes first."""
    counts: dict[str, int] = {}
    shown: dict[str, str] = {}
    low, high = math.inf, -math.inf
    for value in values:
        if value is None:
            continue
        key = value_key(value)
        counts[key] = counts.get(key, 0) + 1
        shown.setdefault(key, written(value))
        if not isinstance(value, str):
            low, high = min(low, value), max(high, value)
    counts.pop("", None)  # no filter can name it
    first = heapq.nsmallest(MOST_VALUES, counts, key=lambda key: (-counts[key], shown[key]))
    bounds = (low, high) if low <= high else (None, None)
    return Facet(tuple((shown[key], counts[key]) for key in first), len(counts), *bounds)
