"""What every recommender takes and gives, ours and the baselines alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from llmrec.data.catalog import Catalog, Value
from llmrec.data.events import History
from llmrec.data.prepared import Prepared
from llmrec.verbalize.objective import Objective

Gains = tuple[np.ndarray, np.ndarray]
"""Distinct items int64 [n], ascending, and what they gain in score, float32 [n]: for one request."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Hard limits: an item that one of them forbids never comes back.

    Prices are inclusive; an item of unknown price fails a price bound. Words are compared as
    `verbalize.words` stems them; every word of `include_words` must stand in the item's text, and the item
    must be in every category of `include_categories` (upper and lower case are the same).
    `allowed_items` None means all. `attributes` are (name, values): the item's value must be one of those
    named, or lie in the range that one of them is ("1990-1999"); with `exclude_attributes` it must not.

    About the history: `exclude_seen` leaves out its items, `seen_before` all others, and `new_category` keeps
    the items with a category that none of it has. `long_tail` keeps what is not in the head of popular
    items and `fresh` the newest items (`data.facts`); `price_levels` are "low" and "high", and an item must
    be of each that is named.
    """

    max_price: float | None = None
    min_price: float | None = None
    include_words: tuple[str, ...] = ()
    exclude_words: tuple[str, ...] = ()
    include_categories: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    exclude_items: tuple[int, ...] = ()
    allowed_items: tuple[int, ...] | None = None
    exclude_seen: bool = False
    exclude_attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seen_before: bool = False
    new_category: bool = False
    long_tail: bool = False
    fresh: bool = False
    price_levels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One question: a history (oldest first), perhaps a wish, and limits.

    `words` is the wish as it was said and goes into the prompt; `objective` is what was understood.
    `user` is the user's position in the events, None for a history from elsewhere; it is used for the
    profile's attributes only. `profile` has attributes in place of those. `now` is when it is asked, in
    seconds since 1970 UTC, for what counts as new; None is the newest time of the training events.
    """

    history: History
    words: str = ""
    objective: Objective = field(default_factory=Objective)
    filters: Filters = field(default_factory=Filters)
    user: int | None = None
    now: int | None = None
    profile: Mapping[str, Value] | None = None


def known_of(request: Request, prepared: Prepared) -> Mapping[str, Value]:
    """The attributes that a request brings, or else those that the data has of its user."""
    if request.profile is not None:
        return request.profile
    return {} if request.user is None else prepared.attributes(request.user)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An item of the catalogue with the model's score (higher is better)."""

    item: str
    index: int
    score: float


class Recommender(Protocol):
    """A model that answers requests with items of one catalogue. Batch equals single."""

    name: str
    catalog: Catalog

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items before any filter, float32 [requests, items]; finite."""
        ...

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """The k best allowed items of each request, best first; fewer only when fewer are allowed."""
        ...
