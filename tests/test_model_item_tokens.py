"""Item tokens: parts of V, items without an id part, and rows made once for a step."""

import numpy as np
import pytest
import torch
from tiny_models import builder_of, random_history, tiny_catalog, tuned

from llmrec.errors import LlmrecError
from llmrec.model.item_tokens import ItemTokens
from llmrec.model.settings import ItemSettings
from llmrec.tune.collate import collate
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.settings import LossSettings

CATALOG = tiny_catalog()
ITEMS = len(CATALOG)


def tokens_of(parts: str = "both", dropout: float = 0.0, without_id: str = "zero") -> ItemTokens:
    torch.manual_seed(0)
    return ItemTokens(torch.randn(ITEMS, 12), 32, 16, parts, dropout=dropout, without_id=without_id)


def test_the_table_is_the_sum_of_its_parts() -> None:
    both, ids, text = (tokens_of(parts)() for parts in ("both", "id_only", "text_only"))
    torch.testing.assert_close(both, ids + text)


def test_rows_are_those_of_the_table_wherever_they_are_asked_for() -> None:
    made = tokens_of().eval()
    asked = torch.tensor([[3, 17], [3, 0]])
    for index in (None, torch.tensor([0, 3, 9, 17])):
        torch.testing.assert_close(made.rows(index).at(asked), made()[asked])


def test_items_lose_their_id_part_as_often_as_asked_and_only_in_training() -> None:
    made = tokens_of(dropout=0.3)
    text = made.text_map(made.text_vectors - made.center)
    torch.testing.assert_close(made.eval()(), text + made.id_part)
    made.train()
    dropped = torch.stack([(made() == text).all(1) for _ in range(400)]).float()
    assert dropped.mean(0).min() > 0.2 and dropped.mean(0).max() < 0.4  # every item, now and then
    assert dropped.mean() == pytest.approx(0.3, abs=0.02)
    made.without_id = "mean"
    rows = made()
    torch.testing.assert_close(
        torch.where((rows == text + made.id_part).all(1)[:, None], made.id_part, made.id_part.mean(0)),
        rows - text,
    )


def scores(checkpoint, training: bool, **items: object) -> torch.Tensor:
    """Scores of the catalogue at the queries of one step."""
    model, tokens, _ = tuned(checkpoint, CATALOG, **items)
    model.train(training)
    rng = np.random.default_rng(0)
    batch = collate(
        [builder_of(CATALOG, tokens).example(random_history(rng, 6, ITEMS), {}, rng)],
        2,
        model.head.remembered,
    )
    loss = RetrievalLoss(model, LossSettings(), torch.ones(ITEMS))
    _, rows = loss._rows(batch)
    states = model(batch.ids, batch.visible, batch.positions, rows).flatten(0, 1)
    return model.best(states[batch.query_rows], rows.values, batch.query_recent)


def test_without_any_id_part_the_scores_are_those_of_text_alone(checkpoints) -> None:
    text = scores(checkpoints["llama"], False, parts="text_only")
    dropped = scores(checkpoints["llama"], True, dropout=1.0, without_id="zero")
    assert torch.equal(dropped, text)
    kept = scores(checkpoints["llama"], False, dropout=1.0, without_id="zero")
    assert (kept - text).abs().max() > 1e-2  # dropout is for training


def test_in_one_step_an_item_is_the_same_at_input_and_output(checkpoints, monkeypatch) -> None:
    model, tokens, _ = tuned(checkpoints["llama"], CATALOG, dropout=0.5)
    rng = np.random.default_rng(0)
    builder = builder_of(CATALOG, tokens)
    batch = collate(
        [builder.example(random_history(rng, 8, ITEMS), {}, rng) for _ in range(3)], 2, model.head.remembered
    )
    calls = []
    forward = ItemTokens.forward
    monkeypatch.setattr(
        ItemTokens,
        "forward",
        lambda self, index=None, change=None: calls.append(index) or forward(self, index),
    )
    for settings in (LossSettings(), LossSettings(full_softmax_up_to=0, negatives=5)):
        loss = RetrievalLoss(model, settings, torch.ones(ITEMS)).train()
        calls.clear()
        sum(loss(batch)).backward()
        assert len(calls) == 1
    assert calls[0] is not None and len(calls[0]) < ITEMS  # a sampled step makes the rows that it needs
    assert calls[0].tolist() == sorted(set(calls[0].tolist()))


@pytest.mark.parametrize("without_id", ["mean", "zero"])
def test_newcomers_stand_without_an_id_part_until_they_are_settled(without_id: str) -> None:
    made = tokens_of(without_id=without_id).eval()
    before, ids = made().detach(), made.id_part.detach().clone()
    newcomer = torch.arange(ITEMS) % 4 == 0
    made.set_newcomers(newcomer)
    expected = ids[~newcomer].mean(0) if without_id == "mean" else torch.zeros(16)
    table = made().detach()
    torch.testing.assert_close(table[newcomer], before[newcomer] - ids[newcomer] + expected)
    assert torch.equal(table[~newcomer], before[~newcomer])
    torch.testing.assert_close(made(torch.tensor([1, 4])), table[[1, 4]])
    made.settle()
    assert made.newcomer is None and "newcomer" not in made.state_dict()
    torch.testing.assert_close(made(), table)
    made.set_newcomers(newcomer)
    own = torch.randn(int(newcomer.sum()), 16)
    made.settle(own)
    assert torch.equal(made.id_part[newcomer], own) and torch.equal(made.id_part[~newcomer], ids[~newcomer])
    made.set_newcomers(torch.zeros(ITEMS, dtype=torch.bool))
    assert made.newcomer is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"dropout": 0.1, "parts": "id_only"}, "dropout needs both parts of an item, parts is 'id_only'"),
        ({"without_id": "last"}, "without_id is 'last', it must be one of: mean, zero"),
    ],
)
def test_impossible_items_are_one_line(values, said: str) -> None:
    with pytest.raises(LlmrecError, match=said):
        ItemSettings(**values)
