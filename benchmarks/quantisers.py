"""Quantisers side by side on the item vectors of a prepared dataset: prints a Markdown table.

Run: python benchmarks/quantisers.py PREPARED [--vectors text] [--epochs 60] [--only rqvae]

All IDs are built with collisions relocated; docs/ids.md says what the figures mean. Levels are the same for
all but the tree, which gets paths for twice the items. Seconds are of CPU time, for the codes alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from llmrec.data.prepared import Prepared
from llmrec.evaluate.page import table
from llmrec.items.id_quality import IdQuality, measure_ids
from llmrec.items.ids import build_ids
from llmrec.items.quantise.settings import GRADIENTS, QuantiserSettings, RqVaeSettings, said, tree_sizes
from llmrec.make_ids import VectorSettings, item_vectors
from llmrec.progress import note, track

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
)


def candidates(items: int, sizes: tuple[int, ...], epochs: int) -> dict[str, QuantiserSettings]:
    """What is compared, by name."""
    found = {kind: QuantiserSettings(kind, sizes) for kind in ("lsh", "kmeans", "balanced")}
    found["tree"] = QuantiserSettings("tree", tree_sizes(items))
    for gradient in GRADIENTS:
        rqvae = RqVaeSettings(epochs=epochs, gradient=gradient)
        found[f"rqvae, {gradient}"] = QuantiserSettings("rqvae", sizes, rqvae=rqvae)
    return found


def row(name: str, quality: IdQuality, seconds: float) -> tuple[str, ...]:
    """One line of the table."""
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
    )


def main() -> None:
    """Build and judge IDs by each quantiser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--vectors", default="text", help="as `llmrec ids build` reads it")
    parser.add_argument("--levels", default="256,256,256")
    parser.add_argument("--epochs", type=int, default=60, help="of rqvae")
    parser.add_argument("--only", action="append", help="how names begin; may be given again; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/quantisers"), help="where vectors are kept")
    options = parser.parse_args()
    prepared = Prepared(options.prepared)
    vectors = item_vectors(prepared, replace(VectorSettings(), source=options.vectors), options.work)
    sizes = tuple(int(size) for size in options.levels.split(","))
    rows = []
    for name, settings in candidates(len(vectors), sizes, options.epochs).items():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        started = time.process_time()
        with track(name, options.epochs if settings.kind == "rqvae" else None) as progress:
            ids = build_ids(vectors, settings, seed=options.seed, advance=progress.advance)
        seconds = time.process_time() - started
        rows.append(row(name, measure_ids(ids, vectors, options.seed), seconds))
        note(" | ".join(rows[-1]))
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
