"""A prepared dataset with another catalogue: users, events and splits stay as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

from llmrec.data.card import card_page, make_card
from llmrec.data.catalog import Catalog
from llmrec.data.prepared import Prepared
from llmrec.files import write_json, write_text

CHANGED_FILES = ("items.parquet", "manifest.json", "card.json", "card.md")
"""The files of a prepared dataset that depend on its catalogue."""


def write_catalog(prepared: Prepared, catalog: Catalog, folder: Path) -> None:
    """Write `CHANGED_FILES` of `prepared` with `catalog` to `folder`, where all the others are already.

    `catalog` has the items of `prepared` at the same indices, and perhaps more behind them.
    """
    if [item.id for item in catalog.items[: len(prepared.catalog)]] != [i.id for i in prepared.catalog.items]:
        raise ValueError("a changed catalogue must keep the index of every item")
    counts = {
        **prepared.manifest.get("counts", {}),
        "items": len(catalog),
        "items_without_title": sum(item.title == item.id for item in catalog.items),
        "items_retired": int(catalog.retired.sum()),
    }
    catalog.save(folder / "items.parquet")
    manifest = {"scenarios": {}, **prepared.manifest, "counts": counts}
    card = make_card(folder, manifest) | {"counts": counts}
    shutil.rmtree(folder / "spill", ignore_errors=True)
    write_json(folder / "card.json", card)
    write_text(folder / "card.md", card_page(card, manifest.get("dropped", {}), manifest.get("warnings", {})))
    write_json(folder / "manifest.json", manifest)
