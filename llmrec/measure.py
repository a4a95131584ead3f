"""A bundle beside the baselines: the same questions, the same filters, one report."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.baselines.fitting import NAMES, check_baseline, fit_baseline
from llmrec.bundle import AnyBundle, Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.errors import LlmrecError
from llmrec.evaluate.environment import environment
from llmrec.evaluate.goals import evaluate_goals
from llmrec.evaluate.protocol import CUTS, DEPTH, Evaluation, comparison, evaluate, questions
from llmrec.evaluate.report import write_report
from llmrec.evaluate.wishes import evaluate_wishes
from llmrec.files import only_writer
from llmrec.progress import note, track
from llmrec.readouts import recommender_of
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.tune.goals import GoalMaker
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.wishes import WishMaker

MEASURED = ("test", "valid")
"""Folds that no model was fitted on."""


def measure(
    bundle: Bundle | CodeBundle,
    out: Path,
    baselines: Sequence[str] | None = None,
    fold: str = "test",
    wish_questions: int | None = None,
    seed: int = 0,
    goals: bool = False,
) -> tuple[Path, Path]:
    """Write report.json and report.md of the bundle and the `baselines` to `out`; return their paths.

    Every model is asked with and without the items of the history left out. `baselines` None means all.
    `wish_questions` bounds the questions of each kind of wish (0: no wishes). `goals` adds rows for each goal
    that the data can answer, trained or held out. `seed` is that of sasrec, the wishes and the goals. Raises
    `LlmrecError`, before anything long begins, for an unknown baseline or fold, a fold without questions, or
    a place that cannot be written.
    """
    names = tuple(dict.fromkeys(NAMES if baselines is None else baselines))
    for name in names:
        check_baseline(name)
    split = bundle.recipe.split
    if fold not in MEASURED:
        raise LlmrecError(f"there is no fold {fold!r} to measure on, choose one of: {', '.join(MEASURED)}")
    questions(bundle.prepared, split, fold)
    if out.exists() and not (out.is_dir() and os.access(out, os.W_OK)):
        raise LlmrecError(f"the report cannot be written to {out}: choose a directory for it with --out")
    with only_writer(out):
        ours = recommender_of(bundle)
        found: list[Evaluation] = []
        for name in names:
            model, seconds = _fitted(name, bundle, seed)
            found += _ask(model, bundle, fold, seed, {"fit_seconds": seconds})
        training = bundle.manifest["training"]
        extra = {"fit_seconds": training["seconds"], "epochs": training["epochs"]}
        found += _ask(ours, bundle, fold, bundle.recipe.train.seed, extra)
        rows = [each.row for each in found]
        if wish_questions != 0:
            rows += _wishes(ours, bundle, fold, seed, wish_questions)
        if goals:
            rows += _goals(ours, bundle, fold, seed)
        return write_report(out, rows, environment(), _comparisons(found, ours.name))


def _fitted(name: str, bundle: AnyBundle, seed: int) -> tuple[ScoringRecommender, float]:
    """A baseline at its best setting, and the seconds that this took."""
    started, last = time.perf_counter(), 0
    with track(f"fit {name}") as progress:

        def tell(step: int, of: int, loss: float) -> None:
            nonlocal last
            progress.advance(step - last, loss=loss)
            last = step

        model = fit_baseline(name, bundle.prepared, bundle.recipe.split, seed, tell)
    return model, round(time.perf_counter() - started, 2)


def _ask(
    model: ScoringRecommender, bundle: AnyBundle, fold: str, seed: int, extra: Mapping[str, Any]
) -> list[Evaluation]:
    """The model's answers with seen items left out and with them."""
    found = []
    columns = {"setting": model.setting, **extra}
    for filter_seen in (True, False):
        # Lists of 100 would widen the beams that find them, beyond those that answer later.
        k = max(CUTS) if isinstance(bundle, CodeBundle) else DEPTH
        result = evaluate(model, bundle.prepared, bundle.recipe.split, fold, filter_seen, seed, columns, k=k)
        shown = ", ".join(f"{name} {result.row[name]:.4f}" for name in ("recall@10", "ndcg@10"))
        note(f"{model.name}, {'without' if filter_seen else 'with'} seen items: {shown}")
        found.append(result)
    return found


def _goals(ours: ScoringRecommender, bundle: AnyBundle, fold: str, seed: int) -> list[dict[str, Any]]:
    split = bundle.recipe.split
    maker = GoalMaker.of(bundle.prepared, split, bundle.templates, bundle.recipe.goals)
    last = 0
    with track("goals") as progress:

        def tell(done: int, of: int) -> None:
            nonlocal last
            progress.advance(done - last)
            last = done

        found = evaluate_goals(
            ours,
            bundle.prepared,
            maker,
            split=split,
            fold=fold,
            seed=seed,
            progress=tell,
        )
    return [each.row for each in found]


def _wishes(
    ours: ScoringRecommender, bundle: AnyBundle, fold: str, seed: int, most: int | None
) -> list[dict[str, Any]]:
    maker = WishMaker(bundle.catalog, bundle.templates, Lexicon.of(bundle.prepared))
    with track("wishes", total=len(maker.kinds_for(combinations=False))) as progress:
        return evaluate_wishes(
            ours,
            bundle.prepared,
            maker,
            bundle.recipe.split,
            fold,
            seed=seed,
            most=most,
            progress=lambda done, of: progress.advance(),
        )


def _comparisons(found: Sequence[Evaluation], ours: str) -> list[dict[str, Any]]:
    """Ours against every other model, paired over users, where both answered the same questions."""
    mine = {each.row["filter_seen"]: each for each in found if each.row["model"] == ours}
    return [
        comparison(mine[each.row["filter_seen"]], each, metric)
        for each in found
        if each.row["model"] != ours
        for metric in ("recall@10", "ndcg@10")
    ]
