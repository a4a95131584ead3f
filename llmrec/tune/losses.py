"""Losses of retrieval: a softmax over the whole catalogue, or over a sample of it with log-Q correction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.model.item_tokens import INNER_STD, ItemRows
from llmrec.model.query_head import best_scores
from llmrec.model.tuned import TunedModel
from llmrec.tune.collate import Batch
from llmrec.tune.hard import hardest
from llmrec.tune.negatives import Candidates, NegativeSampler, sampled_softmax
from llmrec.tune.settings import LossSettings


@dataclass(frozen=True, slots=True)
class _Read:
    """User vectors [n, M, inner + F], their targets [n], histories [n], newest items [n, K], and asks."""

    vectors: Tensor
    targets: Tensor
    of: Tensor
    recent: Tensor
    asks: Tensor | None


class RetrievalLoss(nn.Module):
    """Runs the model on a batch and returns its two losses; what a distributed wrapper wraps.

    The rows of V are made once a step, and only those that it needs: all that the softmax runs over, or with
    a sampled softmax the items in the prompts, the targets and the candidates. Newcomers
    (`model.settings.ItemSettings`) are in no softmax.
    """

    def __init__(self, model: TunedModel, settings: LossSettings, counts: Tensor) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        newcomer = model.items.newcomer
        self.known = None if newcomer is None else torch.nonzero(~newcomer.cpu())[:, 0]
        self.items = len(counts) if self.known is None else len(self.known)
        self.sampler: NegativeSampler | None = None
        if self.items > settings.full_softmax_up_to:
            self.sampler = NegativeSampler(counts, settings, None if newcomer is None else ~newcomer.cpu())

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss at the item tokens and at the query tokens; a zero where there is none to be had."""
        with torch.autocast(batch.ids.device.type, enabled=False):  # rows of V in full precision
            candidates, rows = self._rows(batch)
        states = self.model(batch.ids, batch.visible, batch.positions, rows).flatten(0, 1)
        with torch.autocast(states.device.type, enabled=False):  # scores and softmax too
            states = self.model.dropout(states.float())
            at_items = self.model.head.vectors(states[batch.item_rows])
            if (past := self._of_recent(rows, batch.item_recent)) is not None:
                at_items = at_items + past
            asks = self.model.asks(batch.query_search)
            past = self._of_recent(rows, batch.query_recent, asks)
            at_queries = self.model.query_vectors(states[batch.query_rows], past, batch.query_search)
            weights = self.settings.sequence_weight, self.settings.query_weight
            reads = (
                _Read(at_items[:, None], batch.item_targets, batch.item_of, batch.item_recent, None),
                _Read(at_queries, batch.query_targets, batch.query_of, batch.query_recent, asks),
            )
            sequence, query = (
                self._loss(rows, candidates, read) if weight else read.vectors.sum() * 0.0
                for weight, read in zip(weights, reads, strict=True)
            )
        return sequence, query

    def _rows(self, batch: Batch) -> tuple[Candidates | None, ItemRows]:
        """The candidates of the step, None for all items, and the rows of V that it needs."""
        items, device = self.model.items, batch.ids.device
        change = (batch.own_items, INNER_STD * batch.own_change) if len(batch.own_items) else None
        if self.sampler is None:
            return None, items.rows(None if self.known is None else self.known.to(device), change)
        targets = torch.cat([batch.item_targets, batch.query_targets])
        groups = torch.cat([batch.item_of, batch.query_of])
        candidates = self.sampler.candidates(targets.cpu(), groups.cpu()).to(device)
        base, recent = self.model.base, batch.item_recent[:0]
        if self.model.head.remembered:
            recent = torch.cat([batch.item_recent, batch.query_recent])
        prompts = batch.ids[(batch.ids >= base) & (batch.ids < base + len(items.text_vectors))] - base
        needed = torch.cat([prompts, targets, candidates.items, recent[recent >= 0]])
        return candidates, items.rows(torch.unique(needed), change)

    def _of_recent(self, rows: ItemRows, recent: Tensor, asks: Tensor | None = None) -> Tensor | None:
        """What the newest items [n, K] make of user vectors, [n, inner + F]; None without K."""
        if not self.model.head.remembered:
            return None
        places = torch.where(recent >= 0, rows.places(recent.clamp(min=0)), -1)
        return self.model.head.of_recent(rows.values, places, asks)

    def _loss(self, rows: ItemRows, candidates: Candidates | None, read: _Read) -> Tensor:
        """Cross-entropy of what is read against its targets, the best query counting."""
        vectors, targets = read.vectors, read.targets
        if len(targets) == 0:
            return vectors.sum() * 0.0
        smoothing = self.settings.label_smoothing
        if candidates is None:
            scores = self._with_seen(best_scores(vectors, rows.values), rows.index, read)
            return functional.cross_entropy(scores, rows.places(targets), label_smoothing=smoothing)
        own = torch.einsum("nmd,nd->nm", vectors, rows.at(targets)).amax(dim=1)
        distinct, places = torch.unique(targets, return_inverse=True)
        gains = self._with_seen(own.new_zeros(len(own), len(distinct)), distinct, read)
        positive = own + gains.gather(1, places[:, None])[:, 0]
        scores = best_scores(vectors, rows.at(candidates.items))
        scores = self._with_seen(scores, candidates.items, read)
        weight = candidates.log_weight
        weight = weight[read.of] if len(weight) > 1 else weight
        return sampled_softmax(positive, scores, targets, candidates.items, weight, smoothing)

    def _with_seen(self, scores: Tensor, index: Tensor | None, read: _Read) -> Tensor:
        """Scores [n, c] of the items `index`, None for all, with what items of the history gain."""
        if index is None:
            index = torch.arange(scores.shape[1], device=scores.device)
        return self.model.head.gain_of_seen(scores, index, read.recent, read.asks)

    def hard_negatives(self, batch: Batch) -> Tensor:
        """New hard negatives for the sampler's pool, int64 on the CPU, always as many (`pool_size`)."""
        assert self.sampler is not None, "the full softmax has no candidates"
        if len(batch.query_targets) == 0:
            return self.sampler.draw(self.pool_size)
        prompts = self.settings.hard_rows
        return hardest(self.model, batch, prompts, self.pool_size // prompts, self.known).cpu()

    @property
    def pool_size(self) -> int:
        """Number of hard negatives that are kept, 0 where none are asked for."""
        if self.sampler is None or self.settings.hard_share == 0:
            return 0
        return self.settings.hard_rows * min(self.settings.hard_top, self.items - 1)
