"""What answers wishes in words, whichever way a model names items: see `recommend.Shop`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.decode.contract import Request
from llmrec.decode.filters import FilterIndex
from llmrec.decode.why import Cause

Found = tuple[np.ndarray, np.ndarray]
"""A list: items int64 [n], best first, and their scores float32 [n]."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A list to be found: at most `k` items that `allowed` bool [items] has, for a wish that was `read`."""

    read: Any
    allowed: np.ndarray
    k: int


class Readout(Protocol):
    """A model that reads wishes and names the items that answer them, of those allowed.

    `writes`: the model runs in `nearest`, which finds many lists in fewer passes than one after the other;
    otherwise `read` does all of its work.
    """

    catalog: Catalog
    writes: bool

    @property
    def filters(self) -> FilterIndex:
        """What decides which items a request allows."""
        ...

    def read(self, requests: Sequence[Request]) -> Sequence[Any]:
        """What the model makes of several wishes of one user, for the methods below."""
        ...

    def nearest(self, wanted: Sequence[Wanted]) -> list[Found]:
        """The best items for each, with log-odds: the same lists as if each was asked for alone."""
        ...

    def item_vectors(self, items: np.ndarray) -> np.ndarray:
        """Vectors by which items are alike, float32 [n, width]."""
        ...

    def because(
        self, request: Request, read: Any, items: np.ndarray, allowed: np.ndarray
    ) -> list[tuple[Cause, ...]]:
        """What weighed most for each of the items, int64 [n]; nothing where that is not measured."""
        ...

    def said(self, read: Any, allowed: np.ndarray) -> tuple[str, ...]:
        """Notes for people on what the model made of a wish."""
        ...


@runtime_checkable
class ReadsApart(Protocol):
    """A readout that reads requests of several users in one call of its model."""

    def read_apart(self, requests: Sequence[Request]) -> Sequence[Any]:
        """What `Readout.read` gives for each request asked alone."""
        ...


def read_apart(readout: Readout, requests: Sequence[Request]) -> Sequence[Any]:
    """What the model makes of requests of any users, together where it can."""
    if isinstance(readout, ReadsApart):
        return readout.read_apart(requests)
    return [readout.read([request])[0] for request in requests]


def nearest_each(readout: Readout, wanted: Sequence[Sequence[Wanted]]) -> list[list[Found]]:
    """The lists of several wishes that need some each, found together."""
    found = iter(readout.nearest([each for own in wanted for each in own]))
    return [list(islice(found, len(own))) for own in wanted]


def found_in(index: np.ndarray, score: np.ndarray) -> list[Found]:
    """The lists in rows of items [n, k], -1 for none, and of their scores."""
    return [(items[items >= 0], scores[items >= 0]) for items, scores in zip(index, score, strict=True)]
