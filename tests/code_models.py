"""The tiny shop with IDs, and models and examples that write them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from llmrec.data.catalog import Catalog
from llmrec.model.code_model import CodeModel, new_code_model
from llmrec.model.code_tokens import CodePrompts, add_code_tokens
from llmrec.model.pretrained import load_tokenizer
from llmrec.model.settings import AdapterSettings, ModelSettings
from llmrec.tune.alignment import ItemTasks
from llmrec.tune.code_settings import CodeSettings
from llmrec.tune.goals import Ask
from llmrec.tune.passages import CodeExampleBuilder
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.item_wordings import ItemWordings
from llmrec.verbalize.next_title import title_prompts
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

SIZES = (6, 4, 2)


def shop_codes(items: int) -> np.ndarray:
    """IDs of the tiny shop's items: the thing, the colour, and a code that is the same but once."""
    codes = np.stack([np.arange(items) // 4, np.arange(items) % 4, np.zeros(items, dtype=int)], axis=1)
    codes[3, 2] = 1
    return codes


@dataclass
class Writing:
    """All that writing codes needs, on one tiny checkpoint."""

    model: CodeModel
    prompts: CodePrompts
    builder: CodeExampleBuilder
    items: ItemTasks
    settings: CodeSettings


def writing(
    checkpoint: Path,
    catalog: Catalog,
    settings: CodeSettings | None = None,
    adapter: AdapterSettings | None = None,
    goals: Ask | None = None,
    examples: ExampleSettings | None = None,
    **prompt: object,
) -> Writing:
    """An untrained model over a catalogue; `prompt` goes to `PromptSettings`."""
    settings, adapter = settings or CodeSettings(), adapter or AdapterSettings("lora", rank=2, dropout=0.0)
    tokenizer = load_tokenizer(checkpoint)
    codes = shop_codes(len(catalog))
    prompts = CodePrompts(tokenizer, add_code_tokens(tokenizer, SIZES, adapter.soft_prompt), codes)
    chosen = PromptSettings(queries=0, **prompt)  # type: ignore[arg-type]
    forbidden = tuple(tokenizer.all_special_tokens)
    verbalizer, titles = (
        Verbalizer(catalog, each, ("",), Templates.load(), forbidden)
        for each in (chosen, replace(chosen, items="title"))
    )
    lines = None
    if settings.tasks.next_title:
        lines = title_prompts(catalog, ("",), Templates.load(), forbidden, settings.titles, True)
    items = ItemTasks(prompts, titles, ItemWordings.load(Templates.load()), settings, lines)
    builder = CodeExampleBuilder(verbalizer, prompts, goals, examples or ExampleSettings())
    torch.manual_seed(1)
    model, _ = new_code_model(
        ModelSettings(str(checkpoint), adapter=adapter), prompts.tokens, items.answers, codes, 0.0
    )
    return Writing(model.eval(), prompts, builder, items, settings)
