"""From what a user names to something that writes: a dataset or a bundle, and a model."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.bundle import Bundle
from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml
from llmrec.decode.readout import Readout
from llmrec.errors import LlmrecError, require_extra
from llmrec.text.titles import TextSettings, TitleWriter
from llmrec.verbalize.templates import Templates

if TYPE_CHECKING:
    from llmrec.engines.transformers import TransformersEngine
    from llmrec.model.tokens import PromptTokens


def open_text(source: str, model: str | None) -> tuple[Bundle | Prepared, Readout]:
    """A bundle or a dataset by name, and what writes for it (see `recommend.Shop.open`)."""
    data = open_data(source)
    if model is None and not isinstance(data, Bundle):
        raise LlmrecError("say which model writes: --model smollm2-135m, or another of `llmrec models list`")
    if isinstance(data, Bundle):
        name, templates, prepared = model or data.recipe.model, data.templates, data.prepared
        settings = TextSettings(split=data.recipe.split)
    else:
        name, templates, prepared, settings = str(model), Templates.load(), data, TextSettings()
    engine, tokens = open_model(name)
    return data, TitleWriter(prepared, engine, tokens, templates, settings)


def open_data(source: str) -> Bundle | Prepared:
    """A bundle, a prepared directory, or what a data.yaml or "sample" describes, prepared for this run."""
    place = sample_yaml() if source == "sample" and not Path(source).exists() else Path(source)
    if place.is_dir():
        return Bundle(place) if (place / "prompts").is_dir() else Prepared(place)
    if not place.is_file():
        raise LlmrecError(f"there is no data at {place}: give a bundle, a prepared directory or a data.yaml")
    folder = tempfile.TemporaryDirectory(prefix="llmrec-")
    atexit.register(folder.cleanup)
    prepare(load_description(place), Path(folder.name) / "data")
    return Prepared(Path(folder.name) / "data")


def open_model(name: str, device: str = "cpu") -> tuple[TransformersEngine, PromptTokens]:
    """The engine of a pretrained model as it is, and its tokens."""
    require_extra("train", ["torch", "transformers"], "running a model")
    from llmrec.engines.transformers import TransformersEngine
    from llmrec.model.pretrained import load_backbone, load_tokenizer
    from llmrec.model.tokens import PromptTokens

    return TransformersEngine(load_backbone(name), device=device), PromptTokens(load_tokenizer(name), 0, 0)
