"""One universal model against one specialist for each goal: same size, same updates, same questions.

Run: python benchmarks/goals.py --data DATA [--users 1000] [--out runs/goals]

DATA holds the folders that benchmarks/data/*.yaml name, or what `llmrec prepare` made of these files, by the
same names (ml-1m, online-retail-goals). For each recipe of finetune/recipes/goals-*.yaml the universal model
trains on all of its goals, each specialist on one of them alone; nobody trains on what the recipe holds out.
Histories, cuts and the number of updates are the same; at a cut the universal model may hear several goals
(examples.asks of the recipe), a specialist its own: the last table says how many tokens each read. With
--universal-epochs the universal model trains for longer, as one model in place of several may.
All are asked the same questions, in wordings that training never saw and without words. A run that was
stopped goes on; a finished model is not trained again, and the tables are written after each.
"""

import argparse
import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from goals_tables import COMPARED, UNIVERSAL, Answered, Tables, evaluations, page

from llmrec.baselines.popularity import Popularity
from llmrec.config import Recipe, as_values, load_recipe
from llmrec.data.prepared import FOLDS, Prepared
from llmrec.errors import LlmrecError
from llmrec.evaluate.environment import environment
from llmrec.evaluate.goals import evaluate_goals
from llmrec.evaluate.protocol import Evaluation
from llmrec.evaluate.report import write_report
from llmrec.files import only_writer, read_json, replace_directory, write_json, write_text
from llmrec.fit import fit, same_recipe
from llmrec.language_recommender import LanguageRecommender
from llmrec.progress import note
from llmrec.tune.goals import GoalMaker
from llmrec.verbalize.templates import Templates

RECIPES = ("ml-1m", "online-retail")
_NOBODY = len(FOLDS)
"""Fold of the events that are in no fold."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model of one recipe with one seed; `name` is `universal` or the specialist's goal."""

    recipe: Recipe
    name: str
    directory: Path

    @property
    def figures(self) -> Path:
        """Where its rows and the figures of its questions are kept."""
        return self.directory / "figures.json"

    @property
    def seed(self) -> int:
        """The seed that it is trained with."""
        return self.recipe.train.seed


def write_data(whole: Prepared, split: str, users: int, target: Path) -> None:
    """The dataset with the events of some users only in the folds of `split`; the catalogue stays whole."""
    histories, folds = whole.histories, whole.folds(split)
    rng = np.random.default_rng(0)
    drawn = np.zeros(len(histories), dtype=bool)
    drawn[rng.permutation(len(histories))[: users or len(histories)]] = True
    inside = np.repeat(drawn, np.diff(histories.offsets))
    column = pa.array(np.where(inside, folds, _NOBODY).astype(np.uint8))
    with replace_directory(target) as temporary:
        shutil.copytree(whole.directory, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        pq.write_table(pa.table({"fold": column}), temporary / "splits" / f"{split}.parquet")


def data_of(recipe: Recipe, root: Path | None, users: int, out: Path) -> Prepared:
    """The recipe's data in `out`/data, prepared and cut down to some users unless that was done."""
    target = out / "data"
    if not (target / "manifest.json").is_file():
        source = Path(recipe.data)
        if root is not None and (root / source.stem / "manifest.json").is_file():
            source = root / source.stem
        if not source.is_dir():
            from llmrec.data.description import load_description
            from llmrec.data.prepare import prepare

            note(f"prepare: {source.name}")
            prepare(load_description(source, root), out / "whole")
            source = out / "whole"
        write_data(Prepared(source), recipe.split, users, target)
        shutil.rmtree(out / "whole", ignore_errors=True)
    return Prepared(target)


def singles(recipe: Recipe) -> list[str]:
    """The goals that get a specialist."""
    return [name for name in recipe.goals.only if "+" not in name]


def cells_of(
    universal: Recipe, single: Recipe, names: Sequence[str], seeds: Sequence[int], out: Path
) -> Iterator[Cell]:
    """The universal model, then the specialists by the recipe `single`, once for each seed."""
    for seed in seeds:
        for name in (UNIVERSAL, *names):
            directory = out / name / f"seed{seed}"
            recipe = universal if name == UNIVERSAL else single
            train = dataclasses.replace(recipe.train, seed=seed)
            own = dataclasses.replace(
                recipe, data=str(out / "data"), out=str(directory / "bundle"), train=train
            )
            if name != UNIVERSAL:
                goals = dataclasses.replace(recipe.goals, only=(name,), weights={}, held_out=())
                # Of one goal there is one question at a cut: more would be next items without a goal.
                examples = dataclasses.replace(recipe.examples, asks=1)
                own = dataclasses.replace(own, goals=goals, examples=examples)
            yield Cell(own, name, directory)


def all_goals(goals: GoalMaker, recipe: Recipe) -> list[str]:
    """The goals that train, and what the recipe holds out."""
    return [*goals.trained, *(goals.named(name).name for name in recipe.goals.held_out)]


def asked_of(cell: Cell, goals: GoalMaker, universal: Recipe) -> list[str]:
    """The goals that a model is asked: all, or those that the specialist's is (a part of)."""
    names = all_goals(goals, universal)
    return (
        names if cell.name == UNIVERSAL else [each for each in names if cell.name in goals.named(each).parts]
    )


def run_cell(cell: Cell, goals: GoalMaker, names: Sequence[str], questions: int | None, out: Path) -> None:
    """Train a model and ask it the goals `names`, unless that was done; text vectors are shared in `out`."""
    vectors = out / "vectors"
    asked: dict[str, Any] = {"goals": list(names), "questions": questions}
    if cell.figures.is_file():
        done = read_json(cell.figures, "figures")
        if not same_recipe(done["recipe"], cell.recipe) or any(done[name] != asked[name] for name in asked):
            raise LlmrecError(f"{cell.directory} was made with other settings: choose another --out")
        return
    note(f"goals: {cell.directory}")
    work = Path(f"{cell.recipe.out}.work")
    if vectors.is_dir():
        shutil.copytree(vectors, work / "vectors", dirs_exist_ok=True)
    bundle = fit(cell.recipe)
    shutil.copytree(work / "vectors", vectors, dirs_exist_ok=True)
    training = bundle.manifest["training"]
    extra = {
        "fit_seconds": training["seconds"],
        "updates": training["updates"],
        "tokens": round(training["tokens_per_second"] * training["training_seconds"]),
    }
    name = cell.name if cell.name == UNIVERSAL else f"specialist {cell.name}"
    model = LanguageRecommender(bundle, name=name)
    found = evaluate_goals(
        model, bundle.prepared, goals, names, cell.recipe.split, most=questions,
        extra={**extra, "setting": model.setting},
    )  # fmt: skip
    write_json(
        cell.figures,
        {
            "recipe": as_values(cell.recipe),
            **asked,
            "rows": [{**each.row, "seed": cell.seed} for each in found],
            "per_user": [{metric: each.per_user[metric].tolist() for metric in COMPARED} for each in found],
            "examples": training["goals"],
        },
    )
    shutil.rmtree(work)


def popular_figures(
    prepared: Prepared, goals: GoalMaker, recipe: Recipe, most: int | None
) -> list[Evaluation]:
    """Popularity's answers to the questions of all goals."""
    model = Popularity.fit(prepared.train(recipe.split), prepared.catalog)
    return evaluate_goals(
        model, prepared, goals, all_goals(goals, recipe), recipe.split, most=most, hears=False
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of raw or of prepared data")
    parser.add_argument(
        "--recipes", nargs="+", default=list(RECIPES), help="names of goals-NAME.yaml, or files"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/goals"))
    parser.add_argument("--users", type=int, default=1000, help="so many users, 0 for all")
    parser.add_argument("--questions", type=int, help="users asked, default all of them")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--universal-epochs", type=int, help="for the universal model, default as for all")
    parser.add_argument("--layers", type=int, help="instead of the recipe's, 0 for all")
    parser.add_argument("--model", help="instead of the recipe's")
    parser.add_argument("--max-events", type=int, help="instead of the recipe's")
    parser.add_argument("--specialists", nargs="*", metavar="GOAL", help="goals that get one, default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no model after so long")
    return parser.parse_args(arguments)


def changed(recipe: Recipe, given: argparse.Namespace, epochs: int | None) -> Recipe:
    """The recipe with `epochs`, where given, and with what the command line says otherwise."""
    if epochs is not None:
        train = dataclasses.replace(recipe.train, epochs=epochs)
        versions = min(recipe.examples.versions, epochs)
        examples = dataclasses.replace(recipe.examples, versions=versions)
        recipe = dataclasses.replace(recipe, train=train, examples=examples)
    if given.max_events is not None:
        prompt = dataclasses.replace(recipe.prompt, max_events=given.max_events)
        recipe = dataclasses.replace(recipe, prompt=prompt)
    if given.layers is not None:
        recipe = dataclasses.replace(recipe, layers=given.layers or None)
    return recipe if given.model is None else dataclasses.replace(recipe, model=given.model)


def finished(cells: Sequence[Cell]) -> dict[str, dict[int, Answered]]:
    """What the finished models reached, by name and seed."""
    found: dict[str, dict[int, Answered]] = {}
    for cell in cells:
        if done := evaluations(cell.figures):
            found.setdefault(cell.name, {})[cell.seed] = done
    return found


def run(base: Recipe, name: str, given: argparse.Namespace, ends: float) -> None:
    """Train and ask what is not done yet, and write the tables after each model."""
    recipe = changed(base, given, given.epochs)
    universal = changed(base, given, given.universal_epochs or given.epochs)
    out = given.out.absolute() / name
    prepared = data_of(recipe, given.data, given.users, out)
    goals = GoalMaker.of(prepared, recipe.split, Templates.load(), recipe.goals)
    specialists = [goal for goal in singles(recipe) if given.specialists is None or goal in given.specialists]
    cells = list(cells_of(universal, recipe, specialists, given.seeds, out))
    popular = popular_figures(prepared, goals, recipe, given.questions)
    for cell in cells:
        if time.monotonic() > ends and not cell.figures.is_file():
            note(f"goals: no time for {cell.directory}")
            continue
        run_cell(cell, goals, asked_of(cell, goals, recipe), given.questions, out)
        tables = Tables(finished(cells), goals, popular)
        _, path = write_report(out, tables.rows(), environment(), tables.comparisons())
        write_text(path, page(name, prepared, recipe.split, tables))
        print(path.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all recipes."""
    given = parsed(arguments)
    ends = time.monotonic() + 60 * given.minutes
    for name in given.recipes:
        path = Path(name) if Path(name).is_file() else Path(f"finetune/recipes/goals-{name}.yaml")
        with only_writer(given.out.absolute() / path.stem):
            run(load_recipe(path), path.stem, given, ends)


if __name__ == "__main__":
    main()
