"""Free text grounded to items: which of the catalogue a text names, how surely, or that nothing fits.

A score is half the words in common (BM25 as a share, `retrieve.word_index`) and half the cosine of text
vectors. Both are on one scale, so a sum keeps how good a match is, which ranks alone (reciprocal rank fusion)
lose. What a score is worth is learnt from the catalogue itself (`retrieve.calibration`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.errors import LlmrecError
from llmrec.items.encoders import Encoder
from llmrec.items.titles import titles_of
from llmrec.retrieve.calibration import Confidence, fit_confidence, perturbed
from llmrec.retrieve.rank import top_k
from llmrec.retrieve.unrelated import UNRELATED
from llmrec.retrieve.word_index import WordIndex

THRESHOLD = 0.5
"""Confidence below which nothing fits."""
_WORDS = 0.5
"""Share of the words in a score; the vectors have the rest."""
_TITLES = 200
"""Perturbed titles that the confidence is learnt from."""


@dataclass(frozen=True, slots=True)
class Grounded:
    """The items that a text names, the likeliest first, int64 [n], and their log-odds float64 [n].

    `confidence`, from 0 to 1, is that of the best item that was allowed; where it is below the threshold the
    list is empty. 0 when nothing was allowed.
    """

    items: np.ndarray
    log_odds: np.ndarray
    confidence: float


class Grounder:
    """Looks texts up in one catalogue."""

    def __init__(
        self,
        catalog: Catalog,
        texts: Sequence[str],
        vectors: np.ndarray,
        encoder: Encoder,
        threshold: float = THRESHOLD,
    ) -> None:
        """`texts` and unit `vectors` float [items, width] are of the items, the vectors by `encoder`.

        Raises `LlmrecError` for a threshold that is no probability, `ValueError` when the vectors are not one
        for each item or of another width than the encoder's.
        """
        if not 0 <= threshold <= 1:
            raise LlmrecError(f"the confidence asked for is {threshold}, it must be from 0 to 1")
        if vectors.shape != (len(catalog), encoder.dimensions) or len(texts) != len(catalog):
            raise ValueError(f"vectors of shape {vectors.shape} for a catalogue of {len(catalog)} items")
        self.catalog = catalog
        self.threshold = threshold
        self._words = WordIndex(texts)
        self._vectors = vectors
        self._encoder = encoder

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """How well each item fits each text, float32 [texts, items], from about 0 to 1."""
        if not texts:
            return np.zeros((0, len(self.catalog)), dtype=np.float32)
        return np.stack(list(self._each(texts)))

    def _each(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """The scores of one text after another, float32 [items]."""
        for text, vector in zip(texts, self._encoder.encode(texts), strict=True):
            found = _WORDS * self._words.scores(text) + (1 - _WORDS) * (self._vectors @ vector)
            yield found.astype(np.float32, copy=False)

    @cached_property
    def confidence(self) -> Confidence:
        """From scores to log-odds, learnt at the first use."""
        rng = np.random.default_rng(0)
        titles = titles_of(self.catalog)
        items = np.resize(rng.permutation(len(titles)), _TITLES).tolist()
        asked = [perturbed(titles[item], rng) for item in items]
        best = np.array([scores.max() for scores in self._each([*asked, *UNRELATED])])
        return fit_confidence(best[:_TITLES], best[_TITLES:])

    def ground(self, texts: Sequence[str], k: int, allowed: np.ndarray | None = None) -> Grounded:
        """The k allowed items that some of `texts` name best, or none when nothing fits.

        Of several texts the one that an item fits best counts. `allowed` is bool [items] or None: all that
        are not retired. Raises `LlmrecError` when k is below 1.
        """
        scores = self.scores(texts).max(axis=0, initial=-1)
        return self.best(scores, k, allowed)

    def best(self, scores: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Grounded:
        """The same for the `scores` float32 [items] of a text, or the largest of several texts."""
        mask = ~self.catalog.retired if allowed is None else allowed
        if not mask.any():
            return Grounded(np.zeros(0, dtype=np.int64), np.zeros(0), 0.0)
        index, score = top_k(scores[None], mask[None], k)
        items = index[0, index[0] >= 0]
        log_odds = self.confidence.log_odds(score[0, : len(items)])
        confidence = float(1 / (1 + np.exp(-log_odds[0])))
        if confidence < self.threshold:
            return Grounded(items[:0], log_odds[:0], confidence)
        return Grounded(items, log_odds, confidence)
