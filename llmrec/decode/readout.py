"""What answers wishes in words, whichever way a model names items: see `recommend.Shop`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

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
