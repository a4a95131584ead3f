"""A language model that writes titles: those of the catalogue, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.continuations import TokenEngine
from llmrec.decode.contract import Request
from llmrec.decode.contrast import ContrastEngine
from llmrec.decode.readout import Found, Wanted, found_in
from llmrec.decode.why import Cause
from llmrec.items.encoders import HashEncoder
from llmrec.items.titles import title_levels, title_trie
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.text.asking import Asking, TextSettings


class TitleWriter(ScoringRecommender):
    """Recommends the items whose titles a model would write next; see `decode.readout.Readout`.

    The score of an item is log P(title | history) - `bare` log P(title | no history). P is over the whole
    vocabulary, or for a tuned model over the tokens that titles have: nearly those that training chose among
    (the tokenizer's own end is one more there). So scores do not depend on filters.
    """

    writes = True

    def __init__(self, asking: Asking, engine: TokenEngine, settings: TextSettings) -> None:
        """`engine` continues the prompts of `asking`."""
        super().__init__("llmrec-text", asking.prepared.catalog)
        self.filters.facts = asking.facts
        self._asking = asking
        tokens = asking.tokens
        self.trie = title_trie(asking.titles, tokens.encode_texts, tokens.tokenizer.eos_token_id)
        if settings.bare:
            engine = ContrastEngine(engine, self.read([Request(())])[0], settings.bare)
        levels = title_levels(self.trie) if settings.tuned else None
        beams = BeamSettings(settings.width, "raw" if settings.tuned else "vocabulary")
        self._search = BeamSearch(self.trie, engine, beams, levels, falls=not settings.bare)
        self.setting = f"titles, {settings.width} beams, less {settings.bare:g} of what anyone is told"

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items, float32 [requests, items]: every title is computed."""
        scores = np.empty((len(requests), len(self.catalog)), dtype=np.float32)
        for row, request in enumerate(requests):
            index, found = self._search.search(self.read([request]), len(self.catalog))
            scores[row, index[0]] = found[0]
        return scores

    def best(self, requests: Sequence[Request], allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed items of each request, as beam search finds them."""
        return self._search.search(self.read(requests), k, allowed)

    def read(self, requests: Sequence[Request]) -> list[list[int]]:
        """The prompts, as token ids."""
        return [self._asking.prompt(request, self.trie.depth) for request in requests]

    def nearest(self, wanted: Sequence[Wanted]) -> list[Found]:
        """The best items for each, and their scores, in one search."""
        if not wanted:
            return []
        lengths, allowed = np.array([each.k for each in wanted]), np.stack([each.allowed for each in wanted])
        return found_in(*self._search.search([each.read for each in wanted], lengths, allowed))

    def item_vectors(self, items: np.ndarray) -> np.ndarray:
        """Items are alike that share words of their titles, float32 [n, width]."""
        return HashEncoder().encode([self._asking.titles[item] for item in items.tolist()])

    def because(
        self, request: Request, read: list[int], items: np.ndarray, allowed: np.ndarray
    ) -> list[tuple[Cause, ...]]:
        """Not measured: it would take the probabilities of all titles many times."""
        return [()] * len(items)

    def said(self, read: list[int], allowed: np.ndarray) -> tuple[str, ...]:
        """Nothing: a list says it all."""
        return ()
