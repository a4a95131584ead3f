"""A tuned model as a plain checkpoint, which any server reads: adapters folded in, new tokens as rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import AddedToken
from torch import Tensor

from llmrec.errors import BundleError, LlmrecError
from llmrec.model.adapters import merge
from llmrec.model.new_rows import NewRows
from llmrec.model.pretrained import load_backbone
from llmrec.model.tokens import PromptTokens
from llmrec.model.tuned import TunedModel
from llmrec.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHUNK = 65536
"""Rows that are computed at a time."""
_SAME = 1e-3
"""Largest difference of a hidden state between the model that was trained and the one that was written."""


def token_names(tokens: PromptTokens) -> list[str]:
    """What the ids from `tokens.base` on are called in an exported tokenizer."""
    counts = {"item": tokens.items, "query": tokens.queries, "soft": tokens.soft_prompt}
    return [f"<|{kind}_{number}|>" for kind, count in counts.items() for number in range(count)]


def write_backbone(model: TunedModel, directory: Path) -> None:
    """Write the merged language model alone: its new tokens go in as embeddings. `model` is used up."""
    with quiet():
        merge(model.backbone).save_pretrained(directory)


def write_with_rows(model: TunedModel, rows: NewRows, tokens: PromptTokens, directory: Path) -> None:
    """Write the merged language model, with a row of its table and a token for each id of `tokens`.

    `rows` is what they are. `model` is used up, and so is the tokenizer of `tokens`, which is written too.
    Raises `LlmrecError` for a tokenizer that cannot have the tokens, `BundleError` when something was lost.
    """
    add_tokens(tokens)
    plain = merge(model.backbone)
    probe = _probe(tokens)
    wanted = _states(plain, probe, rows, tokens.base)
    _put_rows(plain, rows, tokens.base)
    with quiet():
        plain.save_pretrained(directory)
        tokens.tokenizer.save_pretrained(str(directory))
    apart = float(np.abs(_states(load_backbone(directory), probe) - wanted).max())
    if not apart <= _SAME * max(1.0, float(np.abs(wanted).max())):
        raise BundleError(f"the exported model differs from the one that was trained (by {apart:.2g})")


def add_tokens(tokens: PromptTokens) -> None:
    """Add a control token for each id from `tokens.base` on to the tokenizer.

    Raises `LlmrecError` where they do not get these ids: a tokenizer that has some of the names already, or
    one with holes.
    """
    names = token_names(tokens)
    known = tokens.tokenizer.get_vocab()
    if any(name in known for name in names):
        raise LlmrecError("the base model has tokens for items already: start from the model it was made of")
    added = [AddedToken(name, normalized=False, special=True) for name in names]
    tokens.tokenizer.add_tokens(added, special_tokens=True)
    found = tokens.tokenizer.get_vocab()
    if [found.get(name) for name in names] != list(range(tokens.base, tokens.size)):
        raise LlmrecError("the base model's tokenizer numbers new tokens in its own way: choose another")


def _put_rows(model: PreTrainedModel, rows: NewRows, base: int) -> None:
    """Write `rows` into the input's table behind `base`; where the output has a table, zeros there."""
    end = base + len(rows)
    table: Any = model.get_input_embeddings()
    if end > table.num_embeddings:
        with quiet():
            model.resize_token_embeddings(end, mean_resizing=False)
        table = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    scale = float(getattr(table, "embed_scale", 1.0))  # Gemma scales what it looks up
    with torch.no_grad():
        if head is not None and head.weight is not table.weight:
            head.weight[base:end] = 0
        for start in range(0, len(rows), _CHUNK):
            part = torch.arange(start, min(start + _CHUNK, len(rows)))
            table.weight[base + part] = (rows(part) / scale).to(table.weight)


def _probe(tokens: PromptTokens) -> list[int]:
    """A prompt with words, the first and the last items, queries and the soft prompt."""
    some = [*range(min(tokens.items, 8)), *range(max(tokens.items - 8, 0), tokens.items)]
    words = tokens.encode_texts(["something blue"])[0]
    others = range(tokens.base + tokens.items, tokens.size)
    return [*tokens.prefix, *words, *(tokens.base + item for item in some), *words, *others]


@torch.no_grad()
def _states(
    model: PreTrainedModel, ids: list[int], rows: Callable[[Tensor], Tensor] | None = None, base: int = 0
) -> np.ndarray:
    """States of one prompt, [length, hidden]; with `rows`, the ids from `base` on are looked up there."""
    wanted = torch.tensor(ids)
    is_new = wanted >= base if rows is not None else torch.zeros(len(ids), dtype=torch.bool)
    embedded = model.get_input_embeddings()(torch.where(is_new, 0, wanted))
    if rows is not None:
        embedded[is_new] = rows(wanted[is_new] - base).to(embedded)
    output = model.get_decoder()(inputs_embeds=embedded[None], use_cache=False)
    found: np.ndarray = output.last_hidden_state[0].float().numpy()
    return found
