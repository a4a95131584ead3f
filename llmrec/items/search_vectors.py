"""Vectors of search words, by the encoder that made those of the items' texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np

from llmrec.items.encoders import Encoder

_KEPT = 10_000
"""Texts that are kept when more and more are asked for."""


class SearchVectors:
    """Looks vectors of texts up, and makes them when they are new; "" is the zero vector."""

    def __init__(self, encoder: Callable[[], Encoder], width: int) -> None:
        """`encoder` is called when the first new text comes; `width` is that of its vectors."""
        self._make_encoder = encoder
        self._width = width
        self._known: dict[str, np.ndarray] = {}
        self._kept: frozenset[str] = frozenset()

    def remember(self, texts: Iterable[str], vectors: np.ndarray) -> None:
        """Take vectors [texts, width] that were made before, and keep them for good."""
        self._known |= dict(zip(texts, vectors, strict=True))
        self._kept = frozenset(self._known)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 [texts, width]; zeros for ""."""
        new = [text for text in dict.fromkeys(texts) if text and text not in self._known]
        if new:
            if len(self._known) - len(self._kept) > _KEPT:
                self._known = {
                    text: self._known[text] for text in self._kept | (set(texts) & set(self._known))
                }
            self._known |= dict(zip(new, self._encoder.encode(new), strict=True))
        found = np.zeros((len(texts), self._width), dtype=np.float32)
        for row, text in enumerate(texts):
            if text:
                found[row] = self._known[text]
        return found

    @cached_property
    def _encoder(self) -> Encoder:
        return self._make_encoder()
