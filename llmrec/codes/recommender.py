"""A model that writes codes as a recommender: prompts in, beams inside the catalogue's trie, items out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.codes.bundle import CodeBundle
from llmrec.codes.seen import read_gains
from llmrec.config import Recipe
from llmrec.data.facts import ItemFacts
from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.caps import CategoryCap
from llmrec.decode.continuations import TokenEngine
from llmrec.decode.contract import Gains, Request, known_of
from llmrec.decode.readout import Found, Wanted, found_in
from llmrec.decode.why import Cause, left_out, strongest
from llmrec.items.trie import Trie
from llmrec.retrieve.diversity import POOL, differing
from llmrec.retrieve.scoring import ScoringRecommender

_TOGETHER = 1024
"""Items whose scores are computed together: in one pass, each of their codes is compared with all others."""


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """A request as the model reads it: token ids, and what items of its history gain."""

    tokens: list[int]
    gains: Gains


class CodeRecommender(ScoringRecommender):
    """Recommends the items whose IDs the model writes next; see `decode.readout.Readout`.

    A score is the log-probability of the codes, each over all codes of its level (`decode.conventions`,
    "raw"), and for items of the history what these gain (`codes.seen`): it does not depend on filters.
    """

    writes = True

    def __init__(
        self,
        bundle: CodeBundle,
        engine: TokenEngine | None = None,
        beams: BeamSettings | None = None,
        name: str = "llmrec-codes",
        most: int | None = None,
        seed: int = 0,
    ) -> None:
        """`engine` must run the bundle's model; by default transformers does, on this machine.

        `beams` are by default as wide as in validation. `most`: items of one category in a list, at most.
        `seed`: with another one the same request draws other first codes, where `beams` draw them.
        """
        super().__init__(name, bundle.catalog)
        self.bundle = bundle
        train = bundle.prepared.train(bundle.recipe.split)
        facts = ItemFacts.from_histories(bundle.catalog, train)
        self.filters.facts = facts
        self._tokens = bundle.tokens()
        self._verbalizer = bundle.verbalizer(tuple(self._tokens.tokenizer.all_special_tokens))
        self._codes = bundle.ids().codes
        self._seen = read_gains(bundle.directory)
        settings = beams or BeamSettings(width=bundle.recipe.codes.beam)
        self._search = BeamSearch(
            Trie.build(self._tokens.sequences),
            bundle.engine() if engine is None else engine,
            settings,
            self._tokens.tokens.levels,
        )
        self._cap = None if most is None else CategoryCap(facts.categories, most)
        self._seed = seed
        self.setting = _setting(bundle.recipe, settings, most)

    def read(self, requests: Sequence[Request]) -> list[ReadHistory]:
        """The prompts, as token ids, with as many of the newest events as fit the model before the codes.

        Long ones fill whole blocks of an engine's cache (`CodePrompts.whole_blocks`).

        Raises `LlmrecError` when a wish or a user's attributes leave no room for one event.
        """
        return [self._read(request) for request in requests]

    def _read(self, request: Request, blocks: bool = True) -> ReadHistory:
        """Events that the prompt does not hold gain nothing: the model has not read them."""
        known, spare = known_of(request, self.bundle.prepared), self._codes.shape[1]
        prompt, kept = self._tokens.fit(self._verbalizer, request.history, request.words, known, spare)
        tokens, lost = self._tokens.whole_blocks(prompt) if blocks else (self._tokens.prompt(prompt), 0)
        # Where what was had before is wanted, the gains of plain questions do not hold.
        newest = [] if request.objective.seen_before else [event.item for event in reversed(kept[lost:])]
        return ReadHistory(tokens, self._seen.of(newest))

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items, float32 [requests, items]: every code of every item is computed."""
        scores = np.empty((len(requests), len(self.catalog)), dtype=np.float32)
        for start in range(0, len(self.catalog), _TOGETHER):
            items = self._search.trie.order[start : start + _TOGETHER]  # those with one beginning together
            for row, request in enumerate(requests):
                scores[row, items] = self._scores_of(self.read([request]), items)[0]
        return scores

    def _scores_of(self, reads: Sequence[ReadHistory], items: np.ndarray) -> np.ndarray:
        """Scores of distinct items int64 [n], float32 [requests, n]; the others cost nothing."""
        allowed = np.zeros((len(reads), len(self.catalog)), dtype=bool)
        allowed[:, items] = True
        index, found = self._found(reads, allowed, len(items))
        scores = np.empty(allowed.shape, dtype=np.float32)
        np.put_along_axis(scores, index, found, axis=1)
        own: np.ndarray = scores[:, items]
        return own

    def best(self, requests: Sequence[Request], allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed items of each request, as beam search finds them.

        A list whose objective is diverse is chosen among more of them, as `recommend.Shop` does it.
        """
        varied = np.array([request.objective.diverse for request in requests], dtype=bool)
        index = np.full((len(requests), k), -1, dtype=np.int64)
        score = np.full((len(requests), k), -np.inf, dtype=np.float32)
        found = self._found(self.read(requests), allowed, np.where(varied, POOL * k, k), self._cap)
        for row, (ids, scores) in enumerate(found_in(*found)):
            if varied[row]:
                weight = requests[row].objective.weight("diverse")
                chosen = np.sort(differing(scores, self.item_vectors(ids), k, weight))
                ids, scores = ids[chosen], scores[chosen]
            index[row, : len(ids)], score[row, : len(ids)] = ids, scores
        return index, score

    def nearest(self, wanted: Sequence[Wanted]) -> list[Found]:
        """The best items for each, and their scores, in one search."""
        if not wanted:
            return []
        lengths, allowed = np.array([each.k for each in wanted]), np.stack([each.allowed for each in wanted])
        return found_in(*self._found([each.read for each in wanted], allowed, lengths, self._cap))

    def _found(
        self,
        reads: Sequence[ReadHistory],
        allowed: np.ndarray,
        k: int | np.ndarray,
        cap: CategoryCap | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `BeamSearch.search`, of what was read, with what items of the histories gain.

        Draws depend on the prompt: the same request gives the same list, whatever is asked beside it.
        """
        tokens = [read.tokens for read in reads]
        seeds = [zlib.crc32(np.array(own, dtype="<i8").tobytes(), self._seed) for own in tokens]
        return self._search.search(tokens, k, allowed, seeds, cap, [read.gains for read in reads])

    def item_vectors(self, items: np.ndarray) -> np.ndarray:
        """Items are alike that share first codes: one cell for each beginning of an ID, float32 [n, width].

        A cell of a longer beginning counts half of the one before.
        """
        codes = self._codes[items]
        parts = []
        for level in range(codes.shape[1]):
            _, number = np.unique(codes[:, : level + 1], axis=0, return_inverse=True)
            cells = np.zeros((len(codes), int(number.max(initial=-1)) + 1), dtype=np.float32)
            cells[np.arange(len(codes)), number.ravel()] = 2.0 ** (-level / 2)
            parts.append(cells)
        return np.concatenate(parts, axis=1)

    def because(
        self, request: Request, read: ReadHistory, items: np.ndarray, allowed: np.ndarray
    ) -> list[tuple[Cause, ...]]:
        """The causes that weighed most for each of the items: see `decode.why`.

        The probabilities of codes are over the whole catalogue, whatever the limits allow.
        """
        names, without = left_out(self, request)
        if not without or not len(items):
            return [()] * len(items)
        # Filled to blocks, a prompt without one event might lose many of the oldest with it.
        reads = [self._read(each, blocks=False) for each in (request, *without)]
        whole, *less = self._scores_of(reads, items)
        return strongest(names, whole - np.stack(less))

    def said(self, read: ReadHistory, allowed: np.ndarray) -> tuple[str, ...]:
        """Nothing: a list says it all."""
        return ()


def _setting(recipe: Recipe, beams: BeamSettings, most: int | None) -> str:
    """The recipe in a few words, for reports."""
    size = "all layers" if recipe.layers is None else f"first {recipe.layers} layers"
    fresh = ", fresh weights" if recipe.random else ""
    adapter = recipe.adapter.kind + (f" rank {recipe.adapter.rank}" if recipe.adapter.kind == "lora" else "")
    varied = f", temperature {beams.temperature:g}" if beams.temperature else ""
    varied += f", {beams.groups} groups" if beams.groups > 1 else ""
    varied += "" if most is None else f", at most {most} of a category"
    return f"{Path(recipe.model).name}, {size}{fresh}, {adapter}, codes, {beams.width} beams{varied}"
