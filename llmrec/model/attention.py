"""Which token may look at which: our own attention patterns, in the form that each architecture takes.

Training packs many prompts of one user into one sequence: branches stand after cut points and are
hidden from what follows. transformers takes such a pattern as a ready 4-D mask, but how differs:

- `sdpa` wants booleans (True: may look), which also survive autocast to 16 bits; `eager` adds the
  mask to the scores and wants numbers.
- Architectures whose layers alternate between full and sliding attention (Gemma, some Qwen) want a
  dictionary with one mask for each type of layer. Given one tensor they use it everywhere and lose
  the window; so the window is laid over the pattern here, by positions rather than by places in the
  packed sequence, because that is what a separate prompt would see.
- Without a 4-D mask transformers guesses packed sequences from positions that go back. So always
  pass the mask together with positions of your own.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmrec.errors import LlmrecError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FULL, _SLIDING = "full_attention", "sliding_attention"


def attention_inputs(
    model: "PreTrainedModel",
    visible: Tensor,
    positions: Tensor | None = None,
    key_positions: Tensor | None = None,
) -> dict[str, Any]:
    """Build the keyword arguments that make `model` attend exactly as `visible` says.

    visible: bool [batch, queries, keys], True where the query may look at the key; with a cache the
    keys are the cached tokens followed by the queries. positions: int64 [batch, queries], the
    `position_ids` of the same call; key_positions: int64 [batch, keys], by default `positions`. They
    are needed only by a model with a sliding window shorter than `keys`. A query that sees nothing
    gives finite states without meaning.

    Such a model must not crop its cache to the window: pass it `DynamicCache()` made without the
    configuration. Raises `LlmrecError` for an architecture that attends in some other way.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    types = set(getattr(config, "layer_types", None) or [_FULL if window is None else _SLIDING])
    if types - {_FULL, _SLIDING}:
        other = ", ".join(sorted(types - {_FULL, _SLIDING}))
        raise LlmrecError(
            f"the base model has layers of the kind {other}, which cannot hide one prompt from another: "
            "choose a model with full or sliding attention"
        )
    masks = {kind: visible for kind in sorted(types)}
    if _SLIDING in types and window is not None and visible.shape[-1] > window:
        masks[_SLIDING] = visible & _within(window, visible, positions, key_positions)
    ready = {kind: _ready(model, mask) for kind, mask in masks.items()}
    if len(ready) == 1 and not getattr(config, "layer_types", None):
        return {"attention_mask": next(iter(ready.values()))}
    return {"attention_mask": ready if _SLIDING in types else ready[_FULL]}


def _within(window: int, visible: Tensor, positions: Tensor | None, key_positions: Tensor | None) -> Tensor:
    """Bool [batch, queries, keys]: the key stands less than `window` positions before the query."""
    keys = positions if key_positions is None else key_positions
    if positions is None or keys is None or keys.shape[-1] != visible.shape[-1]:
        raise ValueError(
            f"attention_inputs needs the positions of the queries and of all {visible.shape[-1]} keys: "
            f"the model has a sliding window of {window}"
        )
    return keys[:, None, :] > positions[:, :, None] - window


def _ready(model: "PreTrainedModel", visible: Tensor) -> Tensor:
    """The mask [batch, 1, queries, keys] as the model's attention implementation takes it."""
    implementation = model.config.get_text_config()._attn_implementation
    if implementation == "sdpa":
        return visible[:, None]
    if implementation == "eager":
        hidden = torch.zeros_like(visible, dtype=model.dtype)
        return hidden.masked_fill_(~visible, torch.finfo(model.dtype).min)[:, None]
    raise LlmrecError(
        f"attention implementation {implementation!r} takes no pattern of ours: load the model with "
        "'sdpa' or 'eager'"
    )
