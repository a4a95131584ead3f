"""A prepared dataset with other items: more or changed ones, or without some and all their events."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.data.card import card_page, make_card
from llmrec.data.catalog import Catalog
from llmrec.data.prepared import Prepared
from llmrec.errors import DataError
from llmrec.files import write_json, write_text

CHANGED_FILES = ("items.parquet", "manifest.json", "card.json", "card.md")
"""The files of a prepared dataset that depend on its catalogue."""


def write_catalog(prepared: Prepared, catalog: Catalog, folder: Path) -> None:
    """Write `CHANGED_FILES` of `prepared` with `catalog` to `folder`, where all the others are already.

    `catalog` has the items of `prepared` at the same indices, and perhaps more behind them.
    """
    if [item.id for item in catalog.items[: len(prepared.catalog)]] != [i.id for i in prepared.catalog.items]:
        raise ValueError("a changed catalogue must keep the index of every item")
    _write_rest(prepared, catalog, {"items": len(catalog)}, folder)


def _write_rest(prepared: Prepared, catalog: Catalog, sizes: Mapping[str, int], folder: Path) -> None:
    """Write `CHANGED_FILES` for `catalog`; `sizes` are the counts that are not those of `prepared`."""
    counts = {
        **prepared.manifest.get("counts", {}),
        **sizes,
        "items_without_title": sum(item.title == item.id for item in catalog.items),
        "items_retired": int(catalog.retired.sum()),
    }
    catalog.save(folder / "items.parquet")
    manifest = {"scenarios": {}, **prepared.manifest, "counts": counts}
    card = make_card(folder, manifest) | {"counts": counts}
    shutil.rmtree(folder / "spill", ignore_errors=True)
    write_json(folder / "card.json", card)
    page = card_page(card, manifest.get("dropped", {}), manifest.get("warnings", {}))
    write_text(folder / "card.md", page)
    write_json(folder / "manifest.json", manifest)


def write_without(prepared: Prepared, left_out: np.ndarray, folder: Path) -> None:
    """Write `prepared` without the items where `left_out` bool [items] is true to the directory `folder`.

    Their events go too, and users who had no others. The other events keep their folds.
    """
    kept = ~left_out[prepared.histories.items]
    events = pq.read_table(prepared.directory / "events.parquet")
    users = np.unique(events.column("user").to_numpy()[kept])
    if not len(users):
        raise DataError(f"nothing would be left of {prepared.directory}: leave out fewer items")
    events = events.filter(pa.array(kept))
    numbers = {
        "user": np.searchsorted(users, events.column("user").to_numpy()),
        "item": (np.cumsum(~left_out) - 1)[events.column("item").to_numpy()],
    }
    for name, values in numbers.items():
        place = events.schema.get_field_index(name)
        events = events.set_column(place, name, pa.array(values, events.schema.field(name).type))
    pq.write_table(events, folder / "events.parquet", compression="zstd")
    people = pq.read_table(prepared.directory / "users.parquet").take(users)
    pq.write_table(people, folder / "users.parquet", compression="zstd")
    (folder / "splits").mkdir()
    for name in prepared.manifest["splits"]:
        folds = pq.read_table(prepared.directory / "splits" / f"{name}.parquet").filter(pa.array(kept))
        pq.write_table(folds, folder / "splits" / f"{name}.parquet", compression="zstd")
    items = [item for item, out in zip(prepared.catalog.items, left_out.tolist(), strict=True) if not out]
    sizes = {"items": len(items), "users": len(users), "events": len(events)}
    _write_rest(prepared, Catalog(items, prepared.catalog.currency), sizes, folder)
