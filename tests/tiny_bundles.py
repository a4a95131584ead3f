"""Recipes over the tiny shop and a tiny base model, and the bundles made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors.numpy import load_file, save_file

from llmrec.config import Recipe, build
from llmrec.files import sha256_of


def recipe_values(data: Path | str, out: Path | str, model: Path | str, **changes: Any) -> dict[str, Any]:
    """A recipe that trains in a second; `changes` replace whole keys."""
    return {
        "data": str(data),
        "out": str(out),
        "model": str(model),
        "items": {"inner": 8, "text_encoder": "hash"},
        "prompt": {"queries": 2},
        "adapter": {"kind": "lora", "rank": 2},
        "examples": {"versions": 1, "cuts": 2},
        "train": {"epochs": 1, "batch": 4, "dropout": 0.0, "precision": "no", "learning_rate": 0.01},
        **changes,
    }


def code_values(data: Path | str, out: Path | str, model: Path | str, **changes: Any) -> dict[str, Any]:
    """A recipe whose model writes codes, of which there are enough for a hundred items."""
    parts: dict[str, Any] = {
        "readout": "codes",
        "items": {"text_encoder": "hash"},
        "prompt": {"max_events": 16, "gaps": False},
        "codes": {"levels": [8, 16], "beam": 20, "questions": 30},
    }
    return recipe_values(data, out, model, **{**parts, **changes})


def tiny_recipe(data: Path | str, out: Path | str, model: Path | str, **changes: Any) -> Recipe:
    """The same, checked."""
    return build(Recipe, recipe_values(data, out, model, **changes), "recipe")


def code_recipe(data: Path | str, out: Path | str, model: Path | str, **changes: Any) -> Recipe:
    """The recipe of `code_values`, checked."""
    return build(Recipe, code_values(data, out, model, **changes), "recipe")


def louder(directory: Path) -> Path:
    """A retrieval bundle after so short a training goes by the newest items; now its model counts as well.

    Changed in place; not for versions, whose files are shared.
    """
    parts, manifest = directory / "new_parts.safetensors", directory / "manifest.json"
    values = load_file(parts)
    values["head.inward.weight"] *= 300
    save_file(values, parts)
    known = json.loads(manifest.read_text())
    known["parts"][parts.name] = sha256_of(parts)
    manifest.write_text(json.dumps(known))
    return directory


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    """Write a recipe as YAML."""
    path.write_text(yaml.safe_dump(values))
    return path
