"""Loading a pretrained language model: its tokenizer, and its first layers as a causal language model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from llmrec.errors import LlmrecError
from llmrec.model.checkpoints import resolve
from llmrec.quiet import quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["hidden_size", "keep_layers", "load_backbone", "load_tokenizer", "resolve"]


def load_tokenizer(name_or_path: str | Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a model by known name, hub name or directory (see `resolve`).

    A directory may hold the tokenizer alone. Where it holds a model too, the tokenizer's `model_max_length`
    is at most the number of positions that the model has; it is saved with the tokenizer.
    """
    directory = Path(name_or_path)
    if not (directory / "tokenizer_config.json").is_file():
        directory = resolve(str(name_or_path))
    try:
        with quiet():
            tokenizer = cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(directory))
            if (directory / "config.json").is_file():
                text = AutoConfig.from_pretrained(directory).get_text_config()
                positions = getattr(text, "max_position_embeddings", None)  # some have no limit
                tokenizer.model_max_length = min(tokenizer.model_max_length, positions or sys.maxsize)
    except (OSError, ValueError, KeyError) as error:
        raise LlmrecError(f"{directory} has no usable tokenizer: {_first_line(error)}") from error
    return tokenizer


def load_backbone(
    name_or_path: str | Path,
    *,
    layers: int | None = None,
    random: bool = False,
    dtype: torch.dtype = torch.float32,
) -> "PreTrainedModel":
    """Load a causal language model in evaluation mode, whole or its first `layers` layers.

    Keeping the first layers and the final norm is the pruning of M6-Rec, section 2.5; the
    configuration says so too, so that the pruned model saves and loads as any other. The dropped
    layers are never read. `random` gives the same shape with fresh weights, drawn from torch's
    global generator. Raises `LlmrecError` for an unknown name, a checkpoint that lacks weights, or
    more layers than it has.
    """
    directory = resolve(str(name_or_path))
    try:
        with quiet():
            config = AutoConfig.from_pretrained(directory)
            if layers is not None:
                keep_layers(config, layers)
            if random:
                model = AutoModelForCausalLM.from_config(config, dtype=dtype)
            else:
                model = _with_weights(directory, config, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise LlmrecError(
            f"{directory} cannot be loaded as a causal language model: {_first_line(error)}"
        ) from error
    return cast("PreTrainedModel", model.eval())


def _with_weights(directory: Path, config: "PretrainedConfig", dtype: torch.dtype) -> Any:
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    # transformers fills what is missing with random numbers and goes on; that is no pretrained model.
    wrong = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    if wrong:
        raise LlmrecError(
            f"{directory} lacks {len(wrong)} of the model's weights or has them in another shape "
            f"(first: {wrong[0]}): fetch the model again"
        )
    return model


def keep_layers(config: "PretrainedConfig", layers: int) -> None:
    """Change `config` in place to the first `layers` layers, lists with an entry for each layer included."""
    text = config.get_text_config()
    total = text.num_hidden_layers
    if not 1 <= layers <= total:
        raise LlmrecError(f"layers is {layers}: the model has {total}, choose from 1 to {total}")
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == total:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers


def hidden_size(model: "PreTrainedModel") -> int:
    """Width of the model's hidden states."""
    return int(model.config.get_text_config().hidden_size)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
