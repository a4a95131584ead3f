"""Adapters: what trains, what changes, and that merged, saved and loaded models are the model trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES, alone, builder_of, random_history, tiny_catalog, tuned

from llmrec.data.events import History
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.items.encoders import HashEncoder
from llmrec.items.search_vectors import SearchVectors
from llmrec.model.adapters import merge
from llmrec.model.assemble import fingerprint, load_model, save_model
from llmrec.model.new_rows import NewRows
from llmrec.model.settings import AdapterSettings, HeadSettings, ItemSettings, ModelSettings
from llmrec.model.tuned import TunedModel
from llmrec.tune.collate import Batch, collate
from llmrec.tune.goals import Ask, Asked
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.settings import ExampleSettings, LossSettings
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.sought import Sought, asks

CATALOG = tiny_catalog()
KINDS = {
    "lora": AdapterSettings("lora", rank=4),
    "prompt": AdapterSettings("prompt", tokens=5),
    "full": AdapterSettings("full"),
    "none": AdapterSettings("none"),
}
BOTH = [(name, kind) for name in ARCHITECTURES for kind in KINDS]
NEW = {"items.id_part", "items.text_map.weight", "items.token_map.weight", "items.token_map.bias"} | {
    "head.queries",
    "head.inward.weight",
    "head.recent",
    "head.seen",
    "head.seen_asked",
    "head.search_gate.weight",
    "head.search_gate.bias",
    "head.recent_asked",
    "head.scale_asked",
    "head.shift_asked",
}


def wishing(history: History) -> Ask:
    """Every target is a red mug."""
    sought = Sought("red mug", asks(Objective(include_words=("mug",), long_tail=True)))
    return lambda cut, rng, most: [
        Asked("wish", cut, history[cut].item, Objective(), "a red mug", sought) for _ in range(most)
    ]


def batch_of(tokens) -> Batch:
    rng = np.random.default_rng(0)
    settings = ExampleSettings(wish_share=1.0)
    builder = builder_of(CATALOG, tokens, wishing, examples=settings)
    examples = [builder.example(random_history(rng, 7, len(CATALOG)), {}, rng) for _ in range(3)]
    return collate(
        examples, tokens.queries, HeadSettings().recent, search=SearchVectors(lambda: HashEncoder(12), 12)
    )


def train(model: TunedModel, tokens, steps: int = 3) -> dict[str, torch.Tensor]:
    """A few steps of everything that trains; returns the gradients of the first."""
    loss = RetrievalLoss(model, LossSettings(), torch.ones(len(CATALOG)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    batch, first = batch_of(tokens), {}
    for _ in range(steps):
        optimizer.zero_grad()
        sum(loss(batch)).backward()
        first = first or {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    return first


def trains(name: str, kind: str) -> bool:
    """Whether a parameter of this name is meant to train."""
    if not name.startswith("backbone."):
        return name in NEW
    embeddings = ("embed_tokens" in name or ".wte." in name) and "prompt_encoder" not in name
    return {
        "lora": "lora_" in name,
        "prompt": "prompt_encoder" in name,
        "full": not embeddings and "lm_head" not in name,
        "none": False,
    }[kind]


@pytest.mark.parametrize(("name", "kind"), BOTH)
def test_what_is_meant_to_train_trains_and_nothing_else(checkpoints, name: str, kind: str) -> None:
    model, tokens, _ = tuned(checkpoints[name], CATALOG, KINDS[kind])
    before = {n: v.detach().clone() for n, v in model.named_parameters()}
    gradients = train(model, tokens)
    assert len(before) > 6
    for parameter, value in model.named_parameters():
        wanted = trains(parameter, kind)
        assert value.requires_grad == wanted, parameter
        assert (not torch.equal(value, before[parameter])) == wanted, parameter
        assert (parameter in gradients) == wanted, parameter
    for parameter, gradient in gradients.items():
        # LoRA's A stands behind a B of zeros at the first step.
        assert torch.isfinite(gradient).all() and (gradient.any() or "lora_A" in parameter), parameter
    assert any(trains(parameter, kind) for parameter in before)


@pytest.mark.parametrize(("name", "kind"), BOTH)
def test_the_merged_model_of_the_engine_is_the_model_that_trained(
    checkpoints, name: str, kind: str, tmp_path: Path
) -> None:
    model, tokens, settings = tuned(checkpoints[name], CATALOG, KINDS[kind])
    train(model, tokens)
    model.eval()
    builder = builder_of(CATALOG, tokens)
    prompt = tokens.prompt(
        builder.verbalizer.prompt(random_history(np.random.default_rng(1), 6, len(CATALOG)), "red mug")
    )
    if kind == "prompt":
        first = tokens.base + tokens.items + tokens.queries
        begins = len(tokens.prefix) - 5
        assert prompt[begins : begins + 5] == list(range(first, first + 5))
    trained = alone(model, prompt)
    save_model(tmp_path, settings, model)
    again, mark = load_model(tmp_path, settings)
    assert not any(parameter.requires_grad for parameter in again.parameters()) and not again.training
    torch.testing.assert_close(alone(again, prompt), trained, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(again.items(), model.items().detach())
    np.testing.assert_allclose(
        np.load(tmp_path / "item_matrix.npy"), model.items().detach().numpy(), atol=1e-6
    )
    assert (mark == "own") == (kind == "full") == (tmp_path / "backbone").is_dir()
    assert (tmp_path / "adapter").is_dir() == (kind in ("lora", "prompt"))
    rows = NewRows.of(again)
    assert len(rows) == tokens.size - tokens.base
    engine = TransformersEngine(merge(again.backbone), rows, again.base)
    states = engine.hidden_states([prompt], np.arange(len(prompt))[None])[0]
    torch.testing.assert_close(torch.from_numpy(states), trained, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_with_fresh_weights_is_kept_with_every_adapter(checkpoints, kind: str, tmp_path: Path) -> None:
    model, tokens, settings = tuned(checkpoints["llama"], CATALOG, KINDS[kind])
    settings = ModelSettings(
        settings.name, None, True, settings.queries, settings.items, settings.head, settings.adapter
    )
    train(model, tokens)
    model.eval()
    save_model(tmp_path, settings, model)
    again, mark = load_model(tmp_path, settings)
    prompt = tokens.prompt(builder_of(CATALOG, tokens).verbalizer.prompt((), "red mug"))
    torch.testing.assert_close(alone(again, prompt), alone(model, prompt), atol=1e-6, rtol=1e-6)
    assert mark == "own"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_new_tokens_start_about_as_large_as_words(checkpoints, name: str) -> None:
    model, tokens, _ = tuned(checkpoints[name], CATALOG, AdapterSettings("prompt", tokens=8), queries=8)
    words = model.language_model.get_input_embeddings()(torch.arange(tokens.base)).detach()
    rows = NewRows.of(model)
    items, queries, soft = rows(torch.arange(len(rows))).split([tokens.items, 8, 8])
    for some in (items, queries, soft):
        assert 0.5 < float(some.std() / words.std()) < 2


@pytest.mark.parametrize(("parts", "unused"), [("id_only", "text_map.weight"), ("text_only", "id_part")])
def test_a_part_left_out_neither_counts_nor_trains(checkpoints, parts: str, unused: str) -> None:
    model, tokens, _ = tuned(checkpoints["llama"], CATALOG, KINDS["none"], parts=parts)
    gradients = train(model, tokens, steps=1)
    # Search words need items with a text part; facts and asks need neither.
    assert f"items.{unused}" not in gradients and len(gradients) == (11 if parts == "id_only" else 13)
    table = model.items().detach()
    with torch.no_grad():
        dict(model.items.named_parameters())[unused].add_(1.0)
    torch.testing.assert_close(model.items(), table)
    torch.testing.assert_close(model.items(torch.tensor([5, 2])), table[[5, 2]])


def test_the_fingerprint_tells_models_apart(checkpoints) -> None:
    marks = {
        fingerprint(tuned(checkpoints[name], CATALOG, KINDS["none"])[0].language_model)
        for name in ARCHITECTURES
    }
    assert len(marks) == 4
    model = tuned(checkpoints["llama"], CATALOG, KINDS["none"])[0].language_model
    first = fingerprint(model)
    assert first in marks and len(first) == 16
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    assert fingerprint(model) != first


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AdapterSettings("qlora"), "kind is 'qlora'"),
        (lambda: AdapterSettings(rank=0), "rank is 0"),
        (lambda: AdapterSettings(dropout=1.0), "dropout is 1.0"),
        (lambda: ItemSettings(parts="neither"), "parts is 'neither'"),
        (lambda: ItemSettings(id_start="luck"), "id_start is 'luck'"),
        (lambda: ItemSettings(inner=0), "inner is 0"),
    ],
)
def test_impossible_settings_are_one_line(make, said: str) -> None:
    with pytest.raises(LlmrecError, match=said) as error:
        make()
    assert "\n" not in str(error.value)
