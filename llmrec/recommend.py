"""Asking a bundle: a recommender on the common contract, and answers to wishes in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from llmrec.bundle import Bundle
from llmrec.config import Recipe
from llmrec.data.catalog import Value
from llmrec.data.events import History
from llmrec.decode.contract import Filters, Request
from llmrec.decode.understand import limits_in_words, understand
from llmrec.decode.why import Cause, causes
from llmrec.engines.contract import Branching, Engine
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.retrieve.rank import top_k
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.prompt import Prompt

NOTHING_SEEN = Filters(exclude_seen=True)
"""The limits of a question that names none: items of the history are left out."""
_CATEGORIES_SHOWN = 10


class LanguageRecommender(ScoringRecommender):
    """Scores the catalogue at the query tokens: max over queries of <U^T h_m, v> (URM section 1.3)."""

    def __init__(self, bundle: Bundle, engine: Engine | None = None, name: str = "llmrec") -> None:
        """`engine` must run the bundle's merged model; by default transformers does, on this machine."""
        super().__init__(name, bundle.catalog)
        self.bundle = bundle
        self._tokens = bundle.tokens()
        self._verbalizer = bundle.verbalizer(tuple(self._tokens.tokenizer.all_special_tokens))
        self._table = np.array(bundle.item_matrix())
        self.engine = bundle.engine() if engine is None else engine
        self._inward, self._recent = bundle.head()
        self.setting = _setting(bundle.recipe)

    def prompt(self, request: Request) -> Prompt:
        """The prompt that asks `request`, with as many of the newest events as fit the base model.

        Raises `LlmrecError` when a wish or a user's attributes leave no room for one event.
        """
        return self._fitted(request)[0]

    def _fitted(self, request: Request, most: int | None = None) -> tuple[Prompt, History]:
        """The prompt, and the events that it holds, at most `most`."""
        known: Mapping[str, Value] = {}
        if request.user is not None:
            known = self.bundle.prepared.attributes(request.user)
        return self._tokens.fit(self._verbalizer, request.history, request.words, known, most=most)

    def user_vectors(self, requests: Sequence[Request]) -> np.ndarray:
        """One vector a query, float32 [requests, M, inner]; what prompts share at their head is read once."""
        return self._vectors([self._fitted(request) for request in requests])

    def user_vectors_many(self, requests: Sequence[Request]) -> np.ndarray:
        """The same for several wishes of one user, whose history is read once whatever their length.

        Where the base model's context is too small for all of a history, every wish is asked with as many
        events as fit beside the one that leaves least room. Raises `ValueError` when users differ.
        """
        if any((each.history, each.user) != (requests[0].history, requests[0].user) for each in requests):
            raise ValueError("the requests are not of one user with one history")
        fitted = [self._fitted(request) for request in requests]
        least = min((len(kept) for _, kept in fitted), default=0)
        return self._vectors(
            [
                pair if len(pair[1]) == least else self._fitted(request, least)
                for request, pair in zip(requests, fitted, strict=True)
            ]
        )

    def _vectors(self, fitted: Sequence[tuple[Prompt, History]]) -> np.ndarray:
        """User vectors of prompts and the events that they hold."""
        if not fitted:
            return np.zeros((0, self.bundle.recipe.prompt.queries, len(self._inward)), dtype=np.float32)
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
        found = np.empty((len(fitted), queries, len(self._inward)), dtype=np.float32)
        for rows, states in zip(alike.values(), self.engine.branch_states(branchings, at), strict=True):
            vectors = states @ self._inward.T
            found[rows] = vectors[:, 1:]
            if self.bundle.recipe.head.history_state:  # as `model.query_head` does
                found[rows] += vectors[:, :1]
        return found + np.stack([self._of_recent(kept) for _, kept in fitted])[:, None]

    def _of_recent(self, history: History) -> np.ndarray:
        """The part of a user vector that the newest items make, float32 [inner]."""
        newest = [event.item for event in reversed(history)][: len(self._recent)]
        found: np.ndarray = self._recent[: len(newest)] @ self._table[newest]
        return found

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items, float32 [requests, items]."""
        if not requests:
            return np.zeros((0, len(self.catalog)), dtype=np.float32)
        scores: np.ndarray = (self.user_vectors(requests) @ self._table.T).max(axis=1)
        return scores

    def scores_many(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items for several wishes of one user; see `user_vectors_many`."""
        self._check(requests)
        vectors = self.user_vectors_many(requests)
        return np.stack([(each @ self._table.T).max(axis=0) for each in vectors])

    def item_vectors(self, items: np.ndarray) -> np.ndarray:
        """Rows of V, float32 [n, inner], by which items are alike."""
        rows: np.ndarray = self._table[items]
        return rows


def _setting(recipe: Recipe) -> str:
    """The recipe in a few words, for reports."""
    size = "all layers" if recipe.layers is None else f"first {recipe.layers} layers"
    fresh = ", fresh weights" if recipe.random else ""
    adapter = recipe.adapter.kind + (f" rank {recipe.adapter.rank}" if recipe.adapter.kind == "lora" else "")
    return f"{Path(recipe.model).name}, {size}{fresh}, {adapter}, {recipe.prompt.queries} queries"


@dataclass(frozen=True, slots=True)
class Answer:
    """One recommended item; `because` is what weighed most for it, see `llmrec.why`."""

    item: str
    title: str
    price: float | None
    score: float
    because: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """A list, what was enforced exactly, what was left to the model, and notes (short lists)."""

    items: tuple[Answer, ...]
    enforced: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Shop:
    """A bundle that answers people: `Shop.open("bundle").ask(user="12583", say="something for tea")`."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.recommender = LanguageRecommender(bundle)
        self.catalog = bundle.catalog

    @classmethod
    def open(cls, directory: str | Path) -> Shop:
        """Open the bundle in `directory`; raises `BundleError` when it cannot be used."""
        return cls(Bundle(Path(directory)))

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words of the catalogue, with which wishes are read."""
        return Lexicon(self.catalog)

    def ask(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        say: str = "",
        k: int = 10,
        filters: Filters = NOTHING_SEEN,
        enforce: bool = True,
        hear: bool = True,
        why: bool = False,
    ) -> Answers:
        """Recommend `k` items to a user of the data, or after a history of item ids.

        `say` is the wish: the model hears it (unless `hear` is off), and what can be held exactly is
        enforced (unless `enforce` is off). Where no item at all is what the wish asks, its words (not its
        prices, nor what it rules out) are left to the model, and a note says so. `filters` hold in any case;
        by default they leave out what is in the history. `why` measures what weighed most, at the cost of
        more prompts. Raises `LlmrecError` for unknown ids, categories and attributes, and when the limits
        leave no item.
        """
        if k < 1:
            raise LlmrecError(f"k is {k}, it must be at least 1")
        events, position = self.bundle.prepared.asker(user, history)
        self._check(filters)
        wish = understand(say, self.lexicon, enforce, hear)
        notes = []
        allowed = self.recommender.filters.mask(wish.limits(filters), events)
        if not allowed.any() and wish.enforced.include_words:
            said = ", ".join(f'"{word}"' for word in wish.enforced.include_words)
            notes.append(f"nothing in the catalogue is all of that; not enforced: {said}")
            wish = wish.without_words()
            allowed = self.recommender.filters.mask(wish.limits(filters), events)
        limits = wish.limits(filters)
        held = limits_in_words(limits if events else replace(limits, exclude_seen=False), self.catalog)
        count = int(allowed.sum())
        if count == 0:
            hint = "" if wish.enforced.empty else ", or enforce nothing of the wish (--no-enforce)"
            raise LlmrecError(f"no item of the catalogue is all of: {'; '.join(held)}: ask for less{hint}")
        if count < k:
            notes.append(f"only {count:,} of {len(self.catalog):,} items may be shown")
        request = Request(events, wish.heard, wish.meant, limits, position)
        scores = self.recommender.scores([request])
        index, best = top_k(scores, allowed[None], min(k, count))
        reasons: Sequence[tuple[Cause, ...]] = [()] * index.shape[1]
        if why:
            reasons = causes(self.recommender, request, scores[0], index[0], allowed)
        answers = []
        for item, score, because in zip(index[0].tolist(), best[0].tolist(), reasons, strict=True):
            found = self.catalog[item]
            answers.append(Answer(found.id, found.title, found.price, score, because))
        return Answers(tuple(answers), held, wish.left(limits, self.catalog), tuple(notes))

    def _check(self, filters: Filters) -> None:
        """Refuse what a filter can only name by mistake; `FilterIndex.mask` checks the rest."""
        for name, bound in (("highest", filters.max_price), ("lowest", filters.min_price)):
            if bound is not None and not math.isfinite(bound):
                raise LlmrecError(f"the {name} price is {bound}: give a finite number or leave it out")
        for name in (*filters.include_categories, *filters.exclude_categories):
            if not len(self.recommender.filters.with_category(name)):
                raise UnknownIdError(f"no item is of the category {name!r}: {self._categories()}")

    def _categories(self) -> str:
        """The catalogue's categories for an error message, the most frequent first."""
        counts = Counter(name for item in self.catalog.items for name in item.categories)
        if not counts:
            return "this catalogue has no categories"
        names = ", ".join(name for name, _ in counts.most_common(_CATEGORIES_SHOWN))
        return f"the catalogue has {names}" + (" and others" if len(counts) > _CATEGORIES_SHOWN else "")
