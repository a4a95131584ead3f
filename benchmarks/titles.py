"""Recommending in words by recall: a model as it is, and one that learnt to write the title that comes next.

    python benchmarks/titles.py BUNDLE [BUNDLE ...] [--layers 2 8] [--fresh] [--questions 1000] [--fold test]

A BUNDLE learnt the task next_title (`finetune/recipes/sample-titles.yaml`). The same questions, drawn at
random, go to the tuned model, to its base model, whole and as it was before tuning, and, where a bundle
learnt to write codes as well, to that model writing codes. With --layers also to so many first layers of the
base, untuned; with --fresh to the base with random weights. Further bundles, of the same data and base, are
asked beside the first. Every answer is an item; items of the history are left out. ± is half the 95%
bootstrap interval over users.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from drawn import drawn

from llmrec.codes.bundle import CodeBundle
from llmrec.decode.contract import Filters, Request
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import CUTS, ask, bounds, figures, questions
from llmrec.model.pretrained import load_backbone, load_tokenizer
from llmrec.model.tokens import PromptTokens
from llmrec.progress import note
from llmrec.readouts import recommender_of
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.text.asking import Asking, TextSettings
from llmrec.text.opening import open_text
from llmrec.text.titles import TitleWriter

SHOWN = ("recall@10", "ndcg@10")


def base_writer(bundle: CodeBundle, layers: int | None = None, random: bool = False) -> ScoringRecommender:
    """What the base of a bundle writes, untuned: all of it, or its first layers, or with random weights."""
    recipe = bundle.recipe
    settings = TextSettings(split=recipe.split)
    tokens = PromptTokens(load_tokenizer(recipe.model), 0, 0)
    asking = Asking(bundle.prepared, tokens, bundle.templates, settings)
    engine = TransformersEngine(load_backbone(recipe.model, layers=layers, random=random))
    return TitleWriter(asking, engine, settings)


def tuned_writer(bundle: CodeBundle) -> ScoringRecommender:
    """What the tuned model of a bundle writes."""
    found = open_text(str(bundle.directory), None)[1]
    assert isinstance(found, ScoringRecommender)
    return found


def writers(
    bundles: Sequence[CodeBundle], layers: Sequence[int], fresh: bool
) -> dict[str, Callable[[], ScoringRecommender]]:
    """What is compared, opened when its turn comes."""
    found: dict[str, Callable[[], ScoringRecommender]] = {}
    for bundle in bundles:
        recipe, first = bundle.recipe, bundles[0]
        if not recipe.codes.tasks.next_title:
            raise LlmrecError(f"{bundle.directory} did not learn to write titles (tasks: next_title)")
        if (recipe.model, bundle.prepared.name) != (first.recipe.model, first.prepared.name):
            raise LlmrecError(f"{bundle.directory} has other data or another base than {first.directory}")
        depth = "all" if recipe.layers is None else f"{recipe.layers}"
        kind = f"tuned, {depth} layers" + (", from random weights" if recipe.random else "")
        if f"titles, {kind}" in found:
            kind += f", {bundle.directory}"
        found[f"titles, {kind}"] = partial(tuned_writer, bundle)
        if recipe.codes.tasks.writes_codes:
            found[f"codes, {kind}"] = partial(recommender_of, bundle)
    for count in layers:
        found[f"titles, the base model, first {count} layers"] = partial(base_writer, bundles[0], count)
    found["titles, the base model"] = partial(base_writer, bundles[0])
    if fresh:
        found["titles, the base model, random weights"] = partial(base_writer, bundles[0], None, True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--layers", type=int, nargs="*", default=[], help="of the base, untuned")
    parser.add_argument("--fresh", action="store_true", help="the base with random weights, too")
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--fold", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the questions that are drawn")
    options = parser.parse_args(arguments)
    bundles = [CodeBundle(each) for each in options.bundles]
    bundle = bundles[0]
    asked = questions(bundle.prepared, bundle.recipe.split, options.fold)
    cases = drawn(asked, options.questions, options.seed)
    histories, targets = bundle.prepared.histories, np.array([case.target for case in cases])
    requests = [
        Request(histories.history(case.user, case.cut), filters=Filters(exclude_seen=True), user=case.user)
        for case in cases
    ]
    rows = []
    for name, opened in writers(bundles, options.layers, options.fresh).items():
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
