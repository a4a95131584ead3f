"""Losses of retrieval: a softmax over the whole catalogue, or over a sample of it with log-Q correction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.model.tuned import TunedModel
from llmrec.tune.collate import Batch
from llmrec.tune.settings import LossSettings


class NegativeSampler:
    """Draws items with known probabilities; `counts` are the train counts [items]."""

    def __init__(self, counts: Tensor, power: float) -> None:
        weights = (counts.double() + 1.0) ** power
        self.probabilities = (weights / weights.sum()).float()
        self._cumulative = torch.cumsum(weights / weights.sum(), 0)

    def draw(self, number: int, device: torch.device) -> Tensor:
        """Items int64 [number], with replacement, from torch's global generator."""
        uniform = torch.rand(number, dtype=torch.float64)
        drawn = torch.searchsorted(self._cumulative, uniform).clamp_(max=len(self._cumulative) - 1)
        return drawn.to(device)


def sampled_softmax(
    positive: Tensor, negative: Tensor, targets: Tensor, drawn: Tensor, log_q: Tensor
) -> Tensor:
    """Cross-entropy over the target and the drawn items, each logit less the log of its expected count.

    positive [n] and negative [n, s] are raw scores; targets [n]; drawn [s]; log_q [items] the log of each
    item's expected number of draws. Draws that equal the row's target are left out. Bengio and Senécal's
    correction as used in two-tower retrieval: in the limit of many draws it is the full softmax.
    """
    negative = negative - log_q[drawn]
    negative = negative.masked_fill(drawn[None, :] == targets[:, None], float("-inf"))
    logits = torch.cat([positive[:, None], negative], dim=1)
    return functional.cross_entropy(logits, torch.zeros_like(targets))


class RetrievalLoss(nn.Module):
    """Runs the model on a batch and returns its two losses; what a distributed wrapper wraps."""

    def __init__(self, model: TunedModel, settings: LossSettings, counts: Tensor) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.sampler = (
            NegativeSampler(counts, settings.popularity_power)
            if len(counts) > settings.full_softmax_up_to
            else None
        )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss at the item tokens and at the query tokens; a zero where the batch has none."""
        states = self.model(batch.ids, batch.visible, batch.positions).flatten(0, 1)
        with torch.autocast(states.device.type, enabled=False):  # scores and softmax in full precision
            vectors = self.model.head.vectors(self.model.dropout(states.float()))
            at_items = vectors[batch.item_rows] + self._of_recent(batch.item_recent)
            sequence = self._loss(at_items[:, None], batch.item_targets)
            at_queries = self.model.head.at_queries(vectors[batch.query_rows])
            query = self._loss(at_queries + self._of_recent(batch.query_recent)[:, None], batch.query_targets)
        return sequence, query

    def _of_recent(self, recent: Tensor) -> Tensor:
        """What the newest items [n, K] make of user vectors, [n, inner]; zero without K."""
        if not self.model.head.remembered:
            return torch.zeros((), device=recent.device)
        rows = self.model.items(recent.clamp(min=0).flatten()).unflatten(0, recent.shape)
        return self.model.head.of_recent(rows, recent >= 0)

    def _loss(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of user vectors [n, M, inner] against targets [n], the best query counting."""
        if len(targets) == 0:
            return vectors.sum() * 0.0
        if self.sampler is None:
            scores = (vectors @ self.model.items().T).amax(dim=1)
            return functional.cross_entropy(scores, targets, label_smoothing=self.settings.label_smoothing)
        drawn = self.sampler.draw(self.settings.negatives, targets.device)
        expected = self.sampler.probabilities.to(targets.device) * self.settings.negatives
        positive = torch.einsum("nmd,nd->nm", vectors, self.model.items(targets)).amax(dim=1)
        negative = (vectors @ self.model.items(drawn).T).amax(dim=1)
        return sampled_softmax(positive, negative, targets, drawn, expected.log())
