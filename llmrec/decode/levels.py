"""One search through the levels of a trie, for all requests of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from llmrec.decode.allowed import AllowedBelow
from llmrec.decode.choosing import and_others, best, best_in_groups, in_turn, rank_within
from llmrec.decode.continuations import Continuations
from llmrec.decode.conventions import child_scores, to_ask
from llmrec.decode.gaining import Gaining
from llmrec.errors import LlmrecError
from llmrec.items.trie import Trie, ranges


@dataclass(frozen=True, slots=True)
class Limits:
    """What a search may find.

    `requests` int64 [r], sorted, are the prompts that take part. `allowed` counts what the filters of each
    prompt let through (None: everything), `open` what its list may still take, which is some of that.
    """

    requests: np.ndarray
    allowed: AllowedBelow | None
    open: AllowedBelow | None


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Nodes that were reached, sorted by request: all fields are [n].

    `value` is what the search goes by: the score, and with a drawn first token what the draw adds to it.
    """

    request: np.ndarray
    node: np.ndarray
    score: np.ndarray
    value: np.ndarray
    group: np.ndarray

    def take(self, places: np.ndarray) -> _Nodes:
        return _Nodes(*(getattr(self, each.name)[places] for each in fields(self)))

    def and_(self, other: _Nodes) -> _Nodes:
        """Both, sorted by request."""
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        both = _Nodes(*map(np.concatenate, pairs))
        return both.take(np.argsort(both.request, kind="stable"))


@dataclass(frozen=True, slots=True)
class _Told:
    """What the session knows of each node's prefix.

    `path` int64 [n, level] are its tokens; the first `fed` int64 [n] are the session's prefix `number`
    int64 [n], those behind had only one way on.
    """

    path: np.ndarray
    number: np.ndarray
    fed: np.ndarray

    @property
    def tails(self) -> list[np.ndarray]:
        return [row[fed:] for row, fed in zip(self.path, self.fed.tolist(), strict=True)]


class LevelSearch:
    """Beam search in one session of an engine; the same prompts can be searched again with other limits."""

    def __init__(
        self,
        trie: Trie,
        levels: Sequence[np.ndarray],
        session: Continuations,
        scores: str,
        width: np.ndarray,
        k: np.ndarray,
        draws: np.ndarray | None,
        groups: int,
        penalty: float,
        falls: bool = True,
        gaining: Gaining | None = None,
    ) -> None:
        """`width` int64 [prompts] are the places of a level, `k` int64 [prompts] the lengths of the lists.

        `draws` float64 [prompts, nodes] is added to the value of the nodes of the first choice. `falls`:
        values never grow with the level.
        """
        self.trie = trie
        self.k = k
        self._levels = levels
        self._session = session
        self._scores = scores
        self._width = width
        self._draws = draws
        self._groups = groups
        self._penalty = penalty
        self._falls = falls
        self._gaining = gaining
        self._prompts = session.prefixes
        self._results = k + (0 if gaining is None else gaining.spare)

    def lists(self, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each prompt and their scores, [prompts, largest k]; -1 and -inf for none.

        In the order in which they were chosen, of groups in turn: without draws and groups, by score.
        """
        running, told = self._start(limits)
        ended = running.take(running.request[:0])
        for level in range(self.trie.depth):
            if not len(running.node):
                break
            of, grown, told = self._grow(running, told, level, limits)
            ends = self.trie.ends(grown.node)
            ended = self._best_ended(ended.and_(grown.take(np.flatnonzero(ends))))
            going = np.flatnonzero(~ends)
            kept, group = self._chosen(grown.take(going), self._cut(ended))
            of, running = of[going[kept]], grown.take(going[kept])
            running = _Nodes(running.request, running.node, running.score, running.value, group)
            path = np.concatenate([told.path[of], self.trie.tokens[running.node][:, None]], axis=1)
            told = _Told(path, told.number[of], told.fed[of])
        return self._items(ended, limits.open)

    def _start(self, limits: Limits) -> tuple[_Nodes, _Told]:
        """The root for each request that may have an item."""
        request = limits.requests if self.trie.items else limits.requests[:0]
        if limits.open is not None:
            request = request[limits.open.count(request, np.zeros_like(request)) > 0]
        zeros, count = np.zeros_like(request), len(request)
        group = np.full(count, 0 if self._groups == 1 else -1)
        nodes = _Nodes(request, zeros, np.zeros(count), np.zeros(count), group)
        return nodes, _Told(np.zeros((count, 0), dtype=np.int64), request, zeros)

    def _grow(
        self, running: _Nodes, told: _Told, level: int, limits: Limits
    ) -> tuple[np.ndarray, _Nodes, _Told]:
        """All open children: places of their parents, nodes, and what the session knows of parents."""
        of, child = self.trie.children_of(running.node)
        if limits.allowed is not None:
            there = limits.allowed.count(running.request[of], child) > 0
            of, child = of[there], child[there]
        asked = to_ask(self._scores, of, len(running.node), self._levels[level])
        added = np.zeros(len(of))
        if asked.any():
            rows, mine = np.flatnonzero(asked), np.flatnonzero(asked[of])
            asking = _Told(told.path[rows], told.number[rows], told.fed[rows])
            number, fed = told.number.copy(), told.fed.copy()
            number[rows], fed[rows] = self._session.prefixes + np.arange(len(rows)), level
            added[mine] = child_scores(
                self._scores,
                self._session,
                asking.number,
                asking.tails,
                (np.cumsum(asked) - 1)[of[mine]],
                self.trie.tokens[child[mine]],
                self._levels[level],
            )
            told = _Told(told.path, number, fed)
        if not np.isfinite(added).all():
            raise LlmrecError("the model gave probabilities that are not finite: it diverged, fit it again")
        if limits.open is not None and limits.open is not limits.allowed:
            there = limits.open.count(running.request[of], child) > 0
            of, child, added = of[there], child[there], added[there]
        request, value = running.request[of], running.value[of] + added
        if self._draws is not None and level == self.trie.first_choice:
            value = value + self._draws[request, child - self.trie.starts[level + 1]]
        return of, _Nodes(request, child, running.score[of] + added, value, running.group[of]), told

    def _chosen(self, grown: _Nodes, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the nodes that go on stay in the beam, and their groups.

        Those below `cut` [prompts] of their prompt cannot get into its list any more: values only fall. What
        leads to an item that rises stays in any case.
        """
        rising = self._rising(grown)
        hopeful = np.flatnonzero((grown.value >= cut[grown.request]) | rising)
        grown, rising = grown.take(hopeful), rising[hopeful]
        place = self.trie.first[grown.node]
        if self._groups == 1:
            kept = and_others(best(grown.request, grown.value, place, self._width), rising, grown.request)
            return hopeful[kept], grown.group[kept]
        token = self.trie.tokens[grown.node]
        kept, owner = best_in_groups(
            grown.request, grown.value, place, token, grown.group, self._width, self._groups, self._penalty
        )
        kept = and_others(kept, rising, grown.request)
        return hopeful[kept], owner[kept]

    def _rising(self, nodes: _Nodes) -> np.ndarray:
        """Which nodes lead to an item that gains, bool [n]."""
        if self._gaining is None:
            return np.zeros(len(nodes.node), dtype=bool)
        return self._gaining.rising.count(nodes.request, nodes.node) > 0

    def _cut(self, ended: _Nodes) -> np.ndarray:
        """The value of the last of each prompt's best results, -inf where they are few, float64 [prompts]."""
        cut = np.full(self._prompts, -np.inf)
        if self._groups == 1 and self._falls:  # otherwise each group has results of its own to find
            last = rank_within(ended.request) == self._results[ended.request] - 1
            cut[ended.request[last]] = ended.value[last]
        return cut

    def _best_ended(self, ended: _Nodes) -> _Nodes:
        """The best of each prompt, and of each group: no list needs more. Then others that rise."""
        key = ended.request * (self._groups + 1) + ended.group + 1
        order = np.argsort(key, kind="stable")
        quota = np.repeat(self._results, self._groups + 1)
        kept = order[best(key[order], ended.value[order], self.trie.first[ended.node[order]], quota)]
        return ended.take(and_others(kept, self._rising(ended), ended.request))

    def _items(self, ended: _Nodes, open_: AllowedBelow | None) -> tuple[np.ndarray, np.ndarray]:
        """The items at the ends as lists."""
        first = self.trie.first[ended.node].astype(np.int64)
        of, place = ranges(first, self.trie.last[ended.node] - first)
        item = self.trie.order[place].astype(np.int64)
        if open_ is not None:
            there = open_.mask[ended.request[of], item]
            of, place, item = of[there], place[there], item[there]
        request = ended.request[of]
        gain = np.zeros(len(item)) if self._gaining is None else self._gaining.of(request, item)
        value, score = ended.value[of] + gain, ended.score[of] + gain
        if self._groups == 1:
            order = best(request, value, place, self.k)
        else:
            nothing = np.zeros_like(item)  # the items differ, whatever their tokens
            order, owner = best_in_groups(
                request, value, place, nothing, ended.group[of], self.k, self._groups, 0.0
            )
            order = in_turn(order, request, value, place, owner)
        row, column = request[order], rank_within(request[order])
        index = np.full((self._prompts, int(self.k.max(initial=0))), -1, dtype=np.int64)
        scores = np.full(index.shape, -np.inf, dtype=np.float32)
        index[row, column], scores[row, column] = item[order], score[order]
        return index, scores
