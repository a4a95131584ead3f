"""A part of the bundled sample with categories and an attribute, and a tiny base model for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from tables import write_table
from tiny_models import save_checkpoint

from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared

ITEMS, USERS = 60, 60
"""The items with most events, and the users with most events in them."""
CATEGORIES = {
    "bag": "Bags & shoppers",
    "case": "Baking",
    "baking": "Baking",
    "light": "Lights",
    "tea": "Tea room",
}
SINGLE, UNTITLED = "one-time", "untitled"
"""A user with one event, and an item without title, text, price and events."""


def write_slice(sample: Prepared, folder: Path) -> Path:
    """Write the tables and their data.yaml; returns its path. Titles and prices are the shop's own."""
    histories, catalog = sample.histories, sample.catalog
    counts = np.bincount(histories.items, minlength=len(catalog))
    kept = np.sort(np.argsort(-counts, kind="stable")[:ITEMS])
    inside = histories.select(np.isin(histories.items, kept))
    users = np.sort(np.argsort(-np.diff(inside.offsets), kind="stable")[:USERS])
    items = [
        {
            "id": catalog[item].id,
            "title": catalog[item].title,
            "price": catalog[item].price,
            "category": next(
                (c for word, c in CATEGORIES.items() if word in catalog[item].title.lower()), ""
            ),
            "colour": next((c for c in ("Red", "Pink", "White") if c in catalog[item].title), ""),
        }
        for item in kept.tolist()
    ]
    items.append({"id": UNTITLED, "title": "", "price": None, "category": "", "colour": ""})
    events = [
        {"user": inside.users[user], "item": catalog[event.item].id, "time": event.time}
        for user in users.tolist()
        for event in inside.history(user)
    ]
    events.append({"user": SINGLE, "item": items[0]["id"], "time": 1_300_000_000})
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "items.jsonl", items)
    write_table(folder / "events.jsonl", events)
    columns = {
        "id": "id",
        "title": "title",
        "price": "price",
        "categories": "category",
        "attributes": ["colour"],
    }
    description = {
        "version": 1,
        "name": "slice",
        "currency": "GBP",
        "items": {"source": "items.jsonl", "columns": columns},
        "events": {"source": "events.jsonl", "columns": {"user": "user", "item": "item", "time": "time"}},
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(description))
    return path


def prepared_slice(sample: Prepared, folder: Path) -> Prepared:
    """The slice, prepared."""
    prepare(load_description(write_slice(sample, folder)), folder / "prepared")
    return Prepared(folder / "prepared")


def save_roomy_checkpoint(
    directory: Path, positions: int = 2048, head_dim: int | None = None, seed: int = 0
) -> Path:
    """The tiny llama with as many positions: a wish of 240 emoji is about a thousand tokens for it."""
    save_checkpoint("llama", directory, seed, head_dim)
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": positions}))
    return directory
