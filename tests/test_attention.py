"""One packed pass must equal separate prompts, for every architecture and attention implementation."""

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from llmrec.errors import LlmrecError
from llmrec.model.attention import attention_inputs

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
# A window shorter than the sequences, so that losing it would show.
SLIDING = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]


def configs() -> dict[str, PretrainedConfig]:
    return {
        "llama": LlamaConfig(**SHAPE),
        "qwen3": Qwen3Config(**SHAPE),
        "qwen3-sliding": Qwen3Config(**SHAPE, layer_types=SLIDING, sliding_window=5, use_sliding_window=True),
        "gemma3": Gemma3TextConfig(**SHAPE, layer_types=SLIDING, sliding_window=5),
        "mistral": MistralConfig(**SHAPE, sliding_window=5),
        "gpt2": GPT2Config(n_embd=32, n_layer=4, n_head=4, vocab_size=100, n_positions=64),
    }


def tiny(name: str, implementation: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(0)
    config = configs()[name]
    # Weights large enough that attention matters: the default spread of 0.02 hides a wrong mask.
    config.initializer_range = 0.3
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


def states(model: PreTrainedModel, ids: Tensor, **more: object) -> Tensor:
    embedded = model.get_input_embeddings()(ids)
    return model.get_decoder()(inputs_embeds=embedded, use_cache=False, **more).last_hidden_state


EVERY = [(name, kind) for name in configs() for kind in ("sdpa", "eager")]


@pytest.mark.parametrize(("name", "implementation"), EVERY)
@torch.inference_mode()
def test_packed_branches_equal_separate_prompts(name: str, implementation: str) -> None:
    model = tiny(name, implementation)
    history = torch.randint(0, 100, (12,))
    branches = {
        4: torch.randint(0, 100, (3,)),
        9: torch.randint(0, 100, (4,)),
        12: torch.randint(0, 100, (2,)),
    }
    # history up to a cut, its branch, the history's next part, and so on; -1 marks the history.
    tokens: list[int] = []
    owner: list[int] = []
    places: list[int] = []
    done = 0
    for cut, branch in branches.items():
        tokens += history[done:cut].tolist() + branch.tolist()
        owner += [-1] * (cut - done) + [cut] * len(branch)
        places += [*range(done, cut), *range(cut, cut + len(branch))]
        done = cut
    who = torch.tensor(owner)
    causal = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
    visible = causal & ((who[None] == -1) | (who[None] == who[:, None]))
    positions = torch.tensor([places])
    packed = states(
        model,
        torch.tensor([tokens]),
        position_ids=positions,
        **attention_inputs(model, visible[None], positions),
    )[0]
    for cut, branch in branches.items():
        alone = states(model, torch.cat([history[:cut], branch])[None])[0]
        torch.testing.assert_close(packed[who == cut], alone[cut:], atol=1e-4, rtol=1e-4)
    plain = states(model, history[None])[0]
    torch.testing.assert_close(packed[who == -1], plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "implementation"), EVERY)
@torch.inference_mode()
def test_hidden_padding_changes_nothing_and_stays_finite(name: str, implementation: str) -> None:
    model = tiny(name, implementation)
    ids = torch.randint(0, 100, (1, 9))
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids], dim=1)
    visible = torch.ones(1, 12, 12, dtype=torch.bool).tril()
    visible[:, :, :3] = False  # the padding rows see nothing at all
    positions = torch.tensor([[0, 0, 0, *range(9)]])
    got = states(model, padded, position_ids=positions, **attention_inputs(model, visible, positions))
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got[:, 3:], states(model, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "implementation"), EVERY)
@torch.inference_mode()
def test_a_branch_on_a_cached_history_equals_a_separate_prompt(name: str, implementation: str) -> None:
    model = tiny(name, implementation)
    ids = torch.randint(0, 100, (1, 14))
    embedded = model.get_input_embeddings()(ids)
    cache = DynamicCache()
    model.get_decoder()(inputs_embeds=embedded[:, :10], past_key_values=cache, use_cache=True)
    visible = torch.ones(1, 14, 14, dtype=torch.bool).tril()[:, 10:]
    positions, keys = torch.arange(10, 14)[None], torch.arange(14)[None]
    got = model.get_decoder()(
        inputs_embeds=embedded[:, 10:],
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        **attention_inputs(model, visible, positions, keys),
    ).last_hidden_state
    torch.testing.assert_close(got, states(model, ids)[:, 10:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_gradients_stay_finite_with_rows_that_see_nothing(name: str) -> None:
    model = tiny(name)
    visible = torch.ones(1, 8, 8, dtype=torch.bool).tril()
    visible[:, :, :3] = False
    positions = torch.tensor([[0, 0, 0, *range(5)]])
    ids = torch.randint(0, 100, (1, 8))
    states(model, ids, position_ids=positions, **attention_inputs(model, visible, positions))[
        :, 3:
    ].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_short_window_without_positions_is_refused() -> None:
    model = tiny("gemma3")
    with pytest.raises(ValueError, match="sliding window of 5"):
        attention_inputs(model, torch.ones(1, 6, 6, dtype=torch.bool).tril())
    short = attention_inputs(model, torch.ones(1, 5, 5, dtype=torch.bool).tril())
    assert set(short["attention_mask"]) == {"full_attention", "sliding_attention"}


def test_other_kinds_of_layers_and_implementations_are_refused() -> None:
    model = tiny("qwen3")
    visible = torch.ones(1, 3, 3, dtype=torch.bool)
    model.config.layer_types = ["linear_attention", *SLIDING[1:]]
    with pytest.raises(LlmrecError, match="linear_attention"):
        attention_inputs(model, visible)
    model = tiny("llama")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(LlmrecError, match="flex_attention"):
        attention_inputs(model, visible)
