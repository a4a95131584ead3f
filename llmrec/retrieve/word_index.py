"""Texts looked up by their words: BM25 on a scale from 0 to 1, however long a text is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from llmrec.errors import require_extra
from llmrec.verbalize.words import stems

_TEXT = 4000
"""Characters of a text that are read."""
_K1, _B = 1.2, 0.5
"""Of BM25: how soon repeats stop counting, and how much long items are held back."""


class WordIndex:
    """An index of the items' texts by stems (`verbalize.words`), with bm25s."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index one text an item. Raises `MissingExtraError` without bm25s."""
        require_extra("train", ["bm25s"], "looking texts up")
        import bm25s

        documents = [stems(text[:_TEXT]) for text in texts]
        self._items = len(documents)
        self._found_in = Counter(stem for document in documents for stem in set(document))
        self._mean_length = sum(map(len, documents)) / max(1, self._items)
        self._index = bm25s.BM25(k1=_K1, b=_B, method="lucene")
        self._known = bool(self._found_in)
        if self._known:
            self._index.index([list(document) for document in documents], show_progress=False)

    def scores(self, text: str) -> np.ndarray:
        """How well each item's words cover those of `text`, float32 [items].

        BM25 as a share of what an item would have that is this very text: 1 for the text itself, 0 without a
        common word. Words that no item has count as the rarest.
        """
        wanted = stems(text[:_TEXT])
        known = [stem for stem in dict.fromkeys(wanted) if stem in self._found_in]
        if not known:
            return np.zeros(self._items, dtype=np.float32)
        found: np.ndarray = self._index.get_scores(known) / self._own_score(wanted)
        shares: np.ndarray = np.minimum(found, 1).astype(np.float32)
        return shares

    def _own_score(self, wanted: Sequence[str]) -> float:
        """BM25 of a text for itself."""
        damping = _K1 * (1 - _B + _B * len(wanted) / max(self._mean_length, 1e-9))
        return sum(self._rarity(stem) * count / (count + damping) for stem, count in Counter(wanted).items())

    def _rarity(self, stem: str) -> float:
        """Inverse document frequency, as the method "lucene" has it."""
        found = self._found_in[stem]
        return float(np.log(1 + (self._items - found + 0.5) / (found + 0.5)))
