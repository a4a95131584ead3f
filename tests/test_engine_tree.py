"""Trees of continuations behind prompts equal the model alone on each of them, for every architecture."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, VOCABULARY
from transformers import AutoModelForCausalLM

from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.quiet import quiet


def engine_of(checkpoint, implementation: str = "sdpa") -> TransformersEngine:
    with quiet():
        return TransformersEngine(
            AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation=implementation)
        )


@torch.inference_mode()
def alone(engine: TransformersEngine, ids: list[int]) -> np.ndarray:
    """Log-probabilities of the next token after one sequence by itself."""
    return engine.model(torch.tensor([ids])).logits[0, -1].float().log_softmax(dim=0).numpy()


def grow(engine, rng: np.random.Generator, lengths: list[int], steps: int, rows: int) -> None:
    """Ask for random trees behind random prompts and compare every answer with the model's own."""
    known = [rng.integers(0, VOCABULARY, length).tolist() for length in lengths]
    session = engine.begin(known)
    for step in range(steps):
        parents = rng.integers(0, len(known), rows)
        tails = [rng.integers(0, VOCABULARY, rng.integers(1, 4)) for _ in range(rows)]
        if step == 0:
            parents[:] = np.arange(rows) % len(lengths)
            tails[0] = tails[0][:0]
        tokens = rng.choice(VOCABULARY, 5, replace=False)
        whole = bool(rng.random() < 0.5)
        found = session.log_probabilities(parents, tails, tokens, whole)
        assert found.shape == (rows, 5) and found.dtype == np.float32
        known += [known[parent] + tail.tolist() for parent, tail in zip(parents, tails, strict=True)]
        assert session.prefixes == len(known)
        for row, ids in enumerate(known[-rows:]):
            expected = alone(engine, ids)[tokens]
            if not whole:
                found[row] -= found[row, 0] - expected[0]
            np.testing.assert_allclose(found[row], expected, atol=2e-4)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_trees_equal_sequences_alone(checkpoints, name: str, implementation: str) -> None:
    grow(engine_of(checkpoints[name], implementation), np.random.default_rng(0), [9, 3, 14, 1], 4, 7)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 30),
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 9),
)
def test_any_tree_behind_any_prompts(checkpoints, seed, lengths, steps, rows) -> None:
    grow(engine_of(checkpoints["gemma3"]), np.random.default_rng(seed), lengths, steps, rows)


def test_many_prompts_go_in_several_batches(checkpoints) -> None:
    grow(engine_of(checkpoints["qwen3"]), np.random.default_rng(1), [250, 2] * 30, 2, 61)


def test_each_prompt_and_each_token_is_computed_once(checkpoints) -> None:
    engine, seen = engine_of(checkpoints["llama"]), []
    engine.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    session = engine.begin([[5, 6, 7, 8], [9, 10]])
    nothing, one = np.array([], dtype=int), np.array([11])
    session.log_probabilities(np.array([0, 1]), [nothing, nothing], np.array([1, 2]), False)
    session.log_probabilities(np.array([0, 0, 1]), [one, one + 1, one], np.array([1]), False)
    session.log_probabilities(np.array([4, 4]), [one, np.array([4, 5, 6])], np.array([1]), True)
    assert seen == [(2, 4), (2, 2), (2, 4)]


def test_only_the_rows_of_the_tokens_that_are_asked_for_are_used(checkpoints) -> None:
    engine = engine_of(checkpoints["llama"])
    with torch.no_grad():
        engine.model.get_output_embeddings().weight[40:] = torch.nan
    session = engine.begin([[5, 6, 7]])
    nothing = [np.array([], dtype=int)]
    assert np.isfinite(session.log_probabilities(np.array([0]), nothing, np.arange(30), False)).all()
    assert not np.isfinite(session.log_probabilities(np.array([0]), nothing, np.arange(30), True)).any()


def test_a_cap_on_logits_is_kept(checkpoints) -> None:
    engine = engine_of(checkpoints["gemma3"])
    engine.model.config.final_logit_softcapping = 0.5
    grow(engine, np.random.default_rng(2), [4, 6], 2, 3)


def test_what_makes_no_sense_is_refused(checkpoints) -> None:
    engine = engine_of(checkpoints["llama"])
    nothing = np.array([], dtype=int)
    with pytest.raises(ValueError, match="a prompt is empty"):
        engine.begin([[3], []])
    session = engine.begin([[3]])
    session.log_probabilities(np.array([0]), [np.array([4])], np.array([1]), False)
    with pytest.raises(ValueError, match="only behind a prompt"):
        session.log_probabilities(np.array([1]), [nothing], np.array([1]), False)
    with pytest.raises(ValueError, match="outside the model's vocabulary of 290"):
        session.log_probabilities(np.array([0]), [nothing], np.array([290]), False)
    engine.model.config.logit_scale = 0.25
    with pytest.raises(LlmrecError, match="no plain table of tokens"):
        engine.begin([[3]])


def test_no_prompts(checkpoints) -> None:
    session = engine_of(checkpoints["llama"]).begin([])
    assert session.prefixes == 0
    assert session.log_probabilities(np.zeros(0, dtype=int), [], np.array([1, 2]), False).shape == (0, 2)
