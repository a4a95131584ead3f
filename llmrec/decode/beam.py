"""Beam search inside a catalogue: the k best items by what a language model writes, and nothing else.

Level by level, the `width` best prefixes of each request are kept, among those that lead to an item that
the request allows; a sequence that ends leaves its place and goes to the results. What a score is stands in
`decode.conventions`.

Lists are full: they hold k items, or all allowed ones where these are fewer. The beam is at least k wide, and
a prefix is kept only when an allowed item is below it. So while nothing is cut, everything allowed is found;
and after a cut there are at least k prefixes and results together, and each prefix that goes on becomes at
least one prefix or result, until all are results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.decode.allowed import AllowedBelow
from llmrec.decode.caps import SPARE, CategoryCap, capped_lists
from llmrec.decode.continuations import TokenEngine
from llmrec.decode.contract import Gains
from llmrec.decode.conventions import SCORES, Scores
from llmrec.decode.gaining import Gaining
from llmrec.decode.levels import LevelSearch, Limits
from llmrec.errors import LlmrecError
from llmrec.items.trie import Trie

_PLACES = 4096
"""Places of all beams of a pass, at most (one beam may be wider): what they look at is in memory at once."""


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """How wide to look, what a score is, and how much lists should vary.

    width: prefixes kept at a level; where more items are asked for, as many as these. scores: one of
    `conventions.SCORES`. temperature: above 0 the first tokens are drawn without replacement from their
    probabilities to the power 1 / temperature, and what follows is chosen below them (Gumbel top-k). groups:
    the places of a level go to so many groups in turn, and each time that an earlier group took a token
    costs that token `penalty` (diverse beam search); each group gives an equal share of the list. batch:
    requests that share passes through the model, at most.
    """

    width: int = 20
    scores: Scores = "raw"
    temperature: float = 0.0
    groups: int = 1
    penalty: float = 1.0
    batch: int = 32

    def __post_init__(self) -> None:
        if self.scores not in SCORES:
            raise LlmrecError(f"beam: scores is {self.scores!r}, it must be one of: {', '.join(SCORES)}")
        for name, least in (("width", 1), ("temperature", 0), ("groups", 1), ("penalty", 0), ("batch", 1)):
            if not getattr(self, name) >= least:
                raise LlmrecError(f"beam: {name} is {getattr(self, name)}, it must be at least {least}")


class BeamSearch:
    """Finds items of one catalogue with one engine."""

    def __init__(
        self,
        trie: Trie,
        engine: TokenEngine,
        settings: BeamSettings | None = None,
        levels: Sequence[np.ndarray] | None = None,
        falls: bool = True,
    ) -> None:
        """`levels` are the sorted token ids of each place of a sequence that raw scores compare.

        By default they are those that some item has there. Raises `ValueError` where they lack one. `falls`:
        the engine gives log-probabilities, which are never above 0, so that a sequence never gets better as
        it grows; an engine whose values may be above 0 needs False, and scores "vocabulary".
        """
        self.trie = trie
        self.engine = engine
        self.settings = settings or BeamSettings()
        self._falls = falls
        self.levels = trie.choices if levels is None else tuple(np.asarray(level) for level in levels)
        if len(self.levels) != trie.depth or not all(
            np.isin(own, level).all() for own, level in zip(trie.choices, self.levels, strict=True)
        ):
            raise ValueError("the tokens of the levels lack some that items have there")

    def search(
        self,
        prompts: Sequence[Sequence[int]],
        k: int | np.ndarray,
        allowed: np.ndarray | None = None,
        seeds: Sequence[int] | None = None,
        cap: CategoryCap | None = None,
        gains: Sequence[Gains] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best allowed items of each prompt, best first; of equal scores the first in the trie's order.

        `k` may be int64 [prompts]: a list is the same, however long the others are.
        `allowed` is bool [prompts, items] or None (all); `seeds`, one a prompt, are needed when first tokens
        are drawn; `cap` limits the items of one category in a list. `gains`, one a prompt, are added to the
        scores of some items: those that rise are found in the narrowest beam. Returns index int64
        [prompts, largest k] and score float32, -1 and -inf where fewer than k items are allowed (with a cap:
        where no other item fits). Raises `LlmrecError` when k is below 1 or the model gives no finite
        number.
        """
        lengths = np.broadcast_to(np.asarray(k, dtype=np.int64), len(prompts))
        least = int(np.min(k, initial=1))
        if least < 1:
            raise LlmrecError(f"k is {least}, it must be at least 1")
        if self.settings.temperature > 0 and (seeds is None or len(seeds) != len(prompts)):
            raise ValueError("drawing the first tokens needs a seed for each prompt")
        index = np.full((len(prompts), int(np.max(k, initial=0))), -1, dtype=np.int64)
        score = np.full(index.shape, -np.inf, dtype=np.float32)
        for rows in self._alike(lengths):
            own = rows.tolist()
            longest = int(lengths[rows].max())
            index[rows, :longest], score[rows, :longest] = self._together(
                [prompts[row] for row in own],
                lengths[rows],
                None if allowed is None else allowed[rows],
                None if seeds is None else [seeds[row] for row in own],
                cap,
                None if gains is None else [gains[row] for row in own],
            )
        return index, score

    def _alike(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """The rows int64 that are searched together, given the lengths of their lists, int64 [prompts].

        A pass has as many places for each prompt as the widest beam of all needs, so beams that go together
        are at most twice as wide as each other, and wide ones are few.
        """
        widths = np.minimum(np.maximum(self.settings.width, lengths), self.trie.items)
        order = np.argsort(widths, kind="stable")
        while len(order):
            some = widths[order[: self.settings.batch]]
            places = some * np.arange(1, len(some) + 1)
            count = max(1, int(((some <= 2 * some[0]) & (places <= _PLACES)).sum()))
            yield order[:count]
            order = order[count:]

    def _together(
        self,
        prompts: Sequence[Sequence[int]],
        k: np.ndarray,
        allowed: np.ndarray | None,
        seeds: Sequence[int] | None,
        cap: CategoryCap | None,
        gains: Sequence[Gains] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        everyone = np.arange(len(prompts))
        below = None if allowed is None else AllowedBelow(self.trie, allowed)
        gaining, least = None, k
        if gains is not None and any(len(items) for items, _ in gains):
            gaining = Gaining(self.trie, gains, allowed)
            least = k + gaining.spare
        search = LevelSearch(
            self.trie,
            self.levels,
            self.engine.begin(prompts),
            self.settings.scores,
            np.maximum(self.settings.width, least),
            k if cap is None else SPARE * k,
            self._draws(len(prompts), seeds),
            self.settings.groups,
            self.settings.penalty,
            self._falls,
            gaining,
        )
        if cap is not None:
            return self._by_score(*capped_lists(search, below, k, cap))
        found = search.lists(Limits(everyone, below, below))
        varied = self.settings.temperature > 0 or self.settings.groups > 1
        return self._by_score(*found) if varied else found

    def _by_score(self, index: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lists [prompts, k] in the order of their scores; of equal scores the first in the trie's order."""
        rank = np.zeros_like(index)
        rank[index >= 0] = self.trie.rank[index[index >= 0]]
        order = np.lexsort((rank, -score), axis=1)
        return np.take_along_axis(index, order, axis=1), np.take_along_axis(score, order, axis=1)

    def _draws(self, prompts: int, seeds: Sequence[int] | None) -> np.ndarray | None:
        """What is added to the score of each first token, float64 [prompts, tokens]; None for nothing."""
        if self.settings.temperature == 0 or seeds is None or not self.trie.depth:
            return None
        nodes = int(np.diff(self.trie.starts)[self.trie.first_choice + 1])
        noise = np.empty((prompts, nodes))
        for row, seed in enumerate(seeds):
            noise[row] = np.random.default_rng(seed).gumbel(size=nodes)
        return self.settings.temperature * noise
