"""One more layer behind those of the base, whose attention sums up a history: writing codes starts from it.

An untrained language model knows nothing of who takes what; a closed form does (`items.collaborative`).
Here it becomes the weights of an ordinary layer, so that the model stays a plain checkpoint: values are the
vectors of the codes that were read, keys tell codes from words, queries ask for the newest codes (rotary
positions give a kernel over distances), each head for others, and the output goes where rows of codes are.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.errors import LlmrecError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Architectures with such layers, by `model_type`: rotary positions, linear maps, a norm before each part."""
_APART = 4.0
"""How much more a code is looked at than a word, as half a difference of logits."""
_NEWEST, _NEW = 1.0, 4.0
"""Events that heads look back, where there are several heads to a value; one head looks at all."""


def append_history_layer(model: PreTrainedModel) -> None:
    """Give `model` a layer more, a copy of the last one that adds nothing to what it reads yet.

    Raises `LlmrecError` for an architecture that is not one of `FAMILIES`.
    """
    config = model.config.get_text_config()
    if config.model_type not in FAMILIES:
        raise LlmrecError(
            f"codes: start: events needs a base model of one of the kinds {', '.join(FAMILIES)}, this one "
            f"is {config.model_type!r}: choose start: words"
        )
    layers: Any = model.get_decoder().layers
    total = len(layers)
    layer = copy.deepcopy(layers[-1])
    attention = layer.self_attn
    attention.layer_idx = total
    with torch.no_grad():
        layer.input_layernorm.weight.fill_(1)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
            projection.weight.zero_()
            if projection.bias is not None:
                projection.bias.zero_()
        layer.mlp.down_proj.weight.zero_()
    layers.append(layer)
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == total:
            setattr(config, name, [*value, value[-1]])
    config.num_hidden_layers = total + 1


class HistoryLayer:
    """The weights of an appended layer, adapters left aside."""

    def __init__(self, model: PreTrainedModel) -> None:
        """`model` was given its layer by `append_history_layer`."""
        decoder: Any = model.get_decoder()
        self.layer: Any = decoder.layers[-1]
        self._frequencies: Tensor = decoder.rotary_emb.inv_freq
        config = model.config.get_text_config()
        self.heads = int(config.num_attention_heads)
        self.values = int(config.num_key_value_heads)
        self.hidden = int(config.hidden_size)
        self.size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    @property
    def width(self) -> int:
        """How wide a history's sum is: a third of the states, and no more than the heads hold."""
        return min(self.values * self.size, self.hidden // 3)

    def write_looks(self, constant: Tensor, is_code: Tensor, span: int, levels: int) -> None:
        """Write queries and keys.

        `constant` and `is_code` [hidden] give, with what the layer reads, 1 for every token, and 1 for codes
        but -1 for words. `span`: tokens that a history may have, `levels` of them to an event.
        """
        kind, near, spare = self._pairs(span)
        frequency = float(self._frequencies[near])
        group = self.heads // self.values
        widths = [math.inf] if group == 1 else [_NEWEST, *[_NEW] * (group - 2), math.inf]
        looks = [0.0 if math.isinf(w) else 1 / (w * levels * frequency) ** 2 for w in widths]
        root = math.sqrt(self.size)  # logits are divided by it
        longest = root * math.hypot(_APART, max(looks))
        queries, keys = self._weights("q_proj"), self._weights("k_proj")
        queries.zero_()
        keys.zero_()
        for head in range(self.heads):
            look = looks[head % group]
            own = queries[head * self.size : (head + 1) * self.size]
            own[kind] = root * _APART * constant
            own[near] = root * look * constant
            # Norms of queries, where there are any, see all heads at the same length.
            own[spare] = math.sqrt(max(0.0, longest**2 - root**2 * (_APART**2 + look**2))) * constant
        for value in range(self.values):
            own = keys[value * self.size : (value + 1) * self.size]
            own[kind], own[near] = is_code, constant
        attention = self.layer.self_attn
        if hasattr(attention, "q_norm"):
            attention.q_norm.weight.data.fill_(longest / root)
            attention.k_norm.weight.data.fill_(math.sqrt(2) / root)

    def write_values(self, values: Tensor) -> None:
        """`values` [width, hidden] give, with what the layer reads at a code, the code's vector."""
        weights = self._weights("v_proj")
        weights.zero_()
        weights[: len(values)] = values.to(weights)

    def write_output(self, output: Tensor) -> None:
        """`output` [hidden, width] takes a history's sum to what is added to the state."""
        group, weights = self.heads // self.values, self._weights("o_proj")
        output = functional.pad(output, (0, self.values * self.size - output.shape[1]))
        blocks = [output[:, n * self.size : (n + 1) * self.size] for n in range(self.values)]
        weights.copy_(torch.cat([blocks[head // group] for head in range(self.heads)], 1))

    def _weights(self, name: str) -> Tensor:
        module: Any = getattr(self.layer.self_attn, name)
        plain: nn.Linear = getattr(module, "base_layer", module)
        return plain.weight.data

    def _pairs(self, span: int) -> tuple[int, int, int]:
        """Dimensions of a head: one that hardly turns, one that turns at most half over `span`, another."""
        slowest = len(self._frequencies) - 1
        turning = [n for n in range(slowest) if float(self._frequencies[n]) * span <= math.pi]
        near = turning[0] if turning else slowest - 1
        spare = next(n for n in range(slowest, -1, -1) if n not in (slowest, near))
        return slowest, near, spare
