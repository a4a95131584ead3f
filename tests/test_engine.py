"""The transformers engine: a batch is its prompts one by one, and scores are the model's own."""

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES, alone, builder_of, random_history, tiny_catalog, tuned

from llmrec.engines.transformers import TransformersEngine
from llmrec.model.adapters import merge
from llmrec.model.assemble import new_rows
from llmrec.model.settings import AdapterSettings

CATALOG = tiny_catalog()


@pytest.fixture(params=ARCHITECTURES)
def ready(request, checkpoints):
    model, tokens, _ = tuned(
        checkpoints[request.param], CATALOG, AdapterSettings("prompt", tokens=2), queries=3
    )
    return model, tokens, TransformersEngine(merge(model.backbone), new_rows(model), model.base)


def prompts_of(tokens, lengths: list[int]) -> list[list[int]]:
    rng = np.random.default_rng(2)
    verbalizer = builder_of(CATALOG, tokens, max_events=120).verbalizer
    return [
        tokens.prompt(
            verbalizer.prompt(random_history(rng, length, len(CATALOG)), "red mug" if at % 2 else "")
        )
        for at, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("last", [1, 3, 7])
def test_a_batch_is_its_prompts_one_by_one(ready, last: int) -> None:
    model, tokens, engine = ready
    prompts = prompts_of(tokens, [0, 12, 1, 30, 2, 12])
    assert len({len(prompt) for prompt in prompts}) > 4
    at = np.array([[len(prompt) - back for back in range(last, 0, -1)] for prompt in prompts])
    together = engine.hidden_states(prompts, at)
    assert together.shape == (6, last, 32) and together.dtype == np.float32
    for row, (prompt, states) in enumerate(zip(prompts, together, strict=True)):
        one = engine.hidden_states([prompt], at[row : row + 1])[0]
        np.testing.assert_allclose(one, states, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(alone(model, prompt)[-last:].numpy(), states, atol=1e-5, rtol=1e-5)


def test_many_tokens_go_in_several_batches(checkpoints) -> None:
    model, tokens, _ = tuned(checkpoints["llama"], CATALOG)
    engine = TransformersEngine(merge(model.backbone), new_rows(model), model.base)
    prompts = prompts_of(tokens, [60, 0] * 40)
    assert sum(map(len, prompts)) > 8192 > 0
    at = np.array([[0, len(prompt) - 1] for prompt in prompts])
    states = engine.hidden_states(prompts, at)
    for row in (0, 1, 39, 40, 78, 79):
        one = engine.hidden_states([prompts[row]], at[row : row + 1])[0]
        np.testing.assert_allclose(one, states[row], atol=1e-5)


def test_scores_read_from_the_engine_are_the_heads_best(ready) -> None:
    model, tokens, engine = ready
    prompts = prompts_of(tokens, [4, 9])
    at = np.array([[len(prompt) - back for back in (4, 3, 2, 1)] for prompt in prompts])
    states = engine.hidden_states(prompts, at)
    inward = model.head.inward.weight.detach().numpy()
    table = model.items().detach().numpy()
    scores = ((states[:, 1:] + states[:, :1]) @ inward.T @ table.T).max(axis=1)
    with torch.no_grad():
        own = torch.stack([alone(model, prompt)[-4:] for prompt in prompts])
        np.testing.assert_allclose(scores, model.head.best(own, model.items()).numpy(), atol=1e-4)


def test_no_prompts_no_states(ready) -> None:
    assert ready[2].hidden_states([], np.zeros((0, 3), dtype=int)).shape == (0, 3, 32)


@pytest.mark.parametrize("at", [[[0, 2], [0, 1]], [[0, 1], [-1, 3]]])
def test_a_position_outside_its_prompt_is_refused(ready, at) -> None:
    with pytest.raises(ValueError, match="outside its prompt"):
        ready[2].hidden_states([[5, 6], [5, 6, 7, 8]], np.array(at))
