"""Asking a bundle: a recommender on the common contract, and answers to wishes in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from llmrec.bundle import Bundle
from llmrec.data.catalog import Value
from llmrec.data.events import Event, History
from llmrec.decode.contract import Filters, Request
from llmrec.decode.filters import from_objective, merge
from llmrec.decode.understand import understand
from llmrec.engines.contract import Engine
from llmrec.errors import LlmrecError
from llmrec.retrieve.rank import top_k
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.prompt import Prompt

EXPLAINED_EVENTS = 16
"""Newest events whose weight is measured; each costs one more prompt."""


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
        self._inward = bundle.inward()

    def prompt(self, request: Request) -> Prompt:
        """The prompt that asks `request`."""
        known: Mapping[str, Value] = {}
        if request.user is not None:
            known = self.bundle.prepared.attributes(request.user)
        return self._verbalizer.prompt(request.history, request.words, known)

    def user_vectors(self, requests: Sequence[Request]) -> np.ndarray:
        """One vector a query, float32 [requests, M, inner]."""
        prompts = [self._tokens.prompt(self.prompt(request)) for request in requests]
        states = self.engine.hidden_states(prompts, self.bundle.recipe.prompt.queries)
        vectors: np.ndarray = states @ self._inward.T
        return vectors

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items, float32 [requests, items]."""
        if not requests:
            return np.zeros((0, len(self.catalog)), dtype=np.float32)
        scores: np.ndarray = (self.user_vectors(requests) @ self._table.T).max(axis=1)
        return scores


@dataclass(frozen=True, slots=True)
class Answer:
    """One recommended item and what weighed most for it.

    `because` lists past events' titles, or "your words", with the fall of the item's log-probability
    when that event (or the wish) is taken out of the prompt and the model is asked again.
    """

    item: str
    title: str
    price: float | None
    score: float
    because: tuple[tuple[str, float], ...] = ()


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

    def history(self, user: str | None, items: Sequence[str] | None) -> tuple[History, int | None]:
        """Events of a known user, or of a list of item ids; and the user's position."""
        if (user is None) == (items is None):
            raise LlmrecError("say who asks: either a user of the data or a history of item ids")
        if user is not None:
            position = self.bundle.prepared.histories.index(user)
            return self.bundle.prepared.histories.history(position), position
        types = self.bundle.prepared.histories.event_types
        kind = types[0] if len(types) == 1 else ""
        return tuple(Event(item, type=kind) for item in self.catalog.indices(list(items or ()))), None

    def ask(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        say: str = "",
        k: int = 10,
        filters: Filters | None = None,
        enforce: bool = True,
        hear: bool = True,
        why: bool = False,
    ) -> Answers:
        """Recommend `k` items to a user of the data, or after a history of item ids.

        `say` is the wish: the model hears it (unless `hear` is off), and what can be held exactly is
        enforced (unless `enforce` is off). `filters` hold in any case. `why` measures what weighed most.
        Raises `LlmrecError` for unknown ids, and when nothing in the catalogue satisfies the limits.
        """
        if k < 1:
            raise LlmrecError(f"k is {k}, it must be at least 1")
        events, position = self.history(user, history)
        wish = understand(say, self.lexicon, enforce, hear)
        limits = merge(filters or Filters(), from_objective(wish.enforced))
        request = Request(events, wish.heard, wish.meant, limits, position)
        allowed = self.recommender.filters.mask(limits, events)
        count = int(allowed.sum())
        if count == 0:
            asked = ", ".join(wish.enforced_words(self.catalog)) or "the filters"
            raise LlmrecError(
                f"no item of the catalogue satisfies {asked}: ask for less, or use --no-enforce"
            )
        scores = self.recommender.scores([request])
        index, best = top_k(scores, allowed[None], k)
        chosen = index[0][index[0] >= 0]
        reasons = self._why(request, chosen, allowed) if why else [()] * len(chosen)
        answers = []
        for item, score, because in zip(chosen.tolist(), best[0].tolist(), reasons, strict=False):
            found = self.catalog[item]
            answers.append(Answer(found.id, found.title, found.price, score, because))
        notes = (f"only {count} items of the catalogue satisfy this",) if count < k else ()
        return Answers(
            tuple(answers), wish.enforced_words(self.catalog), wish.left_words(self.catalog), notes
        )

    def _why(
        self, request: Request, items: np.ndarray, allowed: np.ndarray
    ) -> list[tuple[tuple[str, float], ...]]:
        """The two causes that weighed most for each item; see `Answer.because`."""
        causes, without = [], []
        first = max(0, len(request.history) - EXPLAINED_EVENTS)
        for at in range(first, len(request.history)):
            causes.append(self.catalog[request.history[at].item].title)
            shorter = request.history[:at] + request.history[at + 1 :]
            without.append(Request(shorter, request.words, user=request.user))
        if request.words:
            causes.append("your words")
            without.append(Request(request.history, user=request.user))
        if not without:
            return [()] * len(items)
        whole = _log_probabilities(self.recommender.scores([request]), allowed)[0, items]
        falls = whole[None, :] - _log_probabilities(self.recommender.scores(without), allowed)[:, items]
        reasons = []
        for column in falls.T:
            order = np.argsort(-column, kind="stable")[:2]
            reasons.append(tuple((causes[at], float(column[at])) for at in order if column[at] > 0))
        return reasons


def _log_probabilities(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Log-softmax of scores [n, items] over the allowed items; -inf elsewhere."""
    masked = np.where(allowed[None, :], scores, -np.inf)
    top = masked.max(axis=1, keepdims=True)
    result: np.ndarray = masked - top - np.log(np.exp(masked - top).sum(axis=1, keepdims=True))
    return result
