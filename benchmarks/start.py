"""What item vectors know before any training, by how they start: prints a Markdown table.

Run: python benchmarks/start.py PREPARED [--width 128] [--questions 4000]

A user is the sum of the vectors of his newest 30 items, the d-th newest divided by d; the whole catalogue is
ranked by inner product, seen items left out, on validation questions. So the two powers of
`items.collaborative` and the share of the text part were chosen; the test fold is not looked at.
"""

import argparse
from pathlib import Path

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.evaluate.page import table
from llmrec.evaluate.vector_figures import questions_of, vector_figures
from llmrec.fit import text_vectors
from llmrec.items import collaborative


def main() -> None:
    """Try starts of the id part, then the best with a share of the text part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--questions", type=int, default=4000)
    parser.add_argument("--encoder", default="all-minilm-l6-v2")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/start"), help="where vectors of texts are kept"
    )
    options = parser.parse_args()
    prepared = Prepared(options.prepared)
    train, items = prepared.train("leave-last-out"), len(prepared.catalog)
    histories, targets = questions_of(prepared, "leave-last-out", options.questions)
    rows = []

    def add(start: str, vectors: np.ndarray) -> None:
        recall, ndcg = vector_figures(vectors, histories, targets)
        rows.append((start, f"{recall:.4f}", f"{ndcg:.4f}"))

    usual = collaborative.POWER, collaborative.LENGTHS
    for power in (0.5, 0.25):
        for lengths in (1.0, 0.5, 0.3, 0.0):
            ids = collaborative.collaborative_vectors(train, items, options.width, power, lengths)
            add(f"id part, counts to the power {power}, lengths to the power {lengths}", ids)
    ids = collaborative.collaborative_vectors(train, items, options.width, *usual)
    texts = text_vectors(prepared, options.encoder, options.work)
    texts = texts - texts.mean(0)
    turn = np.random.default_rng(1).standard_normal((texts.shape[1], options.width))
    for share in (0.5, 1.0, 1.5):
        part = texts @ turn
        add(f"powers {usual[0]} and {usual[1]}, text part times {share}", ids + share * part / part.std())
    print(table(("start", "validation recall@10", "validation ndcg@10"), rows))


if __name__ == "__main__":
    main()
