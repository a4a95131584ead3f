"""A language model that writes titles: those of the catalogue, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmrec.data.catalog import Value
from llmrec.data.facts import ItemFacts
from llmrec.data.prepared import Prepared
from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.continuations import TokenEngine
from llmrec.decode.contract import Request
from llmrec.decode.why import Cause
from llmrec.items.encoders import HashEncoder
from llmrec.items.titles import title_trie, titles_of
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

if TYPE_CHECKING:
    from llmrec.model.tokens import PromptTokens

TEMPLATE = "next_title"


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How a model is asked for words.

    max_events: newest events that a prompt holds. beam: how titles are searched. split: the split whose train
    fold tells what is popular and what is new.
    """

    max_events: int = 20
    beam: BeamSettings = BeamSettings(scores="renormalised")
    split: str = "leave-last-out"


class Asking:
    """Requests as prompts of one dataset, in the words of the template `next_title`."""

    def __init__(
        self, prepared: Prepared, tokens: PromptTokens, templates: Templates, settings: TextSettings
    ) -> None:
        self.prepared = prepared
        self.tokens = tokens
        shown = templates if TEMPLATE in templates.names else Templates.load()
        prompt = PromptSettings(TEMPLATE, "line", settings.max_events, queries=0)
        types = prepared.histories.event_types
        self.forbidden = tuple(tokens.tokenizer.all_special_tokens)
        self._verbalizer = Verbalizer(prepared.catalog, prompt, types, shown, self.forbidden)

    def __call__(self, request: Request, spare: int) -> list[int]:
        """The prompt's token ids, with as many of the newest events as leave `spare` tokens for an answer.

        Raises `LlmrecError` when a wish or a user's attributes leave no room for one event.
        """
        known: Mapping[str, Value] = {}
        if request.user is not None:
            known = self.prepared.attributes(request.user)
        prompt, _ = self.tokens.fit(self._verbalizer, request.history, request.words, known, spare)
        return self.tokens.prompt(prompt)


class TitleWriter(ScoringRecommender):
    """Recommends the items whose titles a model would write next; see `decode.readout.Readout`.

    A score is the log-probability of the title, where at each token the titles of allowed items share all of
    the probability (`decode.conventions`, "renormalised").
    """

    def __init__(
        self,
        prepared: Prepared,
        engine: TokenEngine,
        tokens: PromptTokens,
        templates: Templates | None = None,
        settings: TextSettings | None = None,
    ) -> None:
        """`engine` continues prompts of `tokens`, whose words alone are used."""
        super().__init__("llmrec-text", prepared.catalog)
        settings = settings or TextSettings()
        train = prepared.train(settings.split)
        self.filters.facts = ItemFacts.from_histories(prepared.catalog, train)
        self._asking = Asking(prepared, tokens, templates or Templates.load(), settings)
        self._titles = titles_of(prepared.catalog, self._asking.forbidden)
        self.trie = title_trie(self._titles, tokens.encode_texts, tokens.tokenizer.eos_token_id)
        self._search = BeamSearch(self.trie, engine, settings.beam)
        self.setting = f"titles, {settings.beam.width} beams"

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Log-probabilities of all titles, float32 [requests, items]: every one is computed."""
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
        return [self._asking(request, self.trie.depth) for request in requests]

    def nearest(self, read: list[int], allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best allowed items, at most k, and their scores."""
        index, score = self._search.search([read], k, allowed[None])
        found = index[0] >= 0
        return index[0, found], score[0, found]

    def item_vectors(self, items: np.ndarray) -> np.ndarray:
        """Items are alike that share words of their titles, float32 [n, width]."""
        return HashEncoder().encode([self._titles[item] for item in items.tolist()])

    def because(
        self, request: Request, read: list[int], items: np.ndarray, allowed: np.ndarray
    ) -> list[tuple[Cause, ...]]:
        """Not measured: it would take the probabilities of all titles many times."""
        return [()] * len(items)

    def said(self, read: list[int], allowed: np.ndarray) -> tuple[str, ...]:
        """Nothing: a list says it all."""
        return ()
