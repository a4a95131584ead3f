"""How a base model learns codes: the rows of the new tokens train, and beside them LoRA, all or nothing.

peft trains single rows of embedding tables (`trainable_token_indices`). A soft prompt is rows of tokens of
its own that begin every prompt, so prompt tuning is training rows and nothing else. Everything folds into a
plain checkpoint that any server reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from peft import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.utils import TrainableTokensWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from llmrec.errors import LlmrecError
from llmrec.model.code_tokens import CodeTokens
from llmrec.model.settings import AdapterSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def make_room(model: PreTrainedModel, tokens: CodeTokens) -> None:
    """Give `model` rows for all of `tokens`; many models have some to spare."""
    if tokens.end > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(tokens.end, mean_resizing=False)


def tied(model: PreTrainedModel) -> bool:
    """Whether one table serves the input and the output."""
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def set_rows(model: PreTrainedModel, tokens: CodeTokens, inputs: Tensor, outputs: Tensor) -> None:
    """Write rows [len(tokens.ids), hidden] of the tokens into both tables, `outputs` where there are two."""
    own = slice(tokens.first, tokens.end)
    with torch.no_grad():
        model.get_input_embeddings().weight[own] = inputs
        if not tied(model):
            model.get_output_embeddings().weight[own] = outputs


def adapt_for_codes(model: PreTrainedModel, settings: AdapterSettings, tokens: CodeTokens) -> PeftModel:
    """`model` as it will train, its tables frozen but for the rows of `tokens`; see `set_rows` for those.

    "lora" adapts all linear layers, "full" trains the decoder's own weights, "prompt" and "none" nothing but
    the rows. Raises `LlmrecError` for a model whose output is no plain table.
    """
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not (isinstance(table, nn.Embedding) and isinstance(head, nn.Linear)):
        raise LlmrecError("the base model has no plain table of tokens at its output: choose another model")
    names = {id(module): name for name, module in model.named_modules()}
    rows = [names[id(module)].rpartition(".")[2] for module in ((table,) if tied(model) else (table, head))]
    config: LoraConfig | TrainableTokensConfig
    if settings.kind == "lora":
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules="all-linear",
            trainable_token_indices={name: list(tokens.ids) for name in rows},
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2
        )
    else:
        config = TrainableTokensConfig(
            task_type="CAUSAL_LM", target_modules=rows, token_indices=list(tokens.ids)
        )
    model.requires_grad_(False)
    with warnings.catch_warnings():
        # It doubts that tied tables stay tied; `merged` is tested against what it says.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        adapted: PeftModel = get_peft_model(model, config)
    if settings.kind == "full":
        frozen = {id(value) for value in _rows_layer(model.get_input_embeddings()).parameters()}
        for value in model.get_decoder().parameters():
            value.requires_grad_(value.requires_grad or id(value) not in frozen)
    return adapted


def merged(model: PeftModel) -> PreTrainedModel:
    """The plain model with everything that was learnt folded in; `model` itself is used up."""
    plain: PreTrainedModel = model.merge_and_unload()
    return plain


def logits_of(model: nn.Module, prompt: Sequence[int]) -> np.ndarray:
    """Logits over the whole vocabulary after each token of `prompt`, float32 [tokens, vocabulary]."""
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(prompt)], device=device)).logits[0]
    found: np.ndarray = logits.float().cpu().numpy()
    return found


def _rows_layer(module: nn.Module) -> TrainableTokensLayer:
    """The layer of peft with the trained rows, around a table."""
    layer: TrainableTokensLayer = (
        module.token_adapter if isinstance(module, TrainableTokensWrapper) else module
    )
    return layer


def trained_rows(module: nn.Module) -> nn.Parameter:
    """The rows [tokens, hidden] that train, of a table that `adapt_for_codes` wrapped."""
    rows: nn.Parameter = _rows_layer(module).trainable_tokens_delta["default"]
    return rows


def plain_table(module: nn.Module) -> nn.Module:
    """The table inside, whose own rows of the new tokens are what training began with."""
    table: nn.Module = _rows_layer(module).base_layer
    return table
