"""What the training events and the catalogue say of each item: popularity, age, price level, categories.

The parts of an objective that are about behaviour ("lesser-known", "newly arrived", "of a kind that I never
bought") mean these facts, in training, in filters and in reports alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.events import NO_TIME, Histories

HEAD_SHARE = 0.5
"""The head: the fewest most popular items that together have this share of the training events."""
FRESH_SHARE = 0.1
"""The share of the items known at a moment that count as newly arrived."""
LOW, MIDDLE, HIGH, NO_LEVEL = 0, 1, 2, -1
"""Values of `ItemFacts.price_level`."""


class CategorySets:
    """The categories of all items as flat arrays (CSR): item i has ids[offsets[i] : offsets[i + 1]].

    Upper and lower case are the same. `names[id]` is a category as the catalogue first writes it.
    """

    def __init__(self, catalog: Catalog) -> None:
        number: dict[str, int] = {}
        names: list[str] = []
        ids: list[int] = []
        offsets = [0]
        for item in catalog.items:
            own = dict.fromkeys(name.casefold() for name in item.categories)
            written = {name.casefold(): name for name in reversed(item.categories)}
            for key in own:
                if key not in number:
                    number[key] = len(number)
                    names.append(written[key])
                ids.append(number[key])
            offsets.append(len(ids))
        self.names = tuple(names)
        self.offsets = np.array(offsets, dtype=np.int64)
        self.ids = np.array(ids, dtype=np.int32)

    def of(self, items: Iterable[int]) -> np.ndarray:
        """Distinct category ids of some items, sorted, int32."""
        parts = [self.ids[self.offsets[item] : self.offsets[item + 1]] for item in set(items)]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int32)

    def outside(self, seen: Sequence[int] | np.ndarray) -> np.ndarray:
        """Items with at least one category that no item of `seen` has: bool [items].

        An item without categories is not among them.
        """
        unseen = np.ones(len(self.names), dtype=bool)
        unseen[self.of(np.asarray(seen, dtype=np.int64).tolist())] = False
        # Running counts of unseen categories: an item has one where they grow over its entries.
        counts = np.zeros(len(self.ids) + 1, dtype=np.int32)
        np.cumsum(unseen[self.ids], out=counts[1:])
        found: np.ndarray = counts[self.offsets[1:]] > counts[self.offsets[:-1]]
        return found


class ItemFacts:
    """Facts of each item of one catalogue; arrays are computed at their first use and kept.

    counts      int64 [items], training events of the item
    first_seen  int64 [items], seconds of its first training event, without one when it was added to the
                catalogue, `NO_TIME` where unknown
    tail        bool [items], outside the head: see `HEAD_SHARE`
    price_level int8 [items], `LOW`, `MIDDLE`, `HIGH`, or `NO_LEVEL` for an unknown price
    categories  `CategorySets`
    """

    def __init__(self, catalog: Catalog, counts: np.ndarray, first_seen: np.ndarray) -> None:
        """Raises `ValueError` when `counts` or `first_seen` are not one for each item."""
        if not len(counts) == len(first_seen) == len(catalog):
            raise ValueError(
                f"{len(counts)} counts and {len(first_seen)} times for a catalogue of {len(catalog)} items"
            )
        self.catalog = catalog
        self.counts = counts.astype(np.int64)
        self.first_seen = first_seen.astype(np.int64)

    @classmethod
    def from_histories(cls, catalog: Catalog, train: Histories) -> ItemFacts:
        """Count the training events; they must not hold what the model is measured on.

        Raises `ValueError` when they name items outside the catalogue.
        """
        counts = np.bincount(train.items, minlength=len(catalog))
        if len(counts) > len(catalog):
            raise ValueError(f"an event names item {len(counts) - 1} of a catalogue of {len(catalog)} items")
        latest = np.iinfo(np.int64).max
        first = np.full(len(catalog), latest, dtype=np.int64)
        timed = train.times != NO_TIME
        np.minimum.at(first, train.items[timed], train.times[timed])
        added = np.array(
            [NO_TIME if item.added is None else item.added for item in catalog.items], dtype=np.int64
        )
        first = np.where(first == latest, added, first)
        facts = cls(catalog, counts, first)
        if timed.any():
            facts.newest = max(int(train.times[timed].max()), int(added.max(initial=NO_TIME)))
        return facts

    @cached_property
    def newest(self) -> int:
        """The newest time known, in seconds; `NO_TIME` when no event has a time."""
        return int(self.first_seen.max(initial=NO_TIME))

    @cached_property
    def tail(self) -> np.ndarray:
        """Items outside the head, bool [items]; of equally popular items the lower index is in the head."""
        order = np.argsort(-self.counts, kind="stable")
        running = np.cumsum(self.counts[order])
        total = int(running[-1]) if len(running) else 0
        head = int(np.searchsorted(running, HEAD_SHARE * total)) + 1 if total else 0
        tail = np.ones(len(self.counts), dtype=bool)
        tail[order[:head]] = False
        return tail

    @cached_property
    def price_bounds(self) -> tuple[float, float]:
        """The prices that part the known prices into thirds (low, high); NaN when none is known."""
        known = self.catalog.prices[np.isfinite(self.catalog.prices)]
        if not len(known):
            return float("nan"), float("nan")
        low, high = np.quantile(known, (1 / 3, 2 / 3), method="lower")
        return float(low), float(high)

    @cached_property
    def price_level(self) -> np.ndarray:
        """Level of each item's price, int8 [items].

        Equal prices have one level. Where one price is that of more than a third of the items, the prices
        below it are low and those above it high.
        """
        prices, (low, high) = self.catalog.prices, self.price_bounds
        levels = np.full(len(prices), MIDDLE, dtype=np.int8)
        levels[prices < low if low == high else prices <= low] = LOW
        levels[prices > high] = HIGH
        levels[~np.isfinite(prices)] = NO_LEVEL
        return levels

    @cached_property
    def categories(self) -> CategorySets:
        """The categories of all items."""
        return CategorySets(self.catalog)

    @cached_property
    def _arrivals(self) -> np.ndarray:
        return np.sort(self.first_seen[self.first_seen != NO_TIME])

    def fresh(self, now: int | None = None) -> np.ndarray:
        """The newest items at `now` (seconds; default: the newest time known), bool [items].

        Of the items seen by then they are the share `FRESH_SHARE` that was first seen last, and what was
        first seen at the same second as the oldest of these. Items first seen later, or at an unknown time,
        are not among them; nor is any while all were first seen at one moment.
        """
        now = self.newest if now is None else now
        known = int(np.searchsorted(self._arrivals, now, side="right"))
        if known == 0:
            return np.zeros(len(self.counts), dtype=bool)
        since = self._arrivals[known - max(1, int(FRESH_SHARE * known))]
        if since == self._arrivals[0]:
            return np.zeros(len(self.counts), dtype=bool)
        fresh: np.ndarray = (self.first_seen >= since) & (self.first_seen <= now)
        return fresh
