"""Query tokens and the scores read at them (URM sections 1.3 and 1.4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.data.fact_columns import FACTS
from llmrec.verbalize.sought import ASKS

RECENT_SCALE = 10.0
"""What the newest item's row counts at the start; rows are small (see `item_tokens.INNER_STD`)."""
SEARCH_SCALE = 30.0
"""What the text part of the search words counts at the start."""
FACT_SCALE = 10.0
"""What a wanted fact counts at the start; facts have spread `item_tokens.FACT_STD`."""
SEEN_SCALE = 30.0
"""What the gains of items of the history are multiplied with: they learn as much faster than others."""
ASK_SCALE = 10.0
"""What the weights of an ask are multiplied with: they learn as much faster than others."""
WANTED = {
    "long_tail": "long_tail",
    "price_level=low": "cheap",
    "price_level=high": "premium",
    "fresh": "fresh",
    "min_value": "rating",
    "seen_before": "again",
}
"""The fact that an ask is about: well-rated items for a least value, for "again" those that are had again."""
SEEN_ASKED = {"seen_before": 5.0, "new_for_user": -5.0, "new_category": -5.0}
"""What items of the history gain at the start where a wish asks for them, or for others."""
_USUAL_INNER = 128
"""The width of V at which the two scales count once; inner products grow with the width."""


class QueryHead(nn.Module):
    """M learnable query tokens and the map U from hidden states to the width of the item table.

    Item v's score at query m is <h_m, w_v> with W = V U^T; computed as <U^T h_m, v>, which is the same
    and never makes the [items, hidden] matrix. A list takes the maximum over the queries.

    With `history_state`, which URM does not have, the state at the last token of the head (the history's
    end) is added to the state of each query: the history's state predicts from the sequence loss alone,
    and the queries learn what the words change about that. Query states are therefore read with that
    state before them, [..., 1 + M, hidden].

    With `recent` = K, which URM does not have either, every user vector has in it the sum of the rows of V
    of the newest K items, the d-th newest times `RECENT_SCALE` and a learnt weight that starts like 1 / d:
    the model starts at what sequential rules know, and learns what to change.

    With `seen`, the d-th newest of these items gains a learnt score, which starts at zero and is mostly below
    it where people have each item once. Without it, an item of the history is the likest of all to itself.

    With `search`, the search words of a wish (`verbalize.search_words`) go through the text encoder and the
    text map of the items (V_trans of URM section 1.4). What comes out, times `SEARCH_SCALE` and a gate that
    each query's state decides, is added to that query's vector: the model starts at what a search in the
    items' texts finds, and learns when to follow it. Without search words nothing is added.

    With `facts`, rows of V end in the facts of the items (`data.fact_columns`), which do not train, and user
    vectors in what these count: a map of the state that starts at zero.

    With `asks`, each of `verbalize.sought.ASKS` that a wish asks changes the vectors of the queries as it has
    learnt to, times its weight: the weights of the newest items (who wants something again means other items
    of the past than who wants something of a new kind), the size of each dimension, and a vector of its own
    that is added, and what items of the history gain. All start at zero, but the vector counts the facts that
    the ask is about (`WANTED`), and `SEEN_ASKED` holds for items of the history.
    """

    def __init__(
        self,
        hidden: int,
        inner: int = 128,
        queries: int = 4,
        embedding_std: float = 0.02,
        history_state: bool = True,
        recent: int = 0,
        search: bool = False,
        facts: int = 0,
        asks: bool = False,
        seen: bool = False,
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, hidden) * embedding_std)
        self.facts = facts
        self.inward = nn.Linear(hidden, inner + facts, bias=False)
        with torch.no_grad():
            self.inward.weight[inner:] = 0
        self.history_state = history_state
        if recent:
            self.recent = nn.Parameter(_USUAL_INNER / inner / torch.arange(1, recent + 1))
        if search:
            self.search_gate = nn.Linear(hidden, 1)
            nn.init.zeros_(self.search_gate.weight)
            nn.init.constant_(self.search_gate.bias, _USUAL_INNER / inner)
        if seen and recent:
            self.seen = nn.Parameter(torch.zeros(recent))
        if asks and seen and recent:
            self.seen_asked = nn.Parameter(torch.zeros(len(ASKS), recent))
            for ask, gain in SEEN_ASKED.items():
                self.seen_asked.data[ASKS.index(ask)] = gain / SEEN_SCALE
        if asks and recent:
            self.recent_asked = nn.Parameter(torch.zeros(len(ASKS), recent))
        if asks:
            self.scale_asked = nn.Parameter(torch.zeros(len(ASKS), inner + facts))
            self.shift_asked = nn.Parameter(torch.zeros(len(ASKS), inner + facts))
            for ask, fact in WANTED.items():
                if (at := FACTS.index(fact)) < facts:
                    self.shift_asked.data[ASKS.index(ask), inner + at] = FACT_SCALE / ASK_SCALE

    def start_from(self, token_map: Tensor, spread: float) -> None:
        """Let U start as the way back from tokens to rows of V: <U^T token(v), v'> is about <v, v'>.

        `token_map` [hidden, inner] makes tokens of rows; `spread` is that of the rows. What the residual
        stream still knows of the last item then counts from the first step.
        """
        with torch.no_grad():
            back = token_map.T * (spread / token_map.norm(dim=0).square().mean())
            self.inward.weight[: len(back)] = back

    def vectors(self, states: Tensor) -> Tensor:
        """User vectors [..., inner + F] of hidden states [..., hidden]."""
        vectors: Tensor = self.inward(states)
        return vectors

    def at_queries(self, vectors: Tensor) -> Tensor:
        """User vectors [..., M, inner + F] of the M queries from [..., 1 + M, inner + F]; see the class."""
        queries = vectors[..., 1:, :]
        return queries + vectors[..., :1, :] if self.history_state else queries

    @property
    def remembered(self) -> int:
        """K, the number of newest items that user vectors are made with."""
        return len(self.recent) if hasattr(self, "recent") else 0

    def of_recent(self, table: Tensor, recent: Tensor, asks: Tensor | None = None) -> Tensor:
        """Weighted sums [n, inner + F] of the rows of `table` [rows, inner + F] at `recent` int64 [n, K].

        The newest item stands first, -1 for none; `asks` [n, len(ASKS)] are the weights of what is asked. The
        facts of items are not summed up: zeros stand there.
        """
        weights: Tensor = self.recent
        if asks is not None and self.hears_asks:
            weights = weights + ASK_SCALE * asks @ self.recent_asked
        weights = RECENT_SCALE * weights * (recent >= 0)
        table = table[:, : table.shape[1] - self.facts]
        found = functional.embedding_bag(
            recent.clamp(min=0), table, mode="sum", per_sample_weights=weights.to(table.dtype)
        )
        return functional.pad(found, (0, self.facts))

    def gain_of_seen(
        self, scores: Tensor, index: Tensor, recent: Tensor, asks: Tensor | None = None
    ) -> Tensor:
        """`scores` [n, c] of the items `index` int64 [c], ascending, with what those of the history gain.

        `recent` and `asks` as in `of_recent`. An item that is there twice gains twice.
        """
        if not hasattr(self, "seen") or not len(index):
            return scores
        gains = self.seen.expand(recent.shape)
        if asks is not None and self.hears_asks:
            gains = gains + asks @ self.seen_asked
        places = torch.searchsorted(index, recent).clamp(max=len(index) - 1)
        there = (recent >= 0) & (index[places] == recent)
        return scores.scatter_add(1, places, (SEEN_SCALE * gains * there).to(scores.dtype))

    @property
    def hears_asks(self) -> bool:
        """Whether what a wish asks counts apart from its words."""
        return hasattr(self, "shift_asked")

    @property
    def searches(self) -> bool:
        """Whether search words count."""
        return hasattr(self, "search_gate")

    def at_wish(
        self,
        states: Tensor,
        recent: Tensor | None = None,
        text: Tensor | None = None,
        asks: Tensor | None = None,
    ) -> Tensor:
        """User vectors [n, M, inner + F] of the queries, from their states [n, 1 + M, hidden].

        `recent` [n, inner + F] is what `of_recent` makes of the newest items; `text` [n, inner] the text part
        of the search words, zero where there are none; `asks` [n, len(ASKS)] the weights of what is asked.
        """
        vectors = self.at_queries(self.vectors(states))
        if asks is not None and self.hears_asks:
            asks = ASK_SCALE * asks
            vectors = vectors * (1 + asks @ self.scale_asked)[:, None] + (asks @ self.shift_asked)[:, None]
        if recent is not None and self.remembered:
            vectors = vectors + recent[:, None]
        if text is not None and self.searches:
            gate: Tensor = self.search_gate(states[..., 1:, :])
            vectors = vectors + functional.pad(SEARCH_SCALE * gate * text[:, None], (0, self.facts))
        return vectors


def best_scores(vectors: Tensor, table: Tensor) -> Tensor:
    """Maximum over the M queries of the inner products: [n, rows] of [n, M, inner] and [rows, inner]."""
    if vectors.shape[1] == 1:
        return vectors[:, 0] @ table.T
    best: Tensor = _BestScores.apply(vectors, table)  # type: ignore[no-untyped-call]
    return best


class _BestScores(torch.autograd.Function):
    """One query after another: scores of all M at a time are M times the memory, and slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, table: Tensor) -> Tensor:
        best = vectors[:, 0] @ table.T
        winner = torch.zeros(best.shape, dtype=torch.int16, device=best.device)
        for query in range(1, vectors.shape[1]):
            scores = vectors[:, query] @ table.T
            winner.masked_fill_(scores > best, query)
            torch.maximum(best, scores, out=best)
        ctx.save_for_backward(vectors, table, winner)
        return best

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        vectors, table, winner = ctx.saved_tensors
        of_vectors, of_table = torch.empty_like(vectors), torch.zeros_like(table)
        for query in range(vectors.shape[1]):
            won = grads[0] * (winner == query)
            of_vectors[:, query] = won @ table
            of_table.addmm_(won.T, vectors[:, query])
        return of_vectors, of_table
