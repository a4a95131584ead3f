"""A bundle beside the baselines: the same questions, the same filters, one report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.baselines.fitting import fit_baseline
from llmrec.bundle import Bundle
from llmrec.errors import LlmrecError
from llmrec.evaluate.environment import environment
from llmrec.evaluate.protocol import Evaluation, comparison, evaluate
from llmrec.evaluate.report import write_report
from llmrec.evaluate.wishes import evaluate_wishes
from llmrec.files import only_writer
from llmrec.progress import note, track
from llmrec.recommend import LanguageRecommender
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.verbalize.wishes import WishMaker


def measure(
    bundle: Bundle,
    out: Path,
    baselines: Sequence[str],
    fold: str = "test",
    wish_questions: int | None = None,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write report.json and report.md of the bundle and the `baselines` to `out`; return their paths.

    Every model is asked with and without the items of the history left out. `wish_questions` bounds the
    questions of each kind of wish (0: no wishes). `seed` is that of sasrec and of the wishes.
    """
    with only_writer(out):
        found: list[Evaluation] = []
        ours = LanguageRecommender(bundle)
        rows, split = [], bundle.recipe.split
        for name in baselines:
            started = time.perf_counter()
            with track(f"fit {name}") as progress:
                last = 0

                def tell(step: int, of: int, loss: float) -> None:
                    nonlocal last
                    progress.advance(step - last, loss=loss)
                    last = step

                model = fit_baseline(name, bundle.prepared, split, seed, tell)
            seconds = time.perf_counter() - started
            found += _ask(model, bundle, split, fold, seed, {"fit_seconds": round(seconds, 2)})
        training = bundle.manifest["training"]
        extra = {"fit_seconds": training["seconds"], "epochs": training["epochs"]}
        found += _ask(ours, bundle, split, fold, bundle.recipe.train.seed, extra)
        rows = [each.row for each in found]
        if wish_questions != 0:
            rows += _wishes(ours, bundle, split, fold, seed, wish_questions)
        return write_report(out, rows, environment(), _comparisons(found, ours.name))


def _ask(
    model: ScoringRecommender, bundle: Bundle, split: str, fold: str, seed: int, extra: Mapping[str, Any]
) -> list[Evaluation]:
    """The model's answers with seen items left out and with them."""
    found = []
    for filter_seen in (True, False):
        result = evaluate(model, bundle.prepared, split, fold, filter_seen, seed, extra)
        shown = ", ".join(f"{name} {result.row[name]:.4f}" for name in ("recall@10", "ndcg@10"))
        note(f"{model.name}, {'without' if filter_seen else 'with'} seen items: {shown}")
        found.append(result)
    return found


def _wishes(
    ours: LanguageRecommender, bundle: Bundle, split: str, fold: str, seed: int, most: int | None
) -> list[dict[str, Any]]:
    maker = WishMaker(bundle.catalog, bundle.templates)
    with track("wishes", total=len(maker.kinds_for(combinations=False))) as progress:
        return evaluate_wishes(
            ours,
            bundle.prepared,
            maker,
            split,
            fold,
            seed=seed,
            most=most,
            progress=lambda done, of: progress.advance(),
        )


def _comparisons(found: Sequence[Evaluation], ours: str) -> list[dict[str, Any]]:
    """Ours against every other model, paired over users, where both answered the same questions."""
    mine = {each.row["filter_seen"]: each for each in found if each.row["model"] == ours}
    if not mine:
        raise LlmrecError("the report has no row of the bundle")
    return [
        comparison(mine[each.row["filter_seen"]], each, metric)
        for each in found
        if each.row["model"] != ours
        for metric in ("recall@10", "ndcg@10")
    ]
