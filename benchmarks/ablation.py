"""What each part of the model is worth: one bundle for each setting and seed, and tables of what they reach.

Run: python benchmarks/ablation.py [--data PREPARED] [--recipe RECIPE] [--out runs/ablation]

Every setting changes one thing of the recipe and is measured on the next item, on items that training never
saw (a share of the catalogue whose events are left out of training; see `items: {newcomers: true}` in
finetune/README.md), and on wishes in words. Seeds go round all settings one after another. A run that was
stopped goes on; a finished cell is not run again, and the tables are written anew after each.
"""

import argparse
import math
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.bundle import Bundle, read_manifest
from llmrec.config import Recipe, as_values, build, load_recipe
from llmrec.data.prepared import FOLDS, Prepared
from llmrec.errors import LlmrecError
from llmrec.evaluate.environment import environment
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import evaluate
from llmrec.evaluate.queries import measure_queries
from llmrec.evaluate.report import write_report
from llmrec.evaluate.wishes import evaluate_wishes
from llmrec.files import only_writer, read_json, replace_directory, write_json, write_text
from llmrec.fit import fit, prepared_data, same_recipe
from llmrec.language_recommender import LanguageRecommender
from llmrec.progress import note
from llmrec.verbalize.wishes import WishMaker

Changes = dict[str, Any]
BASE = "base"
SPLIT, UNSEEN = "ablation", "ablation-unseen"
_NOBODY = len(FOLDS)
"""Fold of the events that are in no fold."""
_ALONE: Changes = {
    "head": {
        "history_state": False,
        "recent": 0,
        "search": False,
        "facts": False,
        "asks": False,
        "seen": False,
    }
}

AXES: dict[str, dict[str, Changes]] = {
    "parts of V": {
        "id only": {"items": {"parts": "id_only"}},
        "text only": {"items": {"parts": "text_only"}},
        "item dropout 0.2": {"items": {"dropout": 0.2}},
        "unseen are negatives": {"items": {"newcomers": False}},
        "id part from nothing": {"items": {"id_start": "random"}},
    },
    "query tokens": {f"M = {number}": {"prompt": {"queries": number}} for number in (1, 4, 16, 64)},
    "text in the history": {
        "titles and tokens": {"prompt": {"items": "both"}},
        "titles only": {"prompt": {"items": "title"}},
    },
    "goal in the prompt": {
        "no wishes": {"examples": {"wish_share": 0.0}},
        "wishes only": {"examples": {"wish_share": 1.0}},
    },
    "backbone": {
        "random": {"random": True},
        "head alone": {"adapter": {"kind": "none"}},
        "plain head": _ALONE,
        "random, plain head": {"random": True, **_ALONE},
        "titles only, plain head": {"prompt": {"items": "title"}, **_ALONE},
        "random, titles only, plain head": {"random": True, "prompt": {"items": "title"}, **_ALONE},
    },
    "depth": {
        "1 layer": {"layers": 1},
        "2 layers": {"layers": 2},
        "4 layers": {"layers": 4},
        "all layers": {"layers": None},
        "all layers, random": {"layers": None, "random": True},
        "all layers, plain head": {"layers": None, **_ALONE},
        "all layers, random, plain head": {"layers": None, "random": True, **_ALONE},
    },
    "tuning": {
        "LoRA": {"adapter": {"kind": "lora"}, "train": {"backbone_learning_rate": 1e-3}},
        "prompt": {"adapter": {"kind": "prompt"}, "train": {"backbone_learning_rate": 1e-2}},
        "full": {"adapter": {"kind": "full"}},
    },
    "averaging": {"no average of the weights": {"train": {"average": 0.0}}},
    "head": {
        "no history state": {"head": {"history_state": False}},
        "no recent items": {"head": {"recent": 0}},
        "no search words": {"head": {"search": False}},
        "no facts": {"head": {"facts": False}},
        "no asks": {"head": {"asks": False}},
        "no gains of seen items": {"head": {"seen": False}},
        "plain head": _ALONE,
    },
}
"""Settings by axis, as changes to the recipe; `base` is the recipe itself and in every table."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is asked: the share of unseen items, the users, and the questions of each kind of wish."""

    unseen: float
    users: int | None
    wish_questions: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting with one seed, in its directory."""

    name: str
    recipe: Recipe
    directory: Path

    @property
    def figures(self) -> Path:
        """Where its rows are kept."""
        return self.directory / "figures.json"


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with some changed, inner keys one by one."""
    return {
        **values,
        **{k: merged(values[k], v) if isinstance(v, dict) else v for k, v in changes.items()},
    }


def settings_of(recipe: Recipe, axes: Sequence[str]) -> dict[str, dict[str, Recipe]]:
    """Recipes by axis and name, `base` first; a setting that is the recipe itself stands as `base`."""
    found: dict[str, dict[str, Recipe]] = {}
    for axis in axes:
        found[axis] = {BASE: recipe}
        for name, changes in AXES[axis].items():
            changed = build(Recipe, merged(as_values(recipe), changes), f"ablation, {name}")
            if changed != recipe:
                found[axis][name] = changed
    return found


def cells_of(settings: Mapping[str, Mapping[str, Recipe]], seeds: Iterable[int], out: Path) -> list[Cell]:
    """Every setting once for each seed; one that stands in several tables has the same name in all."""
    recipes = {name: recipe for named in settings.values() for name, recipe in named.items()}
    found = []
    for seed in seeds:
        for name, recipe in recipes.items():
            directory = out / "cells" / slug(name) / f"seed{seed}"
            values = merged(as_values(recipe), {"out": str(directory / "bundle"), "train": {"seed": seed}})
            found.append(Cell(name, build(Recipe, values, name), directory))
    return found


def slug(name: str) -> str:
    """A name as a directory."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in name).split())


def write_data(whole: Prepared, split: str, protocol: Protocol, target: Path) -> Prepared:
    """The dataset with two more splits, in `target`.

    `ablation`: the folds of `split` with some items' events taken out of training and validation, and
    other users' than the first few taken out altogether. `ablation-unseen`: the newest event with one of
    those items that each user has outside training. Neither has events of a later fold before an earlier.
    """
    histories = whole.histories
    folds = whole.folds(split)
    users = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
    outside = users >= (len(histories) if protocol.users is None else protocol.users)
    drawn = np.random.default_rng(protocol.seed).permutation(np.unique(histories.items))
    held = np.zeros(len(whole.catalog), dtype=bool)
    held[drawn[: round(protocol.unseen * len(whole.catalog))]] = True
    unseen = held[histories.items]
    kept = np.where(outside | (unseen & (folds < FOLDS.index("test"))), _NOBODY, folds)
    asked = np.flatnonzero(unseen & (folds > 0) & ~outside)
    newest = asked[np.append(users[asked][1:] != users[asked][:-1], True)] if len(asked) else asked
    cold = np.full(len(folds), _NOBODY)
    cold[newest] = FOLDS.index("test")
    with replace_directory(target) as temporary:
        shutil.copytree(whole.directory, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        for name, fold in ((SPLIT, kept), (UNSEEN, cold)):
            column = pa.array(fold.astype(np.uint8))
            pq.write_table(pa.table({"fold": column}), temporary / "splits" / f"{name}.parquet")
        manifest = {**whole.manifest, "splits": [*whole.manifest["splits"], SPLIT, UNSEEN]}
        write_json(temporary / "manifest.json", manifest)
    return Prepared(target)


def run_cell(cell: Cell, protocol: Protocol, vectors: Path) -> None:
    """Fit and measure, unless that was done; `vectors` are text vectors that all cells share."""
    asked = {"recipe": as_values(cell.recipe), "protocol": protocol_values(protocol)}
    if cell.figures.is_file():
        done = read_json(cell.figures, "figures")
        if not same_recipe(done["recipe"], cell.recipe) or done["protocol"] != asked["protocol"]:
            raise LlmrecError(f"{cell.directory} was made with other settings: choose another --out")
        return
    note(f"ablation: {cell.name}, seed {cell.recipe.train.seed}")
    work = Path(f"{cell.recipe.out}.work")
    if vectors.is_dir():
        shutil.copytree(vectors, work / "vectors", dirs_exist_ok=True)
    bundle = fit(cell.recipe)
    rows, queries = measure(bundle, cell.name, protocol)
    shutil.copytree(work / "vectors", vectors, dirs_exist_ok=True)
    write_json(cell.figures, {**asked, "rows": rows, "queries": queries})
    shutil.rmtree(work)


def protocol_values(protocol: Protocol) -> dict[str, Any]:
    """The protocol for JSON."""
    return {name: getattr(protocol, name) for name in ("unseen", "users", "wish_questions", "seed")}


def measure(bundle: Bundle, name: str, protocol: Protocol) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the report, and what the query tokens do."""
    model = LanguageRecommender(bundle, name=name)
    prepared, training = bundle.prepared, bundle.manifest["training"]
    extra = {"fit_seconds": training["seconds"], "setting": model.setting}
    splits = (SPLIT, UNSEEN) if prepared.cases(UNSEEN, "test") else (SPLIT,)
    seed = bundle.recipe.train.seed
    rows = [evaluate(model, prepared, split, seed=seed, extra=extra).row for split in splits]
    if protocol.wish_questions:
        maker = WishMaker(bundle.catalog, bundle.templates)
        wishes = evaluate_wishes(
            model, prepared, maker, SPLIT, seed=protocol.seed, most=protocol.wish_questions
        )
        rows += [{**row, "seed": seed} for row in wishes]
    queries = measure_queries(model, np.array(bundle.item_matrix()), prepared, SPLIT)
    return rows, queries.as_dict()


def half(row: Mapping[str, Any], metric: str) -> float:
    """Half of a figure's 95% interval over questions."""
    low, high = row["intervals"][metric]
    return float(high - low) / 2


def figures_of(rows: Sequence[Mapping[str, Any]], queries: Mapping[str, Any]) -> dict[str, float]:
    """The columns of the tables from one cell's rows; wishes are a mean over their kinds, model alone.

    Beside a column stands, under its name and `HALF`, half of its 95% interval: that of a mean over kinds as
    if their questions were independent.
    """
    found: dict[str, float] = {}
    for split, word in ((SPLIT, "next item"), (UNSEEN, "unseen item")):
        for row in rows:
            if row["split"] == split and row["objective"] == "next-item":
                for metric in ("recall@10", "ndcg@10"):
                    found[f"{word} {metric}"] = row[metric]
                    found[f"{word} {metric}{HALF}"] = half(row, metric)
                found |= {f"{word}s": row["users"], "minutes": row["fit_seconds"] / 60}
    wishes = [row for row in rows if row["objective"].startswith("wish:") and not row["enforced"]]
    for metric in ("honoured@10", "recall@10", "recall@10 without wish"):
        told = [row for row in wishes if row.get(metric) is not None]
        if told:
            found[f"wishes {metric}"] = statistics.fmean(row[metric] for row in told)
            found[f"wishes {metric}{HALF}"] = math.hypot(*(half(row, metric) for row in told)) / len(told)
    found |= {name: queries[name] for name in ("effective", "overlap") if queries[name] is not None}
    return found


COLUMNS = (
    "next item recall@10",
    "next item ndcg@10",
    "unseen item recall@10",
    "wishes honoured@10",
    "wishes recall@10",
    "wishes recall@10 without wish",
    "best epoch",
    "minutes",
)
QUERY_COLUMNS = ("effective", "overlap")
HALF = " ±"


def cell_text(figures: Sequence[Mapping[str, float]], column: str) -> str:
    """Mean and deviation over seeds, for one seed half of the interval; a dash for no value."""
    values = [each[column] for each in figures if column in each]
    if not values:
        return "–"
    mean = statistics.fmean(values)
    digits = 4 if mean < 1 and column not in ("best epoch", "minutes") else 1
    spread = statistics.stdev(values) if len(values) > 1 else figures[0].get(f"{column}{HALF}")
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ±{spread:.{digits}f}")


def page(settings: Mapping[str, Mapping[str, Recipe]], done: Mapping[str, list[dict[str, float]]]) -> str:
    """report.md: a table for each axis."""
    parts = [
        "# Ablation",
        "Mean over seeds ± standard deviation, of one seed ± half of the 95% bootstrap interval over "
        "questions; the whole catalogue ranked, seen items left out. Unseen "
        "items: their events were left out of training. Wishes: the model alone, nothing enforced; mean over "
        "the kinds of wishes of the share of the top 10 that satisfies them, and of the recall of the "
        "held-out item with and without the wish. Best epoch: that of the weights that were kept, 0 for the "
        "start, before any update.",
    ]
    asked = next((figures[0] for figures in done.values()), {})
    parts.append(
        f"{asked.get('next items', 0):,.0f} questions of the next item, "
        f"{asked.get('unseen items', 0):,.0f} of an unseen one."
    )
    for axis, named in settings.items():
        columns = COLUMNS + (QUERY_COLUMNS if axis == "query tokens" else ())
        lines = [
            (name, len(done[name]), *(cell_text(done[name], column) for column in columns))
            for name in named
            if done.get(name)
        ]
        parts += [f"## {axis}", table(("setting", "seeds", *columns), lines)]
    return "\n\n".join(parts) + "\n"


def write_tables(settings: Mapping[str, Mapping[str, Recipe]], cells: Sequence[Cell], out: Path) -> Path:
    """report.json and report.md of the cells that are done; returns the page's path."""
    rows: list[dict[str, Any]] = []
    done: dict[str, list[dict[str, float]]] = {}
    for cell in cells:
        if cell.figures.is_file():
            found = read_json(cell.figures, "figures")
            rows += found["rows"]
            epoch = read_manifest(Path(cell.recipe.out))["training"]["best_epoch"]
            figures = {**figures_of(found["rows"], found["queries"]), "best epoch": epoch}
            done.setdefault(cell.name, []).append(figures)
    _, path = write_report(out, rows, environment())
    write_text(path, page(settings, done))
    return path


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", help="instead of the recipe's: a prepared directory or a data.yaml")
    parser.add_argument("--recipe", type=Path, default=Path("finetune/recipes/sample.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=list(AXES), metavar="AXIS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--users", type=int, help="only the first so many users")
    parser.add_argument("--unseen", type=float, default=0.1, help="share of items left out of training")
    parser.add_argument("--wish-questions", type=int, default=200, help="of each kind, 0 for no wishes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not done yet, write and print the tables."""
    given = parsed(arguments)
    started = time.monotonic()
    out = given.out.absolute()
    protocol = Protocol(given.unseen, given.users, given.wish_questions)
    recipe = load_recipe(given.recipe)
    changes: Changes = {"items": {"newcomers": True}, "split": SPLIT, "data": str(out / "data")}
    if given.epochs is not None:
        changes["train"] = {"epochs": given.epochs}
    with only_writer(out):
        if not (out / "data" / "manifest.json").is_file():
            source = merged(as_values(recipe), {"data": given.data} if given.data else {})
            whole = prepared_data(build(Recipe, source, str(given.recipe)), out / "whole")
            write_data(whole, recipe.split, protocol, out / "data")
        base = build(Recipe, merged(as_values(recipe), changes), str(given.recipe))
        settings = settings_of(base, given.axes)
        cells = cells_of(settings, given.seeds, out)
        for cell in cells:
            if time.monotonic() - started < 60 * given.minutes or cell.figures.is_file():
                run_cell(cell, protocol, out / "vectors")
                write_tables(settings, cells, out)
        path = write_tables(settings, cells, out)
        print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
