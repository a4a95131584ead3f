"""Public benchmarks: the tuned model and baselines on prepared sets, over seeds, in one command.

Run: python benchmarks/public.py PREPARED [PREPARED ...] [--recipe FILE] [--seeds 0 1 2] [--out DIR]
     [--baselines sasrec,ease] [--jobs 1]

Leave-last-out, the whole catalogue ranked, with seen items left out and without, hits counted on items. A
bundle, and a report, that is there is not made again; a fit that was stopped goes on. DIR must be another one
for another recipe. It gets report.json
with all rows, and report.md with mean and standard deviation over the seeds. With --jobs so many fits run at
a time, each in a process: for a GPU, which one small model leaves idle most of the time.
"""

import argparse
import multiprocessing
import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from llmrec.codes.bundle import open_bundle
from llmrec.config import changed, load_recipe
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.evaluate.environment import environment
from llmrec.evaluate.page import table
from llmrec.evaluate.report import read_report, write_report
from llmrec.files import write_text
from llmrec.finetune import finetune
from llmrec.measure import measure

FIGURES = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")


def rows_of(
    prepared: Path, recipe: Path, seed: int, baselines: Sequence[str], out: Path
) -> list[dict[str, Any]]:
    """Rows of one set and one seed, made where they are not there yet.

    Raises `LlmrecError` where a bundle of another recipe is there, or a report without one of the baselines.
    """
    name = Prepared(prepared).name
    place = out / name / f"seed-{seed}"
    report, bundle = place / "evaluation" / "report.json", place / "bundle"
    wanted = changed(load_recipe(recipe), str(prepared), str(bundle), seed)
    if (bundle / "manifest.json").is_file():
        # A copy of a bundle from another machine names paths of that one.
        if changed(open_bundle(bundle).recipe, wanted.data, wanted.out) != wanted:
            raise LlmrecError(f"{bundle} was made by another recipe: choose another --out")
    elif not report.is_file():
        finetune(wanted)
    if not report.is_file():
        measure(open_bundle(bundle), place / "evaluation", baselines, wish_questions=0, seed=seed)
    found: list[dict[str, Any]] = read_report(report)["rows"]
    if missing := sorted(set(baselines) - {row["model"] for row in found}):
        raise LlmrecError(f"{report} was made without {', '.join(missing)}: remove it to measure again")
    return found


def spread(rows: Iterable[dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds of each model's figures, as Markdown."""
    groups: dict[tuple[str, bool, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["filter_seen"], row["model"]), []).append(row)
    lines = []
    for (dataset, seen, model), some in sorted(groups.items()):
        cells = [dataset, "left out" if seen else "allowed", model, str(len(some))]
        for figure in FIGURES:
            values = [row[figure] for row in some]
            deviation = f" ±{statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{deviation}")
        lines.append(cells)
    return table(("dataset", "seen items", "model", "seeds", *FIGURES), lines)


def all_rows(work: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """`rows_of` each of the arguments, so many at a time; after one that fails no other is begun."""
    if jobs == 1:
        yield from (rows_of(*each) for each in work)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        for fit in as_completed([pool.submit(rows_of, *each) for each in work]):
            yield fit.result()
    finally:
        pool.shutdown(cancel_futures=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, measure, and write the table after each bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path, nargs="+")
    parser.add_argument("--recipe", type=Path, default=Path("finetune/recipes/amazon2014.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--baselines", default="popularity,sequential-rules,sasrec")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "runs/public")))
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time")
    options = parser.parse_args(arguments)
    baselines = [name for name in options.baselines.split(",") if name]
    rows: list[dict[str, Any]] = []
    work = [
        (prepared, options.recipe, seed, baselines, options.out)
        for prepared in options.prepared
        for seed in options.seeds
    ]
    for found in all_rows(work, options.jobs):
        rows += found
        write_report(options.out, rows, environment())
        text = f"# Public benchmarks\n\n± is the standard deviation over seeds.\n\n{spread(rows)}\n"
        write_text(options.out / "report.md", text)
    print((options.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
