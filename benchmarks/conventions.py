"""What a beam's score is, and how wide it looks, by recall: a trained bundle that writes codes.

    python benchmarks/conventions.py BUNDLE [--questions 2000] [--widths 20 50] [--fold test]

Every convention of `decode.conventions` and every width is asked the same questions of the fold, drawn at
random, with seen items left out and allowed; lists of 20. ± is half the 95% bootstrap interval over users.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from drawn import drawn

from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.decode.beam import BeamSettings
from llmrec.decode.contract import Filters, Request
from llmrec.decode.conventions import SCORES
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import CUTS, ask, bounds, figures, questions
from llmrec.progress import note

SHOWN = ("recall@10", "ndcg@10")


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--widths", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--fold", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the questions that are drawn")
    options = parser.parse_args(arguments)
    bundle = CodeBundle(options.bundle)
    asked = questions(bundle.prepared, bundle.recipe.split, options.fold)
    cases = drawn(asked, options.questions, options.seed)
    targets = np.array([case.target for case in cases])
    engine, rows = bundle.engine(), []
    for scores, width, seen in product(SCORES, options.widths, (True, False)):
        beams = BeamSettings(width=width, scores=scores)
        recommender = CodeRecommender(bundle, engine, beams)
        requests = [
            Request(
                bundle.prepared.histories.history(case.user, case.cut),
                filters=Filters(exclude_seen=seen),
                user=case.user,
            )
            for case in cases
        ]
        started = time.process_time()
        found = figures(ask(recommender, requests, max(CUTS)), targets)
        milliseconds = 1000 * (time.process_time() - started) / len(cases)
        limits = bounds(found)
        cells = [f"{found[name].mean():.4f} ±{(limits[name][1] - limits[name][0]) / 2:.4f}" for name in SHOWN]
        row = (scores, str(width), "left out" if seen else "allowed", *cells, f"{milliseconds:.1f}")
        rows.append(row)
        note(" | ".join(row))
    print(f"{len(cases):,} questions of {bundle.prepared.name}, fold {options.fold}\n")
    print(table(("scores", "beams", "seen items", *SHOWN, "ms of processor"), rows))


if __name__ == "__main__":
    main()
