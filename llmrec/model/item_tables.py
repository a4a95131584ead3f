"""What a saved model holds of each item: read, and written with more or other items, without its backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from llmrec.model.item_tokens import ItemTokens

TABLE_FILES = ("new_parts.safetensors", "text_vectors.npy", "item_matrix.npy")
"""The files of a saved model that have a row for each item; `write_tables` writes all of them."""
_ID_PART, _FACTS = "items.id_part", "items.facts"


@dataclass(frozen=True, slots=True)
class ItemTables:
    """`text_vectors` float32 [items, width] and `id_part` float32 [items, inner].

    `facts` float32 [items, F] as they stand in the rows of V; F is 0 for a model without them.
    """

    text_vectors: np.ndarray
    id_part: np.ndarray
    facts: np.ndarray


def read_tables(directory: Path) -> ItemTables:
    """The tables of the model that `model.assemble.save_model` wrote to `directory`."""
    parts = load_file(directory / "new_parts.safetensors")
    vectors = np.load(directory / "text_vectors.npy", allow_pickle=False)
    ids = parts[_ID_PART].float().numpy()
    facts = parts.get(_FACTS, torch.zeros(len(ids), 0)).float().numpy()
    return ItemTables(vectors, ids, facts)


def scaled_facts(directory: Path, raw: np.ndarray) -> np.ndarray:
    """Raw facts [n, F] of items, NaN unknown, as they stand in the rows of V of the model in `directory`.

    Without columns for a model without facts.
    """
    parts = load_file(directory / "new_parts.safetensors")
    if not parts.get(_FACTS, torch.zeros(0, 0)).shape[1]:
        return np.zeros((len(raw), 0), dtype=np.float32)
    items = ItemTokens(torch.zeros(len(raw), 1), 1, 1, facts=torch.from_numpy(raw))
    items.fact_mean, items.fact_spread = parts["items.fact_mean"], parts["items.fact_spread"]
    return items.scaled_facts(torch.from_numpy(raw)).numpy()


def write_tables(source: Path, target: Path, tables: ItemTables, changed: np.ndarray, parts: str) -> None:
    """Write the item files of the model in `source` to `target`, with other tables.

    `tables` have the items of `source` at the same rows and perhaps more behind them; `changed` int64 are the
    rows that differ, all new ones among them: their rows of V are computed, the others are kept bit for bit.
    `parts` as in `model.settings.ItemSettings`.
    """
    saved = load_file(source / "new_parts.safetensors")
    saved[_ID_PART] = torch.from_numpy(np.ascontiguousarray(tables.id_part)).to(saved[_ID_PART].dtype)
    saved[_FACTS] = torch.from_numpy(np.ascontiguousarray(tables.facts))
    own = {name.removeprefix("items."): v for name, v in saved.items() if name.startswith("items.")}
    hidden, inner = own["token_map.weight"].shape
    rows = torch.from_numpy(changed)
    facts = saved[_FACTS][rows]
    items = ItemTokens(torch.from_numpy(tables.text_vectors[changed]), hidden, inner, parts, facts=facts)
    # Bundles from before search words counted have no center: their text vectors went as they were.
    own.setdefault("center", torch.zeros_like(items.center))
    own = {**items.state_dict(), **own, "id_part": saved[_ID_PART][rows], "facts": facts}
    items.load_state_dict(own)
    old = np.load(source / "item_matrix.npy", allow_pickle=False)
    matrix = np.empty((len(tables.id_part), old.shape[1]), dtype=old.dtype)
    matrix[: len(old)] = old
    with torch.no_grad():
        matrix[changed] = items().float().numpy()
    save_file({name: v.contiguous() for name, v in saved.items()}, target / "new_parts.safetensors")
    np.save(target / "text_vectors.npy", tables.text_vectors)
    np.save(target / "item_matrix.npy", matrix)
