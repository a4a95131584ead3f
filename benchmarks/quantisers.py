"""Quantisers side by side on the item vectors of a prepared dataset: prints a Markdown table.

Run: python benchmarks/quantisers.py PREPARED [--vectors text] [--epochs 60] [--only rqvae]

All IDs are built with collisions relocated; docs/ids.md says what the figures mean. Levels are the same for
all but the tree, which gets paths for twice the items. Seconds are of CPU time, for the codes alone. The last
two columns ask what IDs leave of the events for a model to start from: items are the sums of their codes'
vectors (`llmrec.tune.code_start`), users the sums of their newest items, on validation questions, seen items
left out.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.evaluate.page import table
from llmrec.evaluate.vector_figures import questions_of, vector_figures
from llmrec.items.collaborative import collaborative_vectors
from llmrec.items.id_quality import IdQuality, measure_ids
from llmrec.items.ids import ItemIds, build_ids
from llmrec.items.quantise.settings import GRADIENTS, QuantiserSettings, RqVaeSettings, said, tree_sizes
from llmrec.make_ids import VectorSettings, item_vectors
from llmrec.progress import note, track
from llmrec.tune.code_start import code_vectors

HEADER = (
    "quantiser",
    "levels",
    "colliding",
    "relocated",
    "codes used",
    "entropy, bits",
    "reconstruction error",
    "neighbours kept",
    "first code kept",
    "seconds",
    "recall@10",
    "ndcg@10",
)


def candidates(items: int, sizes: tuple[int, ...], epochs: int) -> dict[str, QuantiserSettings]:
    """What is compared, by name."""
    found = {kind: QuantiserSettings(kind, sizes) for kind in ("lsh", "kmeans", "balanced")}
    found["tree"] = QuantiserSettings("tree", tree_sizes(items))
    for gradient in GRADIENTS:
        rqvae = RqVaeSettings(epochs=epochs, gradient=gradient)
        found[f"rqvae, {gradient}"] = QuantiserSettings("rqvae", sizes, rqvae=rqvae)
    return found


def summed(ids: ItemIds, events: np.ndarray) -> np.ndarray:
    """What the sums of their codes' vectors keep of the vectors `events` [items, width]."""
    vectors, first = code_vectors(events, ids.codes, ids.sizes).numpy(), np.cumsum([0, *ids.sizes[:-1]])
    found: np.ndarray = vectors[ids.codes + first].sum(axis=1)
    return found


def row(name: str, quality: IdQuality, seconds: float, found: tuple[float, float]) -> tuple[str, ...]:
    """One line of the table; `found` is recall@10 and ndcg@10."""
    error = quality.reconstruction_error
    return (
        name,
        said(quality.sizes),
        f"{quality.colliding:.1%}",
        f"{quality.relocated:.1%}",
        " ".join(f"{use.used / use.size:.0%}" for use in quality.use),
        " ".join(f"{use.entropy:.2f}" for use in quality.use),
        "–" if error is None else f"{error:.3f}",
        f"{quality.neighbours_kept or 0:.3f}",
        f"{quality.first_code_kept or 0:.3f}",
        f"{seconds:.1f}",
        *(f"{figure:.4f}" for figure in found),
    )


def main() -> None:
    """Build and judge IDs by each quantiser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--vectors", default="text", help="as `llmrec ids build` reads it")
    parser.add_argument("--levels", default="256,256,256")
    parser.add_argument("--epochs", type=int, default=60, help="of rqvae")
    parser.add_argument("--only", action="append", help="how names begin; may be given again; default all")
    parser.add_argument("--width", type=int, default=192, help="of the vectors of events that are summed up")
    parser.add_argument("--questions", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/quantisers"), help="where vectors are kept")
    options = parser.parse_args()
    prepared = Prepared(options.prepared)
    vectors = item_vectors(prepared, replace(VectorSettings(), source=options.vectors), options.work)
    sizes = tuple(int(size) for size in options.levels.split(","))
    split = VectorSettings().split
    events = collaborative_vectors(prepared.train(split), len(vectors), options.width)
    histories, targets = questions_of(prepared, split, options.questions)
    exact = vector_figures(events, histories, targets)
    note(f"vectors of events as they are: recall@10 {exact[0]:.4f}, ndcg@10 {exact[1]:.4f}")
    rows = []
    for name, settings in candidates(len(vectors), sizes, options.epochs).items():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        started = time.process_time()
        with track(name, options.epochs if settings.kind == "rqvae" else None) as progress:
            ids = build_ids(vectors, settings, seed=options.seed, advance=progress.advance)
        seconds = time.process_time() - started
        found = vector_figures(summed(ids, events), histories, targets)
        rows.append(row(name, measure_ids(ids, vectors, options.seed), seconds, found))
        note(" | ".join(rows[-1]))
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
