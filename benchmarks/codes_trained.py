"""What one choice is worth to a model that writes semantic IDs: a bundle for each variant, and a table.

Run: python benchmarks/codes_trained.py PREPARED [--axis quantiser|beam-aware] [--recipe FILE] [--epochs 2]
         [--only tree lsh] [--out DIR]

Variants of one recipe (finetune/recipes/amazon2014-codes.yaml) with the same vectors, levels, updates and
seed, collisions relocated: one for each quantiser, or for each form of training that knows of the beam search
(BEAR). All are asked the same draw of test questions, over the whole catalogue, with seen items left out and
without. A run that was stopped goes on, and what one `--only` left is in the next one's table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from drawn import drawn

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
from llmrec.tune.code_settings import FORMS

AXES = {
    "quantiser": KINDS,
    "beam-aware": FORMS,
}
HEADER = (
    "variant",
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
    cases = drawn(questions(bundle.prepared, bundle.recipe.split, "test"), most)
    recommender = CodeRecommender(bundle, bundle.engine())
    targets = np.array([case.target for case in cases])
    found = {}
    for seen, suffix in ((False, ""), (True, ", seen left out")):
        requests = [
            Request(
                bundle.prepared.histories.history(case.user, case.cut),
                user=case.user,
                filters=Filters(exclude_seen=seen),
            )
            for case in cases
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
        "variant": kept.parent.name,
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


def variant_of(recipe: Recipe, axis: str, name: str) -> Recipe:
    """The recipe with the choice `name` of an axis."""
    if axis == "quantiser":
        return replace(recipe, codes=replace(recipe.codes, quantiser=name))
    form = replace(recipe.codes.beam_aware, form=name)
    return replace(recipe, codes=replace(recipe.codes, beam_aware=form))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--axis", choices=tuple(AXES), default="quantiser")
    parser.add_argument("--recipe", type=Path, default=Path("finetune/recipes/amazon2014-codes.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/codes-trained"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--questions", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="train no others")
    options = parser.parse_args(arguments)
    known = AXES[options.axis]
    for name in options.only or ():
        if name not in known:
            parser.error(f"--only: {name!r} must be one of: {', '.join(known)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one model for each variant, and write the table after each."""
    options = parsed(arguments)
    name = Prepared(options.prepared).name
    out = options.out.absolute() / name
    title = f"# {options.axis}: {name}, {options.epochs} epochs, {options.questions:,} questions\n\n"
    rows = []
    for each in AXES[options.axis]:
        place = out / each
        kept = place / "figures.json"
        if options.only and each not in options.only and not kept.is_file():
            continue
        recipe = changed(
            load_recipe(options.recipe), str(options.prepared), str(place / "bundle"), options.seed
        )
        recipe = replace(
            variant_of(recipe, options.axis, each),
            train=replace(recipe.train, epochs=options.epochs),
            examples=replace(recipe.examples, versions=min(recipe.examples.versions, options.epochs)),
        )
        note(f"{options.axis}: {each}")
        row = row_of(recipe, options.questions, kept)
        rows.append([row[column] for column in HEADER])
        write_text(out.with_suffix(f".{options.axis}.md"), f"{title}{table(HEADER, rows)}\n")
    print(f"{title}{table(HEADER, rows)}")


if __name__ == "__main__":
    main()
