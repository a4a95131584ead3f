"""A language model that writes in its own words; what it wrote is looked up in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.decode.continuations import TokenEngine
from llmrec.decode.contract import Request
from llmrec.decode.readout import Found, Wanted
from llmrec.decode.why import Cause
from llmrec.decode.writing import write
from llmrec.items.encoders import HashEncoder
from llmrec.retrieve.grounding import Grounder
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.text.asking import Asking
from llmrec.verbalize.clean import clean
from llmrec.verbalize.render import TITLE_LIMIT

_LONGEST = 32
"""Tokens of a text at most."""
_TEXTS = 4
"""Texts that are written for a request: the likeliest, and others that are drawn."""


@dataclass(frozen=True, slots=True)
class Written:
    """Texts that a model wrote, and how well the best of them fits each item, float32 [items]."""

    texts: tuple[str, ...]
    scores: np.ndarray


class FreeWriter(ScoringRecommender):
    """Recommends the items that a model's own words name; see `decode.readout.Readout`.

    For people, scores are log-odds that a text names the item, and nothing is shown where even the best item
    is not surely enough named. `recommend` and `rank` always give full lists, by how well the items fit.
    """

    writes = False  # when it looks for items it has written already

    def __init__(self, asking: Asking, engine: TokenEngine, grounder: Grounder, texts: int = _TEXTS) -> None:
        """`engine` continues the prompts of `asking`; `grounder` is of the same catalogue."""
        super().__init__("llmrec-free-text", asking.prepared.catalog)
        self.filters.facts = asking.facts
        self._asking = asking
        self._engine = engine
        self._grounder = grounder
        self._texts = texts
        tokenizer = asking.tokens.tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self._tokens = np.arange(len(tokenizer))
        self.setting = f"free text, {texts} texts"

    def read(self, requests: Sequence[Request]) -> list[Written]:
        """What the model writes for each request; the same request, the same words."""
        return [self._written(request) for request in requests]

    def _written(self, request: Request) -> Written:
        prompt = self._asking.prompt(request, _LONGEST)
        rows = write(self._engine, prompt, self._tokens, self._ended, _LONGEST, self._texts)
        texts = tuple(dict.fromkeys(text for text in map(self._text, rows) if text))
        if not texts:
            return Written((), np.zeros(len(self.catalog), dtype=np.float32))
        return Written(texts, self._grounder.scores(texts).max(axis=0))

    def _ended(self, row: Sequence[int]) -> bool:
        """A text is a line: it ends with one, or with any of the tokenizer's special tokens."""
        return row[-1] in self._special or "\n" in str(self._asking.tokens.tokenizer.decode(row[-1:]))

    def _text(self, row: Sequence[int]) -> str:
        line = str(self._asking.tokens.tokenizer.decode(row, skip_special_tokens=True))
        return clean(line.partition("\n")[0], TITLE_LIMIT, self._asking.forbidden)

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """How well items fit what is written for each request, float32 [requests, items]."""
        return np.stack([written.scores for written in self.read(requests)])

    def nearest(self, wanted: Sequence[Wanted]) -> list[Found]:
        """The allowed items that fit best, and their log-odds; none when nothing fits."""
        best = [self._grounder.best(each.read.scores, each.k, each.allowed) for each in wanted]
        return [(found.items, found.log_odds) for found in best]

    def item_vectors(self, items: np.ndarray) -> np.ndarray:
        """Items are alike that share words of their titles, float32 [n, width]."""
        return HashEncoder().encode([self._asking.titles[item] for item in items.tolist()])

    def because(
        self, request: Request, read: Written, items: np.ndarray, allowed: np.ndarray
    ) -> list[tuple[Cause, ...]]:
        """Not measured."""
        return [()] * len(items)

    def said(self, read: Written, allowed: np.ndarray) -> tuple[str, ...]:
        """What the model wrote, and how sure the best item is."""
        wrote = ", ".join(f'"{text}"' for text in read.texts) or "nothing"
        found = self._grounder.best(read.scores, 1, allowed)
        sure = f"confidence {found.confidence:.2f}"
        if len(found.items):
            return (f"the model wrote {wrote}", sure)
        asked = f"{sure}, {self._grounder.threshold:.2f} is asked for"
        return (f"the model wrote {wrote}", f"nothing that may be shown fits ({asked})")
