"""The tuned model as a recommender: prompts in, scores of the catalogue out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from llmrec.bundle import Bundle
from llmrec.config import Recipe
from llmrec.data.events import History
from llmrec.data.facts import ItemFacts
from llmrec.decode.contract import Gains, Request, known_of
from llmrec.decode.readout import Found, Wanted, found_in
from llmrec.decode.why import Cause, causes
from llmrec.engines.contract import Branching, Engine
from llmrec.items.encoders import Encoder
from llmrec.items.search_vectors import SearchVectors
from llmrec.retrieve.exact import all_scores
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.retrieve.storage import rows_of
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.parse import parse
from llmrec.verbalize.prompt import Prompt
from llmrec.verbalize.sought import Sought, sought

_MASKED = 1 << 26
"""Items masked at a time, over all requests: 64 MiB."""


@dataclass(frozen=True, slots=True)
class UserState:
    """What the model made of a request: a vector a query, float32 [M, inner + F], and `contract.Gains`."""

    vectors: np.ndarray
    gains: Gains


class LanguageRecommender(ScoringRecommender):
    """Scores the catalogue at the query tokens: max over queries of <U^T h_m, v> (URM section 1.3)."""

    writes = False

    def __init__(self, bundle: Bundle, engine: Engine | None = None, name: str = "llmrec") -> None:
        """`engine` must run the bundle's merged model; by default transformers does, on this machine."""
        super().__init__(name, bundle.catalog)
        self.bundle = bundle
        train = bundle.prepared.train(bundle.recipe.split)
        self.filters.facts = ItemFacts.from_histories(bundle.catalog, train)
        self._tokens = bundle.tokens()
        self._verbalizer = bundle.verbalizer(tuple(self._tokens.tokenizer.all_special_tokens))
        self.engine = bundle.engine() if engine is None else engine
        self._head = bundle.head()
        self._search_vectors = SearchVectors(self._text_reader, self._head.search_width)
        self.search = bundle.search()
        self.setting = _setting(bundle.recipe)

    def prompt(self, request: Request) -> Prompt:
        """The prompt that asks `request`, with as many of the newest events as fit the base model.

        Raises `LlmrecError` when a wish or a user's attributes leave no room for one event.
        """
        return self._fitted(request)[0]

    def _fitted(self, request: Request, most: int | None = None) -> tuple[Prompt, History]:
        """The prompt, and the events that it holds, at most `most`."""
        known = known_of(request, self.bundle.prepared)
        return self._tokens.fit(self._verbalizer, request.history, request.words, known, most=most)

    def user_vectors(self, requests: Sequence[Request]) -> np.ndarray:
        """One vector a query, float32 [requests, M, inner + F].

        What prompts share at their head is read once.
        """
        return self._states(requests, [self._fitted(request) for request in requests])[0]

    def read(self, requests: Sequence[Request]) -> Sequence[UserState]:
        """What the model makes of several wishes of one user, whose history is read once.

        Where the base model's context is too small for all of a history, every wish is asked with as many
        events as fit beside the one that leaves least room. Raises `ValueError` when users differ.
        """
        first = requests[0] if requests else Request(())
        asker = (first.history, first.user, first.profile)
        if any((each.history, each.user, each.profile) != asker for each in requests):
            raise ValueError("the requests are not of one user with one history")
        fitted = [self._fitted(request) for request in requests]
        least = min((len(kept) for _, kept in fitted), default=0)
        vectors, gains = self._states(
            requests,
            [
                pair if len(pair[1]) == least else self._fitted(request, least)
                for request, pair in zip(requests, fitted, strict=True)
            ],
        )
        return [UserState(*pair) for pair in zip(vectors, gains, strict=True)]

    def read_apart(self, requests: Sequence[Request]) -> Sequence[UserState]:
        """What the model makes of requests of any users together, of each as if it were asked alone."""
        vectors, gains = self._states(requests, [self._fitted(request) for request in requests])
        return [UserState(*pair) for pair in zip(vectors, gains, strict=True)]

    def _states(
        self, requests: Sequence[Request], fitted: Sequence[tuple[Prompt, History]]
    ) -> tuple[np.ndarray, list[Gains]]:
        """User vectors [n, M, inner + F] and gains, given the prompts and the events that these hold."""
        head_part = self._head
        if not fitted:
            none = np.zeros((0, self.bundle.recipe.prompt.queries, len(head_part.inward)), dtype=np.float32)
            return none, []
        wanted = self._search_vectors([self._sought(request) for request in requests])
        asks = wanted[:, head_part.search_width :]
        newest = [self._newest(kept) for _, kept in fitted]
        past = np.stack(
            [
                head_part.of_recent(self.item_vectors(items), ask)
                for items, ask in zip(newest, asks, strict=True)
            ]
        )
        queries = self.bundle.recipe.prompt.queries
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, (prompt, _) in enumerate(fitted):
            alike.setdefault(tuple(self._tokens.head(prompt)), []).append(row)
        branchings, at = [], []
        for head, rows in alike.items():
            tails = [self._tokens.encode(fitted[row][0].tail) for row in rows]
            ends = len(head) + np.array([len(tail) for tail in tails])[:, None]
            branchings.append(Branching(head, tails))
            at.append(np.insert(ends - queries + np.arange(queries), 0, len(head) - 1, axis=1))
        found = np.empty((len(fitted), queries, len(head_part.inward)), dtype=np.float32)
        for rows, states in zip(alike.values(), self.engine.branch_states(branchings, at), strict=True):
            found[rows] = head_part.at_wish(states, past[rows], wanted[rows])
        return found, [head_part.gains(items, ask) for items, ask in zip(newest, asks, strict=True)]

    def _newest(self, history: History) -> np.ndarray:
        """The newest items that the head looks at, newest first, int64."""
        newest = [event.item for event in reversed(history)][: self._head.remembered]
        return np.array(newest, dtype=np.int64)

    def _sought(self, request: Request) -> Sought:
        """What the query head is told of a wish; one that nobody has read yet is read here."""
        if not request.words:
            return Sought()
        meant = request.objective
        if meant.empty:
            meant = parse(request.words, self._lexicon)
        return sought(meant, self._lexicon)

    @cached_property
    def _lexicon(self) -> Lexicon:
        return Lexicon.of(self.bundle.prepared)

    def _text_reader(self) -> Encoder:
        from llmrec.model.text_reader import text_reader

        return text_reader(self.bundle.recipe.items.text_encoder)

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items, float32 [requests, items]."""
        if not requests:
            return np.zeros((0, len(self.catalog)), dtype=np.float32)
        return self._scores(*self._states(requests, [self._fitted(request) for request in requests]))

    def scores_of(self, read: UserState) -> np.ndarray:
        """Scores of all items for what the model made of one request, float32 [items]."""
        scores: np.ndarray = self._scores(read.vectors[None], [read.gains])[0]
        return scores

    def _scores(self, vectors: np.ndarray, gains: Sequence[Gains]) -> np.ndarray:
        """Scores of all items for user vectors float32 [n, M, inner + F] and gains, float32 [n, items]."""
        scores = all_scores(self.search.vectors, vectors)
        for row, (items, values) in zip(scores, gains, strict=True):
            row[items] += values
        return scores

    def best(self, requests: Sequence[Request], allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed items of each request, without scores of all others."""
        vectors, gains = self._states(requests, [self._fitted(request) for request in requests])
        return self.search.top_k(vectors, k, allowed, gains)

    def item_vectors(self, items: np.ndarray) -> np.ndarray:
        """Rows of V without facts, float32 [n, inner], by which items are alike."""
        rows = rows_of(self.search.vectors, items)
        return rows[:, : rows.shape[1] - self._head.facts]

    def nearest(self, wanted: Sequence[Wanted]) -> list[Found]:
        """The best items for each, and their scores."""
        return [self._nearest(each.read, each.allowed, each.k) for each in wanted]

    def _nearest(self, read: UserState, allowed: np.ndarray, k: int) -> Found:
        return found_in(*self.search.top_k(read.vectors[None], k, allowed[None], [read.gains]))[0]

    def because(
        self, request: Request, read: UserState, items: np.ndarray, allowed: np.ndarray
    ) -> list[tuple[Cause, ...]]:
        """What weighed most for each of the items, measured by leaving it out."""
        return causes(self, request, self.scores_of(read), items, allowed)

    def said(self, read: np.ndarray, allowed: np.ndarray) -> tuple[str, ...]:
        """Nothing: a list says it all."""
        return ()

    @property
    def _rows(self) -> int:
        if self.search.index is None:
            return super()._rows
        return max(1, min(64, _MASKED // len(self.catalog)))  # only masks are held


def _setting(recipe: Recipe) -> str:
    """The recipe in a few words, for reports."""
    size = "all layers" if recipe.layers is None else f"first {recipe.layers} layers"
    fresh = ", fresh weights" if recipe.random else ""
    adapter = recipe.adapter.kind + (f" rank {recipe.adapter.rank}" if recipe.adapter.kind == "lora" else "")
    return f"{Path(recipe.model).name}, {size}{fresh}, {adapter}, {recipe.prompt.queries} queries"
