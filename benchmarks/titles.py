"""Recommending in words by recall: a model as it is, and one that learnt to write the title that comes next.

    python benchmarks/titles.py BUNDLE [--questions 1000] [--fold test]

BUNDLE learnt the task next_title (`finetune/recipes/sample-titles.yaml`). The same questions, drawn at
random, go to its base model, whole and as it was before tuning, to the tuned model, and, where it learnt to
write codes as well, to that model writing codes. Every answer is an item; items of the history are left out.
± is half the 95% bootstrap interval over users.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from drawn import drawn

from llmrec.codes.bundle import CodeBundle
from llmrec.decode.contract import Filters, Request
from llmrec.errors import LlmrecError
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import CUTS, ask, bounds, figures, questions
from llmrec.progress import note
from llmrec.readouts import recommender_of
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.text.opening import open_text

SHOWN = ("recall@10", "ndcg@10")


def writers(bundle: CodeBundle) -> dict[str, Callable[[], ScoringRecommender]]:
    """What is compared, opened when its turn comes."""
    if not bundle.recipe.codes.tasks.next_title:
        raise LlmrecError(f"{bundle.directory} did not learn to write titles (tasks: next_title)")

    def titles(model: str | None) -> ScoringRecommender:
        found = open_text(str(bundle.directory), model)[1]
        assert isinstance(found, ScoringRecommender)
        return found

    found: dict[str, Callable[[], ScoringRecommender]] = {
        "titles, tuned": lambda: titles(None),
        "titles, the base model": lambda: titles(bundle.recipe.model),
    }
    if bundle.recipe.codes.tasks.writes_codes:
        found["codes, tuned"] = lambda: recommender_of(bundle)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--fold", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the questions that are drawn")
    options = parser.parse_args(arguments)
    bundle = CodeBundle(options.bundle)
    asked = questions(bundle.prepared, bundle.recipe.split, options.fold)
    cases = drawn(asked, options.questions, options.seed)
    histories, targets = bundle.prepared.histories, np.array([case.target for case in cases])
    requests = [
        Request(histories.history(case.user, case.cut), filters=Filters(exclude_seen=True), user=case.user)
        for case in cases
    ]
    rows = []
    for name, opened in writers(bundle).items():
        recommender = opened()
        started = time.process_time()
        found = figures(ask(recommender, requests, max(CUTS)), targets)
        milliseconds = 1000 * (time.process_time() - started) / len(cases)
        limits = bounds(found)
        cells = [f"{found[each].mean():.4f} ±{(limits[each][1] - limits[each][0]) / 2:.4f}" for each in SHOWN]
        rows.append((name, *cells, f"{milliseconds:.0f}"))
        note(" | ".join(rows[-1]))
    print(f"{len(cases):,} questions of {bundle.prepared.name}, fold {options.fold}\n")
    print(table(("what writes", *SHOWN, "ms of processor"), rows))


if __name__ == "__main__":
    main()
