"""Which items stand for a large catalogue in a softmax, and how often each was to be expected (log-Q).

The candidates of a step are one sample of the catalogue, shared by all its rows: draws with known
probabilities, the targets of the step's other histories, or both. A candidate that stands k times where E
times were to be expected counts k / E times in the softmax's sum, so that the sum is right on average
whatever the sampler is; in the limit of many candidates it is the full softmax. The correction is Bengio and
Senécal's, as two-tower retrieval uses it.

Targets of other histories come as often as items are in the training events; so the expectation is exact
when histories are independent of each other, and the row's own history is left out because it is not.
Items that nobody took are never among them: "mixed" reaches those too.

Hard negatives are drawn from what the model itself ranks first. They are one more way of drawing with known
probabilities, corrected as the others: they bring the estimate nearer to the full softmax where the model is
wrong, and do not weigh more than they do there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmrec.tune.settings import LossSettings


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items int64 [c], sorted; log_weight float32 [histories or 1, c]: log(times there / times expected)."""

    items: Tensor
    log_weight: Tensor

    def to(self, device: torch.device) -> Candidates:
        """Copy to a device."""
        return Candidates(self.items.to(device), self.log_weight.to(device))


class NegativeSampler:
    """Makes the candidates of each step; `counts` int64 [items] are the train counts.

    `pool` int64 are the hard negatives, an item as often as it was found; empty until someone finds some.
    """

    def __init__(self, counts: Tensor, settings: LossSettings, allowed: Tensor | None = None) -> None:
        """Items where `allowed` bool [items] is false are never drawn."""
        self.settings = settings
        power = 0.0 if settings.sampler == "uniform" else settings.popularity_power
        weights = (counts.double() + 1.0) ** power
        if allowed is not None:
            weights = weights * allowed
        self.probabilities = weights / weights.sum()
        self.frequencies = counts.double() / counts.sum().clamp(min=1)
        self.pool = torch.zeros(0, dtype=torch.int64)
        self._cumulative = torch.cumsum(self.probabilities, 0)

    def draw(self, number: int) -> Tensor:
        """Items int64 [number], with replacement, from torch's global generator."""
        uniform = torch.rand(number, dtype=torch.float64) * self._cumulative[-1]
        return torch.searchsorted(self._cumulative, uniform, right=True).clamp_(
            max=len(self.probabilities) - 1
        )

    def candidates(self, targets: Tensor, groups: Tensor) -> Candidates:
        """Candidates of a step whose rows have `targets` [n] and come from histories `groups` [n], from 0.

        Log weights have a row for each history where its own targets are left out, else one for all.
        """
        drawn, expected_of = self._draws()
        if self.settings.sampler not in ("in_batch", "mixed"):
            items, times = torch.unique(drawn, return_counts=True)
            return Candidates(items, _log_ratio(times[None], expected_of(items)[None]))
        items, places = torch.unique(torch.cat([drawn, targets]), return_inverse=True)
        sizes = torch.bincount(groups)
        own = torch.zeros(len(sizes), len(items), dtype=torch.int64)
        own.index_put_((groups, places[len(drawn) :]), torch.ones_like(targets), accumulate=True)
        times = torch.bincount(places, minlength=len(items)) - own
        others = (len(targets) - sizes)[:, None] * self.frequencies[items]
        return Candidates(items, _log_ratio(times, others + expected_of(items)))

    def _draws(self) -> tuple[Tensor, _Expected]:
        """Drawn items with repetitions, and how often each item was to be expected among them."""
        settings = self.settings
        hard = round(settings.negatives * settings.hard_share) if len(self.pool) else 0
        plain = 0 if settings.sampler == "in_batch" else settings.negatives - hard
        drawn = [self.draw(plain)]
        if hard:
            drawn.append(self.pool[torch.randint(len(self.pool), (hard,))])
        return torch.cat(drawn), _Expected(self.probabilities, plain, self.pool, hard)


@dataclass(frozen=True, slots=True)
class _Expected:
    probabilities: Tensor
    plain: int
    pool: Tensor
    hard: int

    def __call__(self, items: Tensor) -> Tensor:
        """Expected number of draws of each of `items` [c], float64 [c]."""
        expected: Tensor = self.plain * self.probabilities[items]
        if not self.hard:
            return expected
        found, times = torch.unique(self.pool, return_counts=True)
        at = torch.searchsorted(found, items).clamp_(max=len(found) - 1)
        hard: Tensor = self.hard / len(self.pool) * times[at] * (found[at] == items)
        return expected + hard


def _log_ratio(times: Tensor, expected: Tensor) -> Tensor:
    """log(times / expected) as float32; minus infinity where an item does not stand at all."""
    ratio = times / expected.clamp(min=torch.finfo(torch.float64).tiny)
    found: Tensor = ratio.log().float()
    return found


def sampled_softmax(
    positive: Tensor,
    scores: Tensor,
    targets: Tensor,
    candidates: Tensor,
    log_weight: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean cross-entropy over each row's target and the candidates, these weighted; a scalar.

    positive [n] and scores [n, c] are raw scores; targets [n]; candidates [c]; log_weight [n or 1, c]. A
    candidate that is the row's target is left out, since the target is there for certain. The smoothed part
    is the mean score over the catalogue, estimated with the same weights.
    """
    hit = candidates[None, :] == targets[:, None]
    logits = (scores + log_weight).masked_fill(hit, float("-inf"))
    total = torch.logsumexp(torch.cat([positive[:, None], logits], dim=1), dim=1)
    wanted = positive
    if label_smoothing:
        weight = log_weight.exp().expand_as(scores).masked_fill(hit, 0.0)
        mean = (positive + (weight * scores).sum(1)) / (1.0 + weight.sum(1))
        wanted = torch.lerp(positive, mean, label_smoothing)
    return (total - wanted).mean()
