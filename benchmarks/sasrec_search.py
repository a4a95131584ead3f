"""Search SASRec's settings on the validation fold; print a Markdown table.

Run: python benchmarks/sasrec_search.py PREPARED [--split leave-last-out] [--threads 1] [--seeds 3]

One axis after another: the best value so far is kept, the next axis is tried around it. The finalists are
then fitted with several seeds, and the best mean on validation is the recipe; only that one sees the test
fold. Figures are with seen items filtered.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from llmrec.baselines.choose import Validation, ndcg_of_ranks
from llmrec.baselines.sasrec import SASRec, SasrecSettings
from llmrec.baselines.sasrec_training import Epoch, fit_sasrec
from llmrec.data.prepared import Prepared
from llmrec.retrieve.rank import target_ranks

START = SasrecSettings(
    width=64, blocks=1, heads=1, dropout=0.4, learning_rate=2e-3, weight_decay=0.0, label_smoothing=0.0,
    batch_users=32, epochs=300, patience=12, shuffle_ties=False,
)  # fmt: skip
AXES: tuple[tuple[dict[str, object], ...], ...] = (
    ({"learning_rate": 1e-3}, {"learning_rate": 4e-3}),
    ({"shuffle_ties": True},),
    ({"dropout": 0.2}, {"dropout": 0.6}),
    ({"width": 32}, {"width": 128}, {"width": 256}),
    ({"blocks": 2, "heads": 2}, {"blocks": 3, "heads": 2}),
    ({"label_smoothing": 0.1}, {"label_smoothing": 0.3}),
    ({"weight_decay": 0.01}, {"weight_decay": 0.1}),
    ({"batch_users": 16}, {"batch_users": 64}),
    ({"dropout": 0.3}, {"dropout": 0.5}),
    ({"heads": 2},),
)


class Search:
    """The data, and every run so far."""

    def __init__(self, prepared: Prepared, split: str) -> None:
        self.catalog = prepared.catalog
        self.train = prepared.train(split)
        self.valid = Validation.of(prepared, split)
        self.test = Validation.of(prepared, split, fold="test")
        self.runs: list[tuple[float, SasrecSettings]] = []

    def fit(self, settings: SasrecSettings, seed: int) -> tuple[SASRec, Epoch, float]:
        """The model, its best epoch, and the seconds it took."""
        start, epochs = time.perf_counter(), []
        model = fit_sasrec(self.train, self.catalog, settings, self.valid, seed, epochs.append)
        best = max(epochs, key=lambda epoch: epoch.ndcg or 0.0)
        return model, best, time.perf_counter() - start

    def figures(self, model: SASRec, questions: Validation) -> tuple[float, float]:
        """recall@10 and ndcg@10."""
        allowed = np.stack([model.filters.mask(each.filters, each.history) for each in questions.requests])
        ranks = target_ranks(model.scores(questions.requests), allowed, questions.targets)
        return float(((ranks > 0) & (ranks <= 10)).mean()), ndcg_of_ranks(ranks)

    def run(self, settings: SasrecSettings, seed: int = 0) -> tuple[float, SASRec]:
        """Fit, print a row of the table, and return validation ndcg@10 and the model."""
        model, best, seconds = self.fit(settings, seed)
        recall, ndcg = self.figures(model, self.valid)
        self.runs.append((ndcg, settings))
        cells = [*(f"{value:g}" for value in asdict(settings).values()), f"{seed}", f"{best.number}"]
        cells += [f"{seconds:.0f}", f"{recall:.4f}", f"{ndcg:.4f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
        return ndcg, model


def _header() -> None:
    names = [*asdict(START), "seed", "best epoch", "seconds", "valid recall@10", "valid ndcg@10"]
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|", flush=True)


def main() -> None:
    """Search, then compare the finalists over seeds, then test the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--split", default="leave-last-out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--finalists", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    search = Search(Prepared(arguments.prepared), arguments.split)
    _header()
    best, figure = START, search.run(START)[0]
    for axis in AXES:
        tried = [(search.run(changed := replace(best, **change))[0], changed) for change in axis]
        top = max(tried, key=lambda pair: pair[0])
        if top[0] > figure:
            figure, best = top
    ordered = [settings for _, settings in sorted(search.runs, key=lambda run: -run[0])]
    print()
    _header()
    seeds = range(1, arguments.seeds + 1)
    finalists = [
        [search.run(settings, seed) for seed in seeds] for settings in ordered[: arguments.finalists]
    ]
    chosen = max(finalists, key=lambda runs: np.mean([ndcg for ndcg, _ in runs]))
    print(f"\nChosen: {chosen[0][1].settings}\n")
    print("| seed | test recall@10 | test ndcg@10 |\n|---|---|---|")
    for seed, (_, model) in zip(seeds, chosen, strict=True):
        recall, ndcg = search.figures(model, search.test)
        print(f"| {seed} | {recall:.4f} | {ndcg:.4f} |")


if __name__ == "__main__":
    main()
