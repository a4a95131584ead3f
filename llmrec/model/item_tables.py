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
_ID_PART = "items.id_part"


@dataclass(frozen=True, slots=True)
class ItemTables:
    """`text_vectors` float32 [items, width] and `id_part` float32 [items, inner]."""

    text_vectors: np.ndarray
    id_part: np.ndarray


def read_tables(directory: Path) -> ItemTables:
    """The tables of the model that `model.assemble.save_model` wrote to `directory`."""
    parts = load_file(directory / "new_parts.safetensors")
    vectors = np.load(directory / "text_vectors.npy", allow_pickle=False)
    return ItemTables(vectors, parts[_ID_PART].float().numpy())


def write_tables(source: Path, target: Path, tables: ItemTables, changed: np.ndarray, parts: str) -> None:
    """Write the item files of the model in `source` to `target`, with other tables.

    `tables` have the items of `source` at the same rows and perhaps more behind them; `changed` int64 are the
    rows that differ, all new ones among them: their rows of V are computed, the others are kept bit for bit.
    `parts` as in `model.settings.ItemSettings`.
    """
    saved = load_file(source / "new_parts.safetensors")
    saved[_ID_PART] = torch.from_numpy(np.ascontiguousarray(tables.id_part)).to(saved[_ID_PART].dtype)
    own = {name.removeprefix("items."): v for name, v in saved.items() if name.startswith("items.")}
    hidden, inner = own["token_map.weight"].shape
    items = ItemTokens(torch.from_numpy(tables.text_vectors[changed]), hidden, inner, parts)
    # Bundles from before search words counted have no center: their text vectors went as they were.
    own.setdefault("center", torch.zeros_like(items.center))
    items.load_state_dict({**own, "id_part": saved[_ID_PART][torch.from_numpy(changed)]})
    old = np.load(source / "item_matrix.npy", allow_pickle=False)
    matrix = np.empty((len(tables.id_part), inner), dtype=old.dtype)
    matrix[: len(old)] = old
    with torch.no_grad():
        matrix[changed] = items().float().numpy()
    save_file({name: v.contiguous() for name, v in saved.items()}, target / "new_parts.safetensors")
    np.save(target / "text_vectors.npy", tables.text_vectors)
    np.save(target / "item_matrix.npy", matrix)
