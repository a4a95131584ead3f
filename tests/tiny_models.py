"""Tiny random base models with a real tokenizer, a tiny shop, and a model tuned to neither."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tables import describe, events_of, write_table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event, History
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.model.assemble import new_model
from llmrec.model.pretrained import load_tokenizer
from llmrec.model.settings import AdapterSettings, ItemSettings, ModelSettings
from llmrec.model.tokens import PromptTokens
from llmrec.model.tuned import TunedModel
from llmrec.quiet import quiet
from llmrec.tune.examples import ExampleBuilder, Goals
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

ARCHITECTURES = ("llama", "qwen3", "gemma3", "gpt2")
VOCABULARY = 290
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_WORDS = "History: weeks later days Wanted: something under 5 for Christmas blue mug red cup tea bag candle"


def _config(name: str) -> PretrainedConfig:
    sliding = ["sliding_attention", "full_attention"]  # a window that histories exceed
    return {
        "llama": lambda: LlamaConfig(**_SHAPE),
        "qwen3": lambda: Qwen3Config(**_SHAPE),
        "gemma3": lambda: Gemma3TextConfig(**_SHAPE, layer_types=sliding, sliding_window=7),
        "gpt2": lambda: GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=256, vocab_size=VOCABULARY,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        ),
    }[name]()  # fmt: skip


def _tokenizer(begins: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE with three control tokens; `begins`: a token of beginning goes before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 3,  # the embeddings of a base often have rows to spare
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_WORDS] * 5, trainer)
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    end = CONTROL[2] if begins else CONTROL[0]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=CONTROL[0],
        eos_token=end,
        pad_token=CONTROL[0],
        additional_special_tokens=[CONTROL[1]],
    )


def save_checkpoint(name: str, directory: Path, seed: int = 0, head_dim: int | None = None) -> Path:
    """Write a tiny random checkpoint of an architecture, tokenizer included.

    `head_dim` is another than 8, of those that have one; vLLM wants 32.
    """
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        config = _config(name)
        # Weights large enough that attention matters: the default spread of 0.02 hides a wrong mask.
        config.initializer_range = 0.2
        if head_dim is not None:
            config.head_dim = head_dim
        AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    _tokenizer(begins=name in ("llama", "gemma3")).save_pretrained(directory)
    return directory


COLOURS, THINGS = ("red", "blue", "green", "white"), ("mug", "bag", "candle", "lamp", "card", "clock")


def tiny_catalog() -> Catalog:
    """24 items: six things in four colours, with prices and categories."""
    return Catalog(
        Item(f"i{at}", f"{colour} {thing}", f"{colour} {thing}", 1.0 + at / 2, (thing,))
        for at, (thing, colour) in enumerate((thing, colour) for thing in THINGS for colour in COLOURS)
    )


def tiny_prepared(directory: Path, users: int = 30) -> Prepared:
    """The shop as a prepared dataset: every user stays with two of the six things."""
    catalog, rng = tiny_catalog(), np.random.default_rng(3)
    histories: dict[str, Sequence[int]] = {}
    for user in range(users):
        liked = [4 * (user % 6) + at for at in range(4)] + [4 * ((user + 1) % 6) + at for at in range(4)]
        histories[f"u{user}"] = rng.choice(liked, size=int(rng.integers(3, 9))).tolist()
    directory.mkdir(parents=True, exist_ok=True)
    items = [{"id": item.id, "title": item.title, "price": item.price} for item in catalog.items]
    write_table(directory / "items.csv", items)
    write_table(directory / "events.csv", events_of(histories))
    prepare(describe(directory), directory / "prepared")
    return Prepared(directory / "prepared")


def random_history(
    rng: np.random.Generator, length: int, items: int, types: Sequence[str] = ("",)
) -> History:
    """Events with gaps of time now and then."""
    time, events = 1_300_000_000, []
    for _ in range(length):
        time += int(rng.choice([60, 2 * 86400, 20 * 86400]))
        events.append(Event(int(rng.integers(items)), time, str(rng.choice(list(types)))))
    return tuple(events)


FACTS = 3
"""Facts of each item of a `tuned` model."""


def tuned(
    checkpoint: Path,
    catalog: Catalog,
    adapter: AdapterSettings | None = None,
    queries: int = 2,
    **more: object,
) -> tuple[TunedModel, PromptTokens, ModelSettings]:
    """An untrained model on a checkpoint, and its token map; `more` goes to `ItemSettings`."""
    adapter = adapter or AdapterSettings("full")
    items = ItemSettings(**{"inner": 16, "text_encoder": "hash", "id_start": "random", **more})  # type: ignore[arg-type]
    settings = ModelSettings(str(checkpoint), queries=queries, items=items, adapter=adapter)
    tokens = PromptTokens(load_tokenizer(checkpoint), len(catalog), queries, adapter.soft_prompt)
    vectors = np.random.default_rng(0).standard_normal((len(catalog), 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    torch.manual_seed(1)
    facts = np.random.default_rng(1).standard_normal((len(catalog), FACTS)).astype(np.float32)
    facts[0, 1] = np.nan
    model, _ = new_model(settings, vectors, tokens.base, dropout=0.0, facts=facts)
    return model.eval(), tokens, settings


def builder_of(
    catalog: Catalog,
    tokens: PromptTokens,
    goals: Goals | None = None,
    types: Sequence[str] = ("",),
    examples: ExampleSettings | None = None,
    **prompt: object,
) -> ExampleBuilder:
    """An example builder with the shipped templates; `prompt` goes to `PromptSettings`."""
    settings = PromptSettings(queries=tokens.queries, **prompt)  # type: ignore[arg-type]
    verbalizer = Verbalizer(
        catalog, settings, types, Templates.load(), tuple(tokens.tokenizer.all_special_tokens)
    )
    return ExampleBuilder(verbalizer, tokens, goals, examples or ExampleSettings())


def alone(model: TunedModel, ids: Sequence[int]) -> torch.Tensor:
    """States [length, hidden] of one prompt by itself, with plain causal attention."""
    row = torch.tensor([list(ids)])
    length = row.shape[1]
    visible = torch.ones(1, length, length, dtype=torch.bool).tril()
    with torch.no_grad():
        return model(row, visible, torch.arange(length)[None])[0]
