"""Losses: the full softmax by hand, and a sampled one that tends to it."""

import numpy as np
import pytest
import torch
from tiny_models import builder_of, random_history, tiny_catalog, tuned

from llmrec.errors import LlmrecError
from llmrec.model.query_head import RECENT_SCALE, QueryHead
from llmrec.tune.collate import Example, Tail, collate
from llmrec.tune.losses import NegativeSampler, RetrievalLoss, sampled_softmax
from llmrec.tune.settings import LossSettings

CATALOG = tiny_catalog()
COUNTS = torch.tensor([2**at for at in range(12)] * 2)


@pytest.fixture(scope="module")
def ready(checkpoints):
    model, tokens, _ = tuned(checkpoints["llama"], CATALOG, queries=3)
    rng = np.random.default_rng(0)
    builder = builder_of(CATALOG, tokens)
    examples = [builder.example(random_history(rng, 6, len(CATALOG)), {}, rng) for _ in range(2)]
    return model, collate(examples, 3, 30)


def by_hand(model, batch, smoothing: float = 0.0) -> tuple[float, float]:
    """Mean of -log softmax over the whole catalogue, with numpy."""
    with torch.no_grad():
        states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1).double().numpy()
    table = model.items().detach().double().numpy()
    inward = model.head.inward.weight.detach().double().numpy()
    means = []
    weights = RECENT_SCALE * model.head.recent.detach().double().numpy()
    for rows, targets, recent in (
        (batch.item_rows[:, None], batch.item_targets, batch.item_recent),
        (batch.query_rows, batch.query_targets, batch.query_recent),
    ):
        losses = []
        for some, target, newest in zip(rows.numpy(), targets.numpy(), recent.numpy(), strict=True):
            known = newest >= 0  # the newest items' rows of V are in every user vector
            memory = weights[known] @ table[newest[known]]
            if len(some) > 1:  # the state at the history's end is added to that of each query
                vectors = [states[some[0]] + states[row] for row in some[1:]]
            else:
                vectors = [states[some[0]]]
            scores = np.max([table @ (inward @ vector + memory) for vector in vectors], axis=0)
            log_p = scores - np.log(np.exp(scores).sum())
            losses.append(-(1 - smoothing) * log_p[target] - smoothing * log_p.mean())
        means.append(float(np.mean(losses)))
    return means[0], means[1]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_full_softmax_is_what_one_computes_by_hand(ready, smoothing: float) -> None:
    model, batch = ready
    losses = RetrievalLoss(model, LossSettings(label_smoothing=smoothing), COUNTS)(batch)
    assert [loss.item() for loss in losses] == pytest.approx(by_hand(model, batch, smoothing), abs=1e-5)


def test_the_best_query_counts(ready) -> None:
    model, _ = ready
    states = torch.randn(5, 1 + 3, 32)
    table = model.items()
    # W = U V^T: the inner product with the hidden state itself.
    outward = table @ model.head.inward.weight
    with_history = ((states[:, 1:] + states[:, :1]) @ outward.T).max(dim=1).values
    torch.testing.assert_close(model.head.best(states, table), with_history)
    plain = QueryHead(32, model.head.inward.out_features, 3, history_state=False)
    plain.load_state_dict({n: v for n, v in model.head.state_dict().items() if n != "recent"})
    torch.testing.assert_close(plain.best(states, table), (states[:, 1:] @ outward.T).max(dim=1).values)


def gradients(model, loss, batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    sum(loss(batch)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_the_sampled_softmax_tends_to_the_full_one_in_value_and_gradient(ready) -> None:
    model, batch = ready
    full = RetrievalLoss(model, LossSettings(), COUNTS)
    sampled = RetrievalLoss(model, LossSettings(full_softmax_up_to=0, negatives=60_000), COUNTS)
    assert full.sampler is None and sampled.sampler is not None
    wanted, exact = by_hand(model, batch), gradients(model, full, batch)
    torch.manual_seed(0)
    with torch.no_grad():
        assert [loss.item() for loss in sampled(batch)] == pytest.approx(wanted, abs=0.01)
    near = gradients(model, sampled, batch)
    assert near.keys() == exact.keys()
    for name, gradient in exact.items():
        assert (near[name] - gradient).norm() < 0.05 * gradient.norm() + 1e-4, name


def test_without_the_correction_the_sampled_softmax_is_biased() -> None:
    torch.manual_seed(0)
    items, number = len(COUNTS), 100_000
    # As in life, what sells scores high.
    scores = (torch.randn(8, items) + 0.3 * COUNTS.log()).requires_grad_()
    targets = torch.arange(8)
    sampler = NegativeSampler(COUNTS, 0.7)
    drawn = sampler.draw(number, torch.device("cpu"))
    frequency = torch.bincount(drawn, minlength=items) / number
    torch.testing.assert_close(frequency, sampler.probabilities, atol=5e-3, rtol=0)

    def loss(log_q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positive = scores.gather(1, targets[:, None])[:, 0]
        value = sampled_softmax(positive, scores[:, drawn], targets, drawn, log_q)
        return value, torch.autograd.grad(value, scores)[0]

    exact = torch.nn.functional.cross_entropy(scores, targets)
    exact_gradient = torch.autograd.grad(exact, scores)[0]
    right, right_gradient = loss((sampler.probabilities * number).log())
    # As if all items were drawn equally often: right for no popularity at all.
    naive, naive_gradient = loss(torch.full((items,), number / items).log())
    assert abs(right - exact) < 0.01 < 0.2 < abs(naive - exact)
    assert (right_gradient - exact_gradient).norm() < 0.1 * (naive_gradient - exact_gradient).norm()


def test_a_draw_that_is_the_target_is_left_out() -> None:
    torch.manual_seed(1)
    positive, negative = torch.randn(2), torch.randn(2, 5)
    targets, drawn, log_q = torch.tensor([3, 4]), torch.tensor([3, 0, 3, 1, 4]), torch.randn(6)
    together = sampled_softmax(positive, negative, targets, drawn, log_q)
    apart = [
        sampled_softmax(
            positive[row : row + 1],
            negative[row : row + 1, drawn != target],
            targets[row : row + 1],
            drawn[drawn != target],
            log_q,
        )
        for row, target in enumerate(targets)
    ]
    torch.testing.assert_close(together, torch.stack(apart).mean())
    only_hits = sampled_softmax(positive[:1], negative[:1, :1], targets[:1], drawn[:1], log_q)
    assert only_hits.item() == 0.0  # nothing to be told apart from


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 8.0])
def test_items_that_are_hardly_ever_drawn_do_no_harm(ready, power: float) -> None:
    model, batch = ready
    counts = torch.zeros(len(CATALOG))
    counts[7] = 1e9
    settings = LossSettings(full_softmax_up_to=0, negatives=50, popularity_power=power)
    loss = RetrievalLoss(model, settings, counts)
    assert all(torch.isfinite(value).all() for value in gradients(model, loss, batch).values())
    if power == 0.0:
        torch.testing.assert_close(loss.sampler.probabilities, torch.full((24,), 1 / 24))


def test_a_batch_without_items_has_a_loss_of_zero_there(ready) -> None:
    model, _ = ready
    example = Example([5, 6], [], [], [Tail(2, [model.base + 24 + m for m in range(3)], 4)])
    sequence, query = RetrievalLoss(model, LossSettings(), COUNTS)(collate([example], 3, 30))
    assert sequence.item() == 0.0 and query.item() > 0.0
    (sequence + query).backward()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"query_weight": -1.0}, "query_weight is -1.0"),
        ({"popularity_power": float("nan")}, "popularity_power is nan"),
        ({"query_weight": 0.0, "sequence_weight": 0.0}, "nothing would train"),
    ],
)
def test_impossible_losses_are_one_line(values, said: str) -> None:
    with pytest.raises(LlmrecError, match=said):
        LossSettings(**values)
