"""How the backbone adapts: LoRA (the default), prompt tuning, or full tuning of a pruned base.

The first two are peft's own; what llmrec adds is that a soft prompt enters as token ids like any other
(`model.tokens`), so that masks, caches and servers need not know of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from llmrec.model.settings import AdapterSettings
from llmrec.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def adapt(model: PreTrainedModel, settings: AdapterSettings) -> nn.Module:
    """Return `model` as it will train: its word embeddings frozen, the rest as `settings` say."""
    model.requires_grad_(False)
    if settings.kind == "full":
        model.get_decoder().requires_grad_(True)
        model.get_input_embeddings().requires_grad_(False)
    if settings.kind in ("full", "none"):
        plain: nn.Module = model
        return plain
    config: PromptTuningConfig | LoraConfig
    if settings.kind == "prompt":
        # Rows start as words drawn from the vocabulary: peft's other choice is ten times as large as words.
        config = PromptTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=settings.tokens, prompt_tuning_init="SAMPLE_VOCAB"
        )
    else:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules="all-linear",
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2
        )
    adapted: nn.Module = get_peft_model(model, config)
    return adapted


def soft_prompt(model: nn.Module) -> Tensor | None:
    """Rows [tokens, hidden] of the soft prompt of a prompt-tuned model, None for others."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        rows: Tensor = model.get_prompt(batch_size=1)[0]
        return rows
    return None


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The causal language model inside, LoRA layers in place."""
    inner: PreTrainedModel = model.get_base_model() if isinstance(model, PeftModel) else model
    return inner


def save_backbone(model: nn.Module, directory: Path) -> None:
    """Write the causal language model inside as a plain checkpoint, without LoRA layers or soft prompt."""
    inner = causal_lm(model)
    plain = {
        name.replace(".base_layer.", "."): value
        for name, value in inner.state_dict().items()
        if ".lora_" not in name
    }
    with quiet():
        inner.save_pretrained(directory, state_dict=plain)


def save_adapter(model: nn.Module, directory: Path) -> None:
    """Write LoRA or a soft prompt in peft's own format; a model without either has nothing to write."""
    if isinstance(model, PeftModel):
        model.save_pretrained(directory, save_embedding_layers=False)


def load_adapter(model: PreTrainedModel, directory: Path) -> nn.Module:
    """Put a saved LoRA adapter or soft prompt back on its base model."""
    adapted: nn.Module = PeftModel.from_pretrained(model, directory)
    return adapted


def merge(model: nn.Module) -> PreTrainedModel:
    """Fold LoRA into the weights, for serving; others come back as they are (a soft prompt stays rows)."""
    if isinstance(model, PeftModel) and not model.active_peft_config.is_prompt_learning:
        merged: PreTrainedModel = model.merge_and_unload()
        return merged
    return causal_lm(model)
