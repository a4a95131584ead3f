"""Semantic IDs by each quantiser, and how well a model that writes them finds the next item: prints a table.

Run: python benchmarks/quantisers_trained.py PREPARED [--recipe FILE] [--epochs 2] [--only tree] [--out DIR]

One model for each quantiser by one recipe (finetune/recipes/amazon2014-codes.yaml): same vectors, levels,
updates and seed, collisions relocated. All are asked the same draw of test questions, over
the whole catalogue, with seen items left out and without. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.config import Recipe, as_values, changed, load_recipe
from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters, Request
from llmrec.errors import LlmrecError
from llmrec.evaluate.bootstrap import intervals
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import ask, figures, questions
from llmrec.files import read_json, write_json, write_text
from llmrec.finetune import finetune
from llmrec.items.id_quality import measure_ids
from llmrec.items.quantise.settings import KINDS, said
from llmrec.make_ids import VectorSettings, item_vectors
from llmrec.progress import note

HEADER = (
    "quantiser",
    "levels",
    "colliding",
    "relocated",
    "neighbours kept",
    "validation before training",
    "validation",
    "recall@10",
    "ndcg@10",
    "recall@10, seen left out",
    "ndcg@10, seen left out",
    "minutes",
)
LISTED = 10


def asked(bundle: CodeBundle, most: int) -> dict[str, str]:
    """Recall and ndcg with half of their 95% bootstrap intervals, by column, on a draw of test questions."""
    cases = questions(bundle.prepared, bundle.recipe.split, "test")
    drawn = np.sort(np.random.default_rng(0).permutation(len(cases))[:most]).tolist()
    recommender = CodeRecommender(bundle, bundle.engine())
    targets = np.array([cases[at].target for at in drawn])
    found = {}
    for seen, suffix in ((False, ""), (True, ", seen left out")):
        requests = [
            Request(
                bundle.prepared.histories.history(cases[at].user, cases[at].cut),
                user=cases[at].user,
                filters=Filters(exclude_seen=seen),
            )
            for at in drawn
        ]
        values = figures(ask(recommender, requests, LISTED), targets)
        names = (f"recall@{LISTED}", f"ndcg@{LISTED}")
        for name, each in zip(names, intervals(np.stack([values[n] for n in names], axis=1)), strict=True):
            found[f"{name}{suffix}"] = f"{each.mean:.4f} ±{(each.high - each.low) / 2:.4f}"
    return found


def row_of(recipe: Recipe, most: int, kept: Path) -> dict[str, str]:
    """Train and ask one model, unless that was done; what it reached, by column."""
    settings: dict[str, Any] = {"recipe": as_values(recipe), "questions": most}
    if kept.is_file():
        done = read_json(kept, "figures")
        if {name: done[name] for name in settings} != settings:
            raise LlmrecError(f"{kept.parent} was made with other settings: choose another --out")
        found: dict[str, str] = done["row"]
        return found
    if not (Path(recipe.out) / "manifest.json").is_file():
        finetune(recipe)
    bundle = CodeBundle(Path(recipe.out))
    if bundle.recipe != recipe:
        raise LlmrecError(f"{bundle.directory} was made by another recipe: choose another --out")
    training, ids = bundle.manifest["training"], bundle.ids()
    source = VectorSettings(
        recipe.codes.vectors, recipe.items.text_encoder, recipe.split, weight=recipe.codes.weight
    )
    quality = measure_ids(
        ids, item_vectors(bundle.prepared, source, kept.parent / "texts"), recipe.train.seed
    )
    row = {
        "quantiser": recipe.codes.quantiser,
        "levels": said(ids.sizes),
        "colliding": f"{quality.colliding:.1%}",
        "relocated": f"{quality.relocated:.1%}",
        "neighbours kept": f"{quality.neighbours_kept or 0:.3f}",
        "validation before training": f"{training['log'][0]['ndcg@10']:.4f}",
        "validation": f"{training['validation_ndcg@10']:.4f}",
        "minutes": f"{training['training_seconds'] / 60:.0f}",
        **asked(bundle, most),
    }
    write_json(kept, {**settings, "row": row})
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one model for each quantiser, and write the table after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--recipe", type=Path, default=Path("finetune/recipes/amazon2014-codes.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/quantisers-trained"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--questions", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args(arguments)
    name = Prepared(options.prepared).name
    rows = []
    for kind in options.only:
        place = options.out.absolute() / name / kind
        recipe = changed(
            load_recipe(options.recipe), str(options.prepared), str(place / "bundle"), options.seed
        )
        recipe = replace(
            recipe,
            codes=replace(recipe.codes, quantiser=kind),
            train=replace(recipe.train, epochs=options.epochs),
            examples=replace(recipe.examples, versions=min(recipe.examples.versions, options.epochs)),
        )
        note(f"quantiser: {kind}")
        row = row_of(recipe, options.questions, place / "figures.json")
        rows.append([row[column] for column in HEADER])
        text = f"# Quantisers on {name}, {options.epochs} epochs, {options.questions:,} questions\n\n"
        write_text(options.out / f"{name}.md", f"{text}{table(HEADER, rows)}\n")
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
