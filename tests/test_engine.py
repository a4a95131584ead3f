"""The transformers engine: a batch is its prompts one by one, and scores are the model's own."""

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES, alone, builder_of, random_history, tiny_catalog, tuned

from llmrec.engines.contract import Branching
from llmrec.engines.transformers import TransformersEngine
from llmrec.model.adapters import merge
from llmrec.model.new_rows import NewRows
from llmrec.model.settings import AdapterSettings

CATALOG = tiny_catalog()


@pytest.fixture(params=ARCHITECTURES)
def ready(request, checkpoints):
    model, tokens, _ = tuned(
        checkpoints[request.param], CATALOG, AdapterSettings("prompt", tokens=2), queries=3
    )
    return model, tokens, TransformersEngine(merge(model.backbone), NewRows.of(model), model.base)


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
    engine = TransformersEngine(merge(model.backbone), NewRows.of(model), model.base)
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
        np.testing.assert_allclose(scores, model.best(own, model.items()).numpy(), atol=1e-4)


def test_no_prompts_no_states(ready) -> None:
    assert ready[2].hidden_states([], np.zeros((0, 3), dtype=int)).shape == (0, 3, 32)


@pytest.mark.parametrize("at", [[[0, 2], [0, 1]], [[0, 1], [-1, 3]]])
def test_a_position_outside_its_prompt_is_refused(ready, at) -> None:
    with pytest.raises(ValueError, match="outside its prompt"):
        ready[2].hidden_states([[5, 6], [5, 6, 7, 8]], np.array(at))


# --- several tails behind one head ------------------------------------------------------------------------

WISHES = ("", "red mug", "a blue bag for Christmas, not green", "tea", "something under 5", "candle lamp")


def branching_of(tokens, length: int, wishes: tuple[str, ...], seed: int = 0) -> Branching:
    verbalizer = builder_of(CATALOG, tokens, max_events=120).verbalizer
    history = random_history(np.random.default_rng(seed), length, len(CATALOG))
    prompts = [verbalizer.prompt(history, wish) for wish in wishes]
    assert len({tuple(tokens.head(prompt)) for prompt in prompts}) == 1
    return Branching(tokens.head(prompts[0]), [tokens.encode(prompt.tail) for prompt in prompts])


def at_head_and_queries(branching: Branching) -> np.ndarray:
    """The last token of the head and the last three of each prompt."""
    head = len(branching.head)
    return np.array(
        [[head - 1, *range(head + len(tail) - 3, head + len(tail))] for tail in branching.tails]
    ).reshape(len(branching.tails), 4)


def test_shared_heads_change_nothing(ready) -> None:
    """Users with several tails each, some with one, one with none, histories of many lengths."""
    _, tokens, engine = ready
    shapes = [(30, 6), (0, 2), (12, 1), (1, 3), (25, 0), (33, 5), (12, 4)]
    branchings = [
        branching_of(tokens, length, WISHES[:tails] or ("",), seed)
        for seed, (length, tails) in enumerate(shapes)
    ]
    branchings[4] = Branching(branchings[4].head, [])
    at = [at_head_and_queries(branching) for branching in branchings]
    found = engine.branch_states(branchings, at)
    assert [states.shape for states in found] == [(tails, 4, 32) for _, tails in shapes]
    for branching, wanted, states in zip(branchings, at, found, strict=True):
        assert states.dtype == np.float32
        for prompt, place, some in zip(branching.prompts, wanted, states, strict=True):
            alone_states = engine.hidden_states([prompt], place[None])[0]
            np.testing.assert_allclose(some, alone_states, atol=1e-4, rtol=1e-4)


def test_heads_go_through_the_model_once(ready) -> None:
    """Twelve wishes cost the tokens of one head and twelve tails."""
    _, tokens, engine = ready
    branching = branching_of(tokens, 20, WISHES * 2)
    seen = []
    handle = engine.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape), with_kwargs=True
    )
    engine.branch_states([branching], [at_head_and_queries(branching)])
    handle.remove()
    assert seen == [(1, len(branching.head) + sum(map(len, branching.tails)), 32)]


def test_tails_beyond_a_rows_room_go_in_several_rows(checkpoints) -> None:
    model, tokens, _ = tuned(checkpoints["gemma3"], CATALOG, queries=3)
    engine = TransformersEngine(merge(model.backbone), NewRows.of(model), model.base)
    branching = branching_of(tokens, 20, WISHES * 30)
    assert sum(map(len, branching.tails)) > 2 * 1024
    at = at_head_and_queries(branching)
    (states,) = engine.branch_states([branching], [at])
    for row in (0, 1, 59, 60, 61, 120, 178, 179):
        one = engine.hidden_states([branching.prompts[row]], at[row : row + 1])[0]
        np.testing.assert_allclose(states[row], one, atol=1e-4, rtol=1e-4)


def test_a_position_outside_a_branch_is_refused(ready) -> None:
    branching = Branching([5, 6], [[7], [7, 8]])
    with pytest.raises(ValueError, match="outside its prompt"):
        ready[2].branch_states([branching], [np.array([[3], [3]])])


def test_embeddings_of_items_are_computed_when_they_occur(checkpoints) -> None:
    """A catalogue of a million items costs its rows of V, not rows of the model's width."""
    model, tokens, _ = tuned(checkpoints["llama"], CATALOG, AdapterSettings("prompt", tokens=2), queries=3)
    rows = NewRows.of(model)
    expected = torch.cat([model.items.tokens(model.items()), model.head.queries, rows(torch.arange(27, 29))])
    found = rows(torch.arange(len(rows)))
    torch.testing.assert_close(found, expected.detach())
    assert not torch.equal(found[27], found[28])
    row = model.items().detach().numpy()[3]
    table = np.broadcast_to(row, (50_000_000, len(row)))  # no memory behind it
    many = NewRows.of(model, table)
    assert len(many) == 50_000_005
    torch.testing.assert_close(many(torch.tensor([49_999_999, 50_000_000])), found[[3, 24]])
