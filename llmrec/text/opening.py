"""From what a user names to something that writes: a dataset or a bundle, and a model."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle, open_bundle
from llmrec.data.catalog import Catalog
from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml
from llmrec.decode.continuations import TokenEngine
from llmrec.decode.readout import Readout
from llmrec.engines.choice import choose_engine
from llmrec.errors import LlmrecError, require_extra
from llmrec.fit import item_text
from llmrec.open_engine import close_with, open_engine
from llmrec.retrieve.grounding import THRESHOLD, Grounder
from llmrec.text.asking import Asking, TextSettings
from llmrec.text.free import FreeWriter
from llmrec.text.titles import TitleWriter
from llmrec.verbalize.templates import Templates

if TYPE_CHECKING:
    from llmrec.model.tokens import PromptTokens

ENCODER = "all-minilm-l6-v2"
"""Reads texts where no bundle says which encoder does."""


def open_text(
    source: str,
    model: str | None,
    free: bool = False,
    confidence: float | None = None,
    engine: str = "transformers",
) -> tuple[Bundle | CodeBundle | Prepared, Readout]:
    """A bundle or a dataset by name, and what writes for it; see `recommend.Shop.open`."""
    if confidence is not None and not free:
        raise LlmrecError("titles need no confidence, they are items: it goes with --free")
    data = open_data(source)
    if model is None and not free and isinstance(data, CodeBundle) and data.recipe.codes.tasks.next_title:
        return data, _tuned(data, engine)
    if not isinstance(data, Prepared):
        prepared, templates, encoder = data.prepared, data.templates, data.recipe.items.text_encoder
        name, settings = model or data.recipe.model, TextSettings(split=data.recipe.split)
    elif model is None:
        raise LlmrecError("say which model writes: --model smollm2-135m, or another of `llmrec models list`")
    else:
        prepared, templates, encoder = data, Templates.load(), ENCODER
        name, settings = model, TextSettings()
    grounder = open_grounder(prepared.catalog, encoder, confidence) if free else None
    runs, tokens = open_model(name, engine=engine)
    asking = Asking(prepared, tokens, templates, settings)
    writer: TitleWriter | FreeWriter
    writer = FreeWriter(asking, runs, grounder) if grounder else TitleWriter(asking, runs, settings)
    close_with(writer, runs)
    return data, writer


def _tuned(bundle: CodeBundle, engine: str) -> TitleWriter:
    """What writes titles with a bundle whose model learnt to."""
    runs = open_engine(bundle, engine)
    recipe = bundle.recipe
    settings = TextSettings(recipe.codes.titles, bare=0.0, split=recipe.split, tuned=True)
    asking = Asking(bundle.prepared, bundle.tokens(), bundle.templates, settings)
    writer = TitleWriter(asking, runs, settings)
    close_with(writer, runs)
    return writer


def open_data(source: str) -> Bundle | CodeBundle | Prepared:
    """A bundle, a prepared directory, or what a data.yaml or "sample" describes, prepared for this run."""
    place = sample_yaml() if source == "sample" and not Path(source).exists() else Path(source)
    if place.is_dir():
        return open_bundle(place) if (place / "prompts").is_dir() else Prepared(place)
    if not place.is_file():
        raise LlmrecError(f"there is no data at {place}: give a bundle, a prepared directory or a data.yaml")
    folder = tempfile.TemporaryDirectory(prefix="llmrec-")
    atexit.register(folder.cleanup)
    prepare(load_description(place), Path(folder.name) / "data")
    return Prepared(Path(folder.name) / "data")


def open_model(
    name: str, device: str = "auto", engine: str = "transformers"
) -> tuple[TokenEngine, PromptTokens]:
    """An engine, one of `engines.choice.ENGINES`, with a pretrained model as it is, and its tokens."""
    require_extra("train", ["torch", "transformers"], "running a model")
    from llmrec.model.pretrained import load_backbone, load_tokenizer, resolve
    from llmrec.model.tokens import PromptTokens

    tokens = PromptTokens(load_tokenizer(name), 0, 0)
    if choose_engine(engine) == "vllm":
        from llmrec.engines.vllm.tokens import VllmTokens

        return VllmTokens(resolve(name)), tokens
    from llmrec.engines.transformers import TransformersEngine

    return TransformersEngine(load_backbone(name), device=device), tokens


def open_grounder(catalog: Catalog, encoder: str = ENCODER, confidence: float | None = None) -> Grounder:
    """What looks texts up in a catalogue; vectors of its texts are kept beside llmrec's models.

    `encoder` is a known name, a hub name, a directory, or "hash". `confidence` is the least that is shown, by
    default `retrieve.grounding.THRESHOLD`.
    """
    from llmrec.items.encoders import encode_cached
    from llmrec.model.checkpoints import cache_root
    from llmrec.model.text_reader import text_reader

    reader = text_reader(encoder)
    texts = [item_text(item) for item in catalog.items]
    vectors = encode_cached(reader, texts, cache_root().parent / "vectors")
    return Grounder(catalog, texts, vectors, reader, THRESHOLD if confidence is None else confidence)
