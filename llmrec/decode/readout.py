"""What answers wishes in words, whichever way a model names items: see `recommend.Shop`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.decode.contract import Request
from llmrec.decode.filters import FilterIndex
from llmrec.decode.why import Cause


class Readout(Protocol):
    """A model that reads wishes and names the items that answer them, of those allowed."""

    catalog: Catalog

    @property
    def filters(self) -> FilterIndex:
        """What decides which items a request allows."""
        ...

    def read(self, requests: Sequence[Request]) -> Sequence[Any]:
        """What the model makes of several wishes of one user, for the methods below."""
        ...

    def nearest(self, read: Any, allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best items that `allowed` bool [items] has, at most k, best first: int64 [n], log-odds [n]."""
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
