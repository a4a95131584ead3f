"""From a recipe to a model ready to train, from a model to files, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from llmrec.errors import BundleError
from llmrec.model.adapters import adapt, causal_lm, load_adapter, save_adapter, save_backbone
from llmrec.model.item_tokens import INNER_STD, ItemTokens
from llmrec.model.pretrained import hidden_size, load_backbone
from llmrec.model.query_head import QueryHead
from llmrec.model.settings import ModelSettings
from llmrec.model.tuned import TunedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fingerprint(model: PreTrainedModel) -> str:
    """Short hash of a model's shape and of a sample of its weights, the same on every machine."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 64)][:64].float().cpu().numpy()
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(np.ascontiguousarray(sample, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def new_model(
    settings: ModelSettings,
    text_vectors: np.ndarray,
    base: int,
    dropout: float,
    facts: np.ndarray | None = None,
) -> tuple[TunedModel, str]:
    """An untrained model and the fingerprint of its base. New parts are drawn from torch's generator.

    `text_vectors` [items, width], `base` the number of word ids (`model.tokens.PromptTokens.base`), `facts`
    [items, F] as `data.fact_columns` makes them, None for a model without.
    """
    backbone = load_backbone(settings.name, layers=settings.layers, random=settings.random)
    mark = fingerprint(backbone)
    known = torch.from_numpy(facts) if settings.head.facts and facts is not None else None
    return _around(adapt(backbone, settings.adapter), settings, text_vectors, base, dropout, known), mark


def _around(
    backbone: torch.nn.Module,
    settings: ModelSettings,
    text_vectors: np.ndarray,
    base: int,
    dropout: float,
    facts: torch.Tensor | None,
) -> TunedModel:
    """Item tokens and query head around an adapted backbone."""
    model = causal_lm(backbone)
    width, inner = hidden_size(model), settings.items.inner
    words = model.get_input_embeddings()
    # As they enter the model: some (Gemma) scale what they look up.
    spread = float(words(torch.arange(min(4096, words.num_embeddings))).detach().float().std())
    items = ItemTokens(
        torch.from_numpy(np.array(text_vectors)),
        width,
        inner,
        settings.items.parts,
        spread,
        settings.items.dropout,
        settings.items.without_id,
        facts,
    )
    head = QueryHead(
        width,
        inner,
        settings.queries,
        spread,
        settings.head.history_state,
        settings.head.recent,
        settings.head.search and settings.items.parts != "id_only",
        items.facts.shape[1],
        settings.head.asks,
        settings.head.seen,
    )
    head.start_from(items.token_map.weight, INNER_STD)
    return TunedModel(backbone, items, head, base, dropout)


def save_model(directory: Path, settings: ModelSettings, model: TunedModel) -> None:
    """Write backbone or adapter, new parts, text vectors and item matrix into `directory`."""
    if settings.own_backbone:
        save_backbone(model.backbone, directory / "backbone")
    save_adapter(model.backbone, directory / "adapter")
    parts = {f"items.{name}": value for name, value in model.items.state_dict().items()}
    parts |= {f"head.{name}": value for name, value in model.head.state_dict().items()}
    parts["base"] = torch.tensor([model.base])
    save_file(
        {name: value.contiguous().cpu() for name, value in parts.items()}, directory / "new_parts.safetensors"
    )
    np.save(directory / "text_vectors.npy", model.items.text_vectors.cpu().numpy())
    with torch.no_grad():
        np.save(directory / "item_matrix.npy", model.items().float().cpu().numpy())


def load_model(
    directory: Path, settings: ModelSettings, check: Callable[[str], None] = lambda mark: None
) -> tuple[TunedModel, str]:
    """Read what `save_model` wrote, in evaluation mode, and the fingerprint of the base it stands on.

    The fingerprint of a backbone that the bundle holds is "own": its hash is in the manifest. `check` gets
    the fingerprint before an adapter, which may not even fit, is put on that base; it may raise.
    """
    if settings.own_backbone:
        backbone, mark = load_backbone(str(directory / "backbone")), "own"
    else:
        backbone = load_backbone(settings.name, layers=settings.layers)
        mark = fingerprint(backbone)
    check(mark)
    adapted: torch.nn.Module = backbone
    if settings.adapter.kind in ("lora", "prompt"):
        adapted = load_adapter(backbone, directory / "adapter")
    parts = load_file(directory / "new_parts.safetensors")
    vectors = np.load(directory / "text_vectors.npy", allow_pickle=False)
    # Bundles from before search words counted have no gate for them, and no center of the texts; those from
    # before asks counted have no facts, and nothing for asks or for items of the history.
    head = replace(
        settings.head,
        search="head.search_gate.weight" in parts,
        asks="head.shift_asked" in parts,
        seen="head.seen" in parts,
    )
    settings = replace(settings, head=head)
    model = _around(adapted, settings, vectors, int(parts.pop("base").item()), 0.0, parts.get("items.facts"))
    parts.setdefault("items.center", torch.zeros_like(model.items.center))
    for name, module in (("items.", model.items), ("head.", model.head)):
        for key in ("fact_mean", "fact_spread", "facts"):
            if key in (own := module.state_dict()):
                parts.setdefault(name + key, own[key])
    try:
        for prefix, module in (("items.", model.items), ("head.", model.head)):
            own = {name.removeprefix(prefix): v for name, v in parts.items() if name.startswith(prefix)}
            module.load_state_dict(own)
    except RuntimeError as error:
        raise BundleError(f"{directory}/new_parts.safetensors does not fit its recipe: {error}") from error
    return model.eval().requires_grad_(False), mark
