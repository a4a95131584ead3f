"""Negatives: each sampler's estimate tends to the full softmax, and only the correction makes it so."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import builder_of, random_history, tiny_catalog, tuned

from llmrec.tune.collate import collate
from llmrec.tune.hard import hardest
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.negatives import Candidates, NegativeSampler, sampled_softmax
from llmrec.tune.settings import SAMPLERS, LossSettings

CATALOG = tiny_catalog()
COUNTS = torch.tensor([2**at for at in range(12)] * 2)
ITEMS = len(COUNTS)


def sampler_of(kind: str, negatives: int, pool: bool = False) -> NegativeSampler:
    made = NegativeSampler(
        COUNTS, LossSettings(sampler=kind, negatives=negatives, hard_share=0.3 if pool else 0.0)
    )
    if pool:
        made.pool = torch.tensor([3, 3, 3, 8, 14, 0])
    return made


def step(sampler: NegativeSampler, rows: int, others: int) -> tuple[torch.Tensor, Candidates]:
    """Targets of `rows` histories with one prompt each, beside `others` that draw theirs by frequency."""
    targets = torch.multinomial(COUNTS.double(), rows + others, replacement=True)
    targets[:rows] = torch.arange(rows)
    return targets[:rows], sampler.candidates(targets, torch.arange(rows + others))


def estimate(
    scores: torch.Tensor, sampler: NegativeSampler, number: int, smoothing: float = 0.0
) -> torch.Tensor:
    targets, found = step(sampler, len(scores), number)
    weight = found.log_weight[: len(scores)] if len(found.log_weight) > 1 else found.log_weight
    positive = scores.gather(1, targets[:, None])[:, 0]
    return sampled_softmax(positive, scores[:, found.items], targets, found.items, weight, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("pool", [False, True], ids=["plain", "hard"])
@pytest.mark.parametrize("kind", SAMPLERS)
def test_more_candidates_come_nearer_to_the_full_softmax(kind: str, pool: bool, smoothing: float) -> None:
    torch.manual_seed(0)
    # As in life, what sells scores high.
    scores = (torch.randn(8, ITEMS) + 0.3 * COUNTS.log()).requires_grad_()
    exact = torch.nn.functional.cross_entropy(scores, torch.arange(8), label_smoothing=smoothing)
    wanted = torch.autograd.grad(exact, scores)[0]
    wrong, wrong_gradients = [], []
    for number in (30, 1_000, 30_000):
        sampler = sampler_of(kind, number, pool)
        values, gradients = [], []
        for _ in range(5):
            value = estimate(scores, sampler, number, smoothing)
            values.append((value - exact).abs().item())
            gradients.append((torch.autograd.grad(value, scores)[0] - wanted).norm().item())
        wrong.append(sum(values) / 5)
        wrong_gradients.append(sum(gradients) / 5)
    close = 0.1 if kind == "in_batch" else 0.02  # some items are hardly ever a target
    assert wrong[0] > wrong[1] > wrong[2] < close
    assert wrong_gradients[0] > wrong_gradients[1] > wrong_gradients[2] < 3 * close * wanted.norm()


@pytest.mark.parametrize("kind", SAMPLERS)
def test_without_the_correction_the_estimate_is_biased(kind: str) -> None:
    torch.manual_seed(1)
    scores = torch.randn(8, ITEMS) + 0.3 * COUNTS.log()
    targets, found = step(sampler_of(kind, 30_000), 8, 30_000)
    positive = scores.gather(1, targets[:, None])[:, 0]
    weight = found.log_weight[:8] if len(found.log_weight) > 1 else found.log_weight
    right = sampled_softmax(positive, scores[:, found.items], targets, found.items, weight)
    # As if all items were to be expected equally often: times there over draws an item.
    drawn = torch.multinomial(COUNTS.double() ** (0 if kind == "uniform" else 0.5), 60_000, replacement=True)
    if kind == "in_batch":
        drawn = torch.multinomial(COUNTS.double(), 60_000, replacement=True)
    items, times = torch.unique(drawn, return_counts=True)
    even = (times * ITEMS / len(drawn)).log().float()
    naive = sampled_softmax(positive, scores[:, items], targets, items, even[None])
    exact = torch.nn.functional.cross_entropy(scores, targets)
    assert abs(right - exact) < 0.03
    assert abs(naive - exact) > 0.1 or kind == "uniform"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(SAMPLERS), pool=st.booleans())
def test_weights_are_times_over_expected_times_and_own_targets_do_not_count(seed, kind, pool) -> None:
    torch.manual_seed(seed)
    sampler = sampler_of(kind, 50, pool)
    groups = torch.randint(5, (40,)).sort().values
    groups = torch.unique(groups, return_inverse=True)[1]
    targets = torch.randint(ITEMS, (40,))
    torch.manual_seed(seed)
    drawn = sampler.draw(0 if kind == "in_batch" else 50 - (15 if pool else 0))
    hard = sampler.pool[torch.randint(len(sampler.pool), (15,))] if pool else drawn[:0]
    torch.manual_seed(seed)
    found = sampler.candidates(targets, groups)
    share = torch.bincount(sampler.pool, minlength=ITEMS) / max(1, len(sampler.pool))
    in_batch = kind in ("in_batch", "mixed")
    assert len(found.log_weight) == (len(torch.unique(groups)) if in_batch else 1)
    for group, weights in enumerate(found.log_weight):
        others = targets[groups != group] if in_batch else drawn[:0]
        times = torch.bincount(torch.cat([drawn, hard, others]), minlength=ITEMS)
        expected = len(drawn) * sampler.probabilities + len(hard) * share
        expected = expected + len(others) * sampler.frequencies
        wanted = torch.where(times > 0, times / expected, torch.zeros(()).double())[found.items]
        torch.testing.assert_close(weights.exp(), wanted.float())
    everything = torch.cat([drawn, hard, *([targets] if in_batch else [])])
    assert found.items.tolist() == torch.unique(everything).tolist()


def test_draws_come_as_often_as_they_are_said_to() -> None:
    torch.manual_seed(0)
    for kind, power in (("uniform", 0.0), ("popularity", 0.7)):
        sampler = NegativeSampler(COUNTS, LossSettings(sampler=kind, popularity_power=0.7))
        frequency = torch.bincount(sampler.draw(100_000), minlength=ITEMS) / 100_000
        weights = (COUNTS.double() + 1) ** power
        torch.testing.assert_close(sampler.probabilities, weights / weights.sum())
        torch.testing.assert_close(frequency.double(), sampler.probabilities, atol=5e-3, rtol=0)


def test_what_is_not_allowed_is_never_drawn() -> None:
    torch.manual_seed(0)
    allowed = torch.arange(ITEMS) % 3 == 1
    for kind in ("uniform", "popularity"):
        sampler = NegativeSampler(COUNTS, LossSettings(sampler=kind), allowed)
        assert allowed[sampler.draw(20_000)].all()
        torch.testing.assert_close(sampler.probabilities.sum(), torch.ones(()).double())


def test_a_candidate_that_is_the_target_is_left_out() -> None:
    torch.manual_seed(1)
    positive, scores, weight = torch.randn(2), torch.randn(2, 4), torch.randn(1, 4)
    targets, items = torch.tensor([3, 4]), torch.tensor([0, 1, 3, 4])
    for smoothing in (0.0, 0.4):
        together = sampled_softmax(positive, scores, targets, items, weight, smoothing)
        apart = [
            sampled_softmax(
                positive[row : row + 1],
                scores[row : row + 1, items != target],
                targets[row : row + 1],
                items[items != target],
                weight[:, items != target],
                smoothing,
            )
            for row, target in enumerate(targets)
        ]
        torch.testing.assert_close(together, torch.stack(apart).mean())
    only_hits = sampled_softmax(positive[:1], scores[:1, 2:3], targets[:1], items[2:3], weight[:, 2:3])
    assert only_hits.item() == 0.0  # nothing to be told apart from


def test_one_history_alone_has_no_negatives_in_the_batch() -> None:
    found = sampler_of("in_batch", 8).candidates(torch.tensor([3, 5, 3]), torch.zeros(3, dtype=torch.int64))
    assert found.items.tolist() == [3, 5] and found.log_weight.isneginf().all()
    value = sampled_softmax(
        torch.ones(3, requires_grad=True), torch.ones(3, 2), torch.tensor([3, 5, 3]), *_of(found)
    )
    assert value.item() == 0.0
    value.backward()


def _of(found: Candidates) -> tuple[torch.Tensor, torch.Tensor]:
    return found.items, found.log_weight[:1]


@pytest.mark.parametrize("newcomers", [False, True])
def test_hard_negatives_are_the_models_own_best(checkpoints, monkeypatch, newcomers: bool) -> None:
    import numpy as np

    model, tokens, _ = tuned(checkpoints["llama"], CATALOG, queries=3)
    rng = np.random.default_rng(0)
    builder = builder_of(CATALOG, tokens)
    batch = collate(
        [builder.example(random_history(rng, 6, ITEMS), {}, rng) for _ in range(3)], 3, model.head.remembered
    )
    monkeypatch.setattr("llmrec.tune.hard._CHUNK", 7)  # the catalogue in several parts
    known = torch.tensor([at for at in range(ITEMS) if at % 5]) if newcomers else None
    model.train()
    found = hardest(model, batch, 20, 4, known).view(20, 4)
    assert model.training
    model.eval()
    with torch.no_grad():
        states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1)
        scores = model.best(states[batch.query_rows], model.items(), batch.query_recent)
    scores.scatter_(1, batch.query_targets[:, None], -torch.inf)
    if known is not None:
        scores[:, ::5] = -torch.inf
    best = scores.topk(4).indices
    assert torch.equal(found, best[torch.arange(20) % len(best)])  # prompts again from the first
    if known is not None:
        model.items.set_newcomers(torch.arange(ITEMS) % 5 == 0)
    settings = LossSettings(full_softmax_up_to=0, hard_share=0.5, hard_rows=20, hard_top=99)
    loss = RetrievalLoss(model, settings, COUNTS)
    assert loss.pool_size == 20 * (len(known) - 1 if known is not None else ITEMS - 1)
    assert len(loss.hard_negatives(batch)) == loss.pool_size
    assert RetrievalLoss(model, LossSettings(hard_share=0.5), COUNTS).pool_size == 0
