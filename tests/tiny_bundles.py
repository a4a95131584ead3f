"""Recipes over the tiny shop and a tiny base model, and the bundles made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llmrec.config import Recipe, build


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


def tiny_recipe(data: Path | str, out: Path | str, model: Path | str, **changes: Any) -> Recipe:
    """The same, checked."""
    return build(Recipe, recipe_values(data, out, model, **changes), "recipe")


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    """Write a recipe as YAML."""
    path.write_text(yaml.safe_dump(values))
    return path
