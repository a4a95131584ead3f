"""Losses: the full softmax by hand, and a sampled one that tends to it."""

import numpy as np
import pytest
import torch
from tiny_models import builder_of, random_history, tiny_catalog, tuned

from llmrec.errors import LlmrecError
from llmrec.model.item_tokens import INNER_STD
from llmrec.model.query_head import RECENT_SCALE, SEEN_SCALE, QueryHead, best_scores
from llmrec.tune.collate import Example, Tail, collate
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.settings import LossSettings

CATALOG = tiny_catalog()
COUNTS = torch.tensor([2**at for at in range(12)] * 2)


@pytest.fixture(scope="module")
def ready(checkpoints):
    model, tokens, _ = tuned(checkpoints["llama"], CATALOG, queries=3)
    rng = np.random.default_rng(0)
    builder = builder_of(CATALOG, tokens)
    examples = [builder.example(random_history(rng, 6, len(CATALOG)), {}, rng) for _ in range(2)]
    with torch.no_grad():  # so that what items of the history gain is seen in the losses
        model.head.seen.copy_(torch.linspace(-0.05, 0.1, model.head.remembered))
    return model, collate(examples, 3, model.head.remembered)


def by_hand(model, batch, smoothing: float = 0.0) -> tuple[float, float]:
    """Mean of -log softmax over the whole catalogue, with numpy."""
    with torch.no_grad():
        states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1).double().numpy()
    table = model.items().detach().double().numpy()
    inward = model.head.inward.weight.detach().double().numpy()
    learnt = np.arange(table.shape[1]) < table.shape[1] - model.head.facts
    means = []
    weights = RECENT_SCALE * model.head.recent.detach().double().numpy()
    gains = SEEN_SCALE * model.head.seen.detach().double().numpy()
    for rows, targets, recent in (
        (batch.item_rows[:, None], batch.item_targets, batch.item_recent),
        (batch.query_rows, batch.query_targets, batch.query_recent),
    ):
        losses = []
        for some, target, newest in zip(rows.numpy(), targets.numpy(), recent.numpy(), strict=True):
            known = newest >= 0  # the newest items' rows of V are in every user vector
            memory = weights[known] @ table[newest[known]] * learnt  # facts are not summed up
            if len(some) > 1:  # the state at the history's end is added to that of each query
                vectors = [states[some[0]] + states[row] for row in some[1:]]
            else:
                vectors = [states[some[0]]]
            scores = np.max([table @ (inward @ vector + memory) for vector in vectors], axis=0)
            np.add.at(scores, newest[known], gains[known])
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
    torch.testing.assert_close(model.best(states, table), with_history)
    plain = QueryHead(32, model.head.inward.out_features, 3, history_state=False)
    plain.load_state_dict(
        {n: v for n, v in model.head.state_dict().items() if n == "queries" or n.startswith("inward")}
    )
    of_queries = best_scores(plain.at_wish(states), table)
    torch.testing.assert_close(of_queries, (states[:, 1:] @ outward.T).max(dim=1).values)


@pytest.mark.parametrize("queries", [1, 2, 5])
def test_the_best_scores_and_their_gradients_are_those_of_the_maximum(queries: int) -> None:
    torch.manual_seed(queries)
    vectors = torch.randn(7, queries, 6, requires_grad=True)
    table, upstream = torch.randn(11, 6, requires_grad=True), torch.randn(7, 11)
    plain = (vectors @ table.T).amax(dim=1)
    ours = best_scores(vectors, table)
    torch.testing.assert_close(ours, plain)
    for one, two in zip(
        torch.autograd.grad(ours, (vectors, table), upstream),
        torch.autograd.grad(plain, (vectors, table), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def gradients(model, loss, batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    sum(loss(batch)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("hard_share", [0.0, 0.5])
@pytest.mark.parametrize("sampler", ["uniform", "popularity", "mixed"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_sampled_softmax_tends_to_the_full_one_in_value_and_gradient(
    ready, sampler: str, hard_share: float, smoothing: float
) -> None:
    model, batch = ready
    full = RetrievalLoss(model, LossSettings(label_smoothing=smoothing), COUNTS)
    settings = LossSettings(
        full_softmax_up_to=0,
        negatives=60_000,
        sampler=sampler,
        label_smoothing=smoothing,
        hard_share=hard_share,
        hard_top=5,
    )
    sampled = RetrievalLoss(model, settings, COUNTS)
    assert full.sampler is None and sampled.sampler is not None
    if hard_share:
        sampled.sampler.pool = sampled.hard_negatives(batch)
    wanted, exact = by_hand(model, batch, smoothing), gradients(model, full, batch)
    torch.manual_seed(0)
    with torch.no_grad():
        assert [loss.item() for loss in sampled(batch)] == pytest.approx(wanted, abs=0.02)
    near = gradients(model, sampled, batch)
    assert near.keys() == exact.keys()
    for name, gradient in exact.items():
        assert (near[name] - gradient).norm() < 0.05 * gradient.norm() + 1e-4, name


def test_a_loss_without_weight_is_not_computed(ready) -> None:
    model, batch = ready
    both = RetrievalLoss(model, LossSettings(), COUNTS)(batch)
    for name, other in (("sequence_weight", 1), ("query_weight", 0)):
        some = RetrievalLoss(model, LossSettings(**{name: 0.0}), COUNTS)(batch)
        assert some[1 - other].item() == 0.0
        torch.testing.assert_close(some[other], both[other])
        some[0].backward(retain_graph=True)  # a distributed wrapper waits for every parameter
        some[1].backward()
        # Nothing is sought in this batch.
        sought = (
            "head.search_gate",
            "head.recent_asked",
            "head.seen_asked",
            "head.scale_asked",
            "head.shift_asked",
        )
        used = {n: v for n, v in model.named_parameters() if v.requires_grad and not n.startswith(sought)}
        assert all(value.grad is not None for value in used.values())


def test_newcomers_are_in_no_softmax(ready) -> None:
    model, batch = ready
    prompts = batch.ids[batch.ids >= model.base] - model.base
    used = torch.cat([batch.item_targets, batch.query_targets, prompts])
    newcomer = torch.ones(len(CATALOG), dtype=torch.bool)
    newcomer[used[used < len(CATALOG)]] = False
    assert newcomer.sum() > 3
    model.items.set_newcomers(newcomer)
    try:
        losses = {}
        for name, settings in {
            "full": LossSettings(),
            "sampled": LossSettings(full_softmax_up_to=0, negatives=60_000, sampler="uniform"),
        }.items():
            loss = RetrievalLoss(model, settings, COUNTS)
            torch.manual_seed(0)
            losses[name] = loss(batch)
            grad = torch.autograd.grad(sum(losses[name]), model.items.id_part)[0]
            assert (grad[newcomer] == 0).all() and (grad[~newcomer].abs().sum(1) > 0).all()
        torch.testing.assert_close(losses["full"], losses["sampled"], atol=0.01, rtol=0)
        with torch.no_grad():
            table = model.items()
            states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1)[batch.query_rows]
            scores = model.best(states, table, batch.query_recent)[:, ~newcomer]
            places = torch.cumsum(~newcomer, 0)[batch.query_targets] - 1
        torch.testing.assert_close(losses["full"][1], torch.nn.functional.cross_entropy(scores, places))
    finally:
        model.items.newcomer = None


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 8.0])
def test_items_that_are_hardly_ever_drawn_do_no_harm(ready, power: float) -> None:
    model, batch = ready
    counts = torch.zeros(len(CATALOG))
    counts[7] = 1e9
    settings = LossSettings(full_softmax_up_to=0, negatives=50, popularity_power=power)
    loss = RetrievalLoss(model, settings, counts)
    assert all(torch.isfinite(value).all() for value in gradients(model, loss, batch).values())
    if power == 0.0:
        expected = torch.full((24,), 1 / 24, dtype=torch.float64)
        torch.testing.assert_close(loss.sampler.probabilities, expected)


def test_a_batch_without_items_has_a_loss_of_zero_there(ready) -> None:
    model, _ = ready
    example = Example([5, 6], [], [], [Tail(2, [model.base + 24 + m for m in range(3)], 4)])
    batch = collate([example], 3, model.head.remembered)
    sequence, query = RetrievalLoss(model, LossSettings(), COUNTS)(batch)
    assert sequence.item() == 0.0 and query.item() > 0.0
    (sequence + query).backward()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"sampler": "hard"}, "sampler is 'hard', it must be one of: uniform, popularity, in_batch, mixed"),
        ({"hard_share": 1.0}, "hard_share is 1.0"),
        ({"hard_every": 0}, "hard_every is 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"query_weight": -1.0}, "query_weight is -1.0"),
        ({"popularity_power": float("nan")}, "popularity_power is nan"),
        ({"query_weight": 0.0, "sequence_weight": 0.0}, "nothing would train"),
    ],
)
def test_impossible_losses_are_one_line(values, said: str) -> None:
    with pytest.raises(LlmrecError, match=said):
        LossSettings(**values)


@pytest.mark.parametrize("settings", [LossSettings(), LossSettings(full_softmax_up_to=0, negatives=5)])
def test_changed_starts_are_as_if_id_parts_were_other(ready, settings: LossSettings) -> None:
    """Of items in the step and of one that is not: in prompts, newest items, targets and negatives alike."""
    model, batch = ready
    model.eval()
    items = torch.unique(torch.cat([batch.item_targets, batch.query_targets, torch.tensor([0, 23])]))
    change = torch.randn(len(items), model.items.id_part.shape[1])
    found = []
    for own in (True, False):
        if own:
            batch.own_items, batch.own_change = items, change
        else:
            batch.own_items, batch.own_change = items[:0], change[:0]
            with torch.no_grad():
                model.items.id_part[items] += INNER_STD * change
        torch.manual_seed(0)
        found.append(RetrievalLoss(model, settings, COUNTS)(batch))
    torch.testing.assert_close(found[0], found[1])
    torch.manual_seed(0)
    with torch.no_grad():
        model.items.id_part[items] -= INNER_STD * change
    assert not torch.isclose(found[0][0], RetrievalLoss(model, settings, COUNTS)(batch)[0])
