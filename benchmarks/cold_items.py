"""Items that training never saw, added with `llmrec items add`: how well are they reached? Prints a table.

Run: python benchmarks/cold_items.py finetune/recipes/sample.yaml --out runs/cold [--layers 2 --epochs 3]

A share of the items is held out with all their events; the model is fitted on the rest (a prepared dataset of
its own in OUT), the items are added, and every question of the validation and test folds whose answer is one
of them is asked, with seen items left out. Repeated for each `--seeds` (which draw the items), each way to
train (`--parts`, `--dropout`; for codes with and without alignment tasks) and each stand-in for the id part,
which a model of codes has none of. A run that was stopped goes on, with the same recipe, share and folds.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from same_settings import check_settings

from llmrec.baselines.popularity import Popularity
from llmrec.bundle import Bundle
from llmrec.change_items import add_items
from llmrec.codes.bundle import CodeBundle, open_bundle
from llmrec.config import Recipe, as_values, load_recipe
from llmrec.data.catalog import Catalog, Item
from llmrec.data.changed import write_without
from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters, Request
from llmrec.evaluate.bootstrap import intervals
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import ask, figures
from llmrec.files import read_json, replace_directory, write_json, write_text
from llmrec.finetune import finetune
from llmrec.fit import item_text, prepared_data
from llmrec.items.newcomers import ID_PARTS
from llmrec.model.text_reader import text_reader
from llmrec.progress import note
from llmrec.readouts import recommender_of
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.versions import link_tree

K = 10
METRICS = (f"recall@{K}", f"ndcg@{K}")
CHANCE, POPULARITY = "random order", "popularity"


@dataclass(frozen=True, slots=True)
class Question:
    """After these events of a user, by id, comes `target`."""

    user: str
    before: tuple[Any, ...]
    target: str


class NearestText(ScoringRecommender):
    """Likeness of texts to those of the newest items, the d-th newest counting 1/d: no training at all."""

    def __init__(self, catalog: Catalog, vectors: np.ndarray) -> None:
        super().__init__("nearest text", catalog)
        self._vectors = vectors

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Weighted cosines, float32 [requests, items]."""
        rows = np.zeros((len(requests), self._vectors.shape[1]), dtype=np.float32)
        for row, request in zip(rows, requests, strict=True):
            newest = [event.item for event in reversed(request.history)]
            row += (1 / np.arange(1, len(newest) + 1, dtype=np.float32)) @ self._vectors[newest]
        return rows @ self._vectors.T


def hold_out(whole: Prepared, share: float, seed: int, folder: Path) -> list[str]:
    """Write `whole` without a share of its items to `folder`/data, and those items to `folder`/items.jsonl.

    Drawn among the items that have events; returns their ids.
    """
    drawn = np.random.default_rng(seed).permutation(np.unique(whole.histories.items))
    held = np.zeros(len(whole.catalog), dtype=bool)
    held[drawn[: round(share * len(whole.catalog))]] = True
    if not (folder / "data" / "manifest.json").is_file():
        with replace_directory(folder / "data") as target:
            write_without(whole, held, target)
    items = [whole.catalog[index] for index in np.flatnonzero(held)]
    write_text(folder / "items.jsonl", "\n".join(json.dumps(as_row(item)) for item in items))
    return [item.id for item in items]


def as_row(item: Item) -> dict[str, Any]:
    """An item as a line of an items file."""
    given = {name: getattr(item, name) for name in ("id", "title", "text", "price", "categories")}
    return {
        **given,
        "title": None if item.title == item.id else item.title,
        "attributes": dict(item.attributes),
    }


def questions_of(prepared: Prepared, split: str, folds: Sequence[str]) -> list[Question]:
    """The questions of some folds whose answer the user did not have before."""
    found = []
    for fold in folds:
        for case in prepared.cases(split, fold):
            history = prepared.histories.history(case.user, case.cut)
            if all(event.item != case.target for event in history):
                names = tuple(replace(event, item=prepared.catalog[event.item].id) for event in history)
                target = prepared.catalog[case.target].id
                found.append(Question(prepared.histories.users[case.user], names, target))
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions of one draw: answers that are new items, and answers that were known."""

    new: Sequence[Question]
    known: Sequence[Question]
    items: Sequence[str]

    def row(self, model: ScoringRecommender, users: Sequence[str], name: str) -> dict[str, Any]:
        """What a model reaches that has the new items in its catalogue."""
        whole = None if name == POPULARITY else self.items  # to it all new items are one
        return {
            "name": name,
            "all": measured(model, self.new, users),
            "new": None if whole is None else measured(model, self.new, users, whole),
            "known": measured(model, self.known, users),
        }


def measured(
    model: ScoringRecommender,
    questions: Sequence[Question],
    users: Sequence[str],
    among: Sequence[str] | None = None,
) -> dict[str, list[float]]:
    """Mean and 95% interval of `METRICS`, over the whole catalogue or `among` some items."""
    index, place = model.catalog.index, {user: position for position, user in enumerate(users)}
    allowed = None if among is None else tuple(sorted(map(index, among)))
    filters = Filters(exclude_seen=True, allowed_items=allowed)
    asked = [
        Request(
            tuple(replace(event, item=index(event.item)) for event in each.before),
            filters=filters,
            user=place.get(each.user),
        )
        for each in questions
    ]
    values = figures(ask(model, asked, K), np.array([index(each.target) for each in questions]))
    found = intervals(np.stack([values[name] for name in METRICS], axis=1))
    return {name: [each.mean, each.low, each.high] for name, each in zip(METRICS, found, strict=True)}


def chance(items: int) -> dict[str, list[float]]:
    """What a random order of so many items reaches on average."""
    found = min(K, items)
    gain = float((1 / np.log2(1 + np.arange(1, found + 1))).sum())
    return {METRICS[0]: [found / items] * 3, METRICS[1]: [gain / items] * 3}


def fitted(recipe: Recipe) -> Bundle | CodeBundle:
    """The bundle of the recipe, fitted unless it is there."""
    out = Path(recipe.out)
    if (out / "manifest.json").is_file() and (found := open_bundle(out)).manifest["recipe"] == as_values(
        recipe
    ):
        return found
    return finetune(recipe)


def variants(recipe: Recipe, arguments: argparse.Namespace) -> Iterator[tuple[str, Recipe]]:
    """Names of the ways to train, and their recipes."""
    if recipe.readout == "codes":
        tasks = replace(recipe.codes.tasks, text_to_id=0.0, id_to_text=0.0, titles_to_id=0.0)
        yield "codes, with alignment tasks", recipe
        yield "codes, without", replace(recipe, codes=replace(recipe.codes, tasks=tasks, aligned=0.0))
        return
    for parts in arguments.parts.split(","):
        for dropout in map(float, arguments.dropout.split(",") if parts == "both" else ["0"]):
            items, name = replace(recipe.items, parts=parts), parts.replace("_", " ")
            if dropout:
                items, name = replace(items, dropout=dropout), f"{name}, item dropout {dropout:g}"
            yield name, replace(recipe, items=items)


def stand_ins(
    recipe: Recipe, arguments: argparse.Namespace
) -> Iterator[tuple[str, str | None, float | None]]:
    """The stand-ins for id parts to measure: what they are called, what they are, and how strong."""
    if recipe.readout == "codes":
        yield "added", None, None
        return
    if recipe.items.parts == "text_only":
        yield "added", "zero", 0.0
        return
    for how in arguments.id_parts.split(","):
        for strength in map(float, arguments.strength.split(",") if how == "neighbours" else ["0"]):
            yield (
                f"id part {how}" + (f", strength {strength:g}" if how == "neighbours" else ""),
                how,
                strength,
            )


def with_new(
    trained: Bundle | CodeBundle, rows: Path, place: Path, how: str | None, strength: float | None
) -> Bundle | CodeBundle:
    """A copy of a bundle in `place` with the items of `rows` added."""
    for old in (place, Path(f"{place}.versions")):
        shutil.rmtree(old, ignore_errors=True)
    link_tree(trained.directory, place)
    add_items(place, rows, how, strength)
    return open_bundle(place)


def measure_draw(recipe: Recipe, whole: Prepared, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """All rows of one draw of items; those that an earlier run kept are not measured again."""
    folder = arguments.out / f"draw-{seed}"
    asked_with = {"recipe": as_values(recipe), "share": arguments.share, "folds": arguments.folds}
    check_settings(folder, asked_with)
    items = hold_out(whole, arguments.share, seed, folder)
    folds = arguments.folds.split(",")
    new = [each for each in questions_of(whole, recipe.split, folds) if each.target in set(items)]
    asked = Asked(new, questions_of(Prepared(folder / "data"), recipe.split, ["test"]), items)
    kept = folder / "rows.json"
    rows: list[dict[str, Any]] = read_json(kept, "rows") if kept.is_file() else []
    done = {row["name"] for row in rows}

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        write_json(kept, rows)
        done.add(row["name"])
        note(f"draw {seed}, {row['name']}: {json.dumps(row['all'] and row['all'][METRICS[0]])}")

    if CHANCE not in done:
        total = chance(len(whole.catalog))
        keep({"name": CHANCE, "all": total, "new": chance(len(items)), "known": total})
    for name, changed in variants(recipe, arguments):
        own = folder / name.replace(" ", "-").replace(",", "")
        trained = fitted(replace(changed, data=str(folder / "data"), out=str(own / "bundle")))
        users = trained.prepared.histories.users
        if (before := f"{name}: before they came") not in done:
            known = measured(recommender_of(trained), asked.known, users)
            keep({"name": before, "all": None, "new": None, "known": known})
        for said, how, strength in stand_ins(changed, arguments):
            if (label := f"{name}: {said}") in done:
                continue
            bundle = with_new(trained, folder / "items.jsonl", own / "with-new", how, strength)
            if POPULARITY not in done:
                train = bundle.prepared.train(recipe.split)
                keep(asked.row(Popularity.fit(train, bundle.catalog), users, POPULARITY))
                texts = [item_text(item) for item in bundle.catalog.items]
                nearest = NearestText(bundle.catalog, text_reader(recipe.items.text_encoder).encode(texts))
                keep(asked.row(nearest, users, nearest.name))
            keep(asked.row(recommender_of(bundle), users, label))
    return {"questions": len(new), "items": len(items), "rows": rows}


def page(draws: Sequence[dict[str, Any]]) -> str:
    """Means over the draws as a Markdown table; ± is half the mean 95% interval over questions."""
    names = list(dict.fromkeys(row["name"] for draw in draws for row in draw["rows"]))
    lines = []
    for name in names:
        same = [row for draw in draws for row in draw["rows"] if row["name"] == name]
        cells = [name]
        for place, metrics in (("all", METRICS), ("new", METRICS), ("known", METRICS[:1])):
            for metric in metrics:
                if same[0][place] is None:
                    cells.append("–")
                    continue
                mean, low, high = np.mean([row[place][metric] for row in same], axis=0)
                cells.append(f"{mean:.4f}" + (f" ±{(high - low) / 2:.4f}" if high > low else ""))
        lines.append(tuple(cells))
    head = [f"{among} {metric}" for among in ("all items,", "new items only,") for metric in METRICS]
    return table(("", *head, f"known answers, {METRICS[0]}"), lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Hold out, fit, add, ask, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="directory for data, bundles and rows")
    parser.add_argument("--data", help="prepared directory or data.yaml, not the recipe's")
    parser.add_argument("--share", type=float, default=0.1, help="share of the items held out")
    parser.add_argument("--seeds", default="0", help="draws of items, with commas")
    parser.add_argument("--folds", default="valid,test", help="folds whose questions are asked")
    parser.add_argument("--layers", type=int, help="not the recipe's")
    parser.add_argument("--epochs", type=int, help="not the recipe's")
    parser.add_argument("--parts", default="both,text_only")
    parser.add_argument("--dropout", default="0", help="values of items.dropout, with commas")
    parser.add_argument("--id-parts", default=",".join(ID_PARTS))
    parser.add_argument("--strength", default="0,0.5,1", help="values for neighbours, with commas")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    recipe = load_recipe(given.recipe)
    recipe = replace(
        recipe,
        data=given.data or recipe.data,
        layers=given.layers or recipe.layers,
        train=replace(recipe.train, epochs=given.epochs or recipe.train.epochs),
    )
    whole = prepared_data(recipe, given.out / "whole")
    draws = [measure_draw(recipe, whole, int(seed), given) for seed in given.seeds.split(",")]
    asked = sum(draw["questions"] for draw in draws)
    print(f"{draws[0]['items']} of {len(whole.catalog)} items held out, {asked} questions\n\n{page(draws)}")


if __name__ == "__main__":
    main()
