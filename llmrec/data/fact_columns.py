"""What is known of each item besides its text, as numbers: the columns that the query head reads.

The same facts decide what the parts of an objective mean (`data.facts`); here they are what a model can
prefer, more or less, as a wish asks.
"""

from __future__ import annotations

import numpy as np

from llmrec.data.events import Histories
from llmrec.data.facts import HIGH, LOW, NO_LEVEL, ItemFacts

FACTS = ("long_tail", "cheap", "premium", "fresh", "popularity", "price", "rating", "again")
"""Names of the columns; the first four are 0 or 1."""
_PRIOR = 10.0
"""Events that an item's mean rating and its share of repeats are drawn to the overall mean with."""


def fact_columns(facts: ItemFacts, train: Histories) -> np.ndarray:
    """The columns `FACTS` of each item, float32 [items, 8]; NaN where unknown.

    popularity: log of 1 + training events. price: log of 1 + price. rating: mean value of the item's
    training events, where they have values. again: share of its training events whose user had had it.
    The last two lean to the mean of all items while events are few. An item without a training event, new
    perhaps, has an unknown popularity and not the least.
    """
    items, counts = len(facts.counts), facts.counts.astype(np.float64)
    level, prices = facts.price_level, facts.catalog.prices.astype(np.float64)
    known = np.where(level == NO_LEVEL, np.nan, 0.0)
    popularity = np.where(counts > 0, np.log1p(counts), np.nan)
    price = np.log1p(np.where(prices >= 0, prices, np.nan))
    valued = np.isfinite(train.values)
    rating = _leaning(train.items[valued], train.values[valued], items)
    again = _leaning(train.items, repeats(train), items)
    cheap, premium = known + (level == LOW), known + (level == HIGH)
    columns = (facts.tail, cheap, premium, facts.fresh(), popularity, price, rating, again)
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)


def repeats(train: Histories) -> np.ndarray:
    """Whether the user of each event had the item before, bool [events]."""
    users = np.repeat(np.arange(len(train)), np.diff(train.offsets))
    first = np.zeros(len(train.items), dtype=bool)
    if len(first):
        keys = users.astype(np.int64) * (int(train.items.max()) + 1) + train.items
        first[np.unique(keys, return_index=True)[1]] = True
    return ~first


def _leaning(index: np.ndarray, values: np.ndarray, items: int) -> np.ndarray:
    """Mean of the values of each item, drawn to the mean of all; NaN for an item without any."""
    if not len(values):
        return np.full(items, np.nan)
    values = values.astype(np.float64)
    counts = np.bincount(index, minlength=items)
    sums = np.bincount(index, weights=values, minlength=items)
    found: np.ndarray = (sums + _PRIOR * values.mean()) / (counts + _PRIOR)
    return np.where(counts > 0, found, np.nan)
