"""Processor time of ranking and of filters at several sizes of catalogue.

Run: python benchmarks/ranking.py
"""

import time

import numpy as np

from llmrec.data.catalog import Catalog, Item
from llmrec.decode.contract import Filters
from llmrec.decode.filters import FilterIndex
from llmrec.retrieve.rank import top_k

ITEMS = 1_000_000


def main() -> None:
    """Print milliseconds a request."""
    rng = np.random.default_rng(0)
    for requests, items in ((256, 500), (256, 12_000), (8, ITEMS)):
        allowed = rng.random((requests, items)) < 0.9
        distinct = rng.random((requests, items), dtype=np.float32)
        for name, scores in (("distinct scores", distinct), ("20 values", np.floor(distinct * 20))):
            start = time.process_time()
            top_k(scores, allowed, 100)
            took = (time.process_time() - start) * 1000 / requests
            print(f"top_k, {items:,} items, {name}: {took:.3f} ms a request")
    words = rng.integers(0, 5_000, (ITEMS, 5))
    catalog = Catalog(
        Item(str(item), " ".join(f"word{word}" for word in row), "", item % 100.0, (f"c{item % 50}",))
        for item, row in enumerate(words)
    )
    index = FilterIndex(catalog)
    for turn in ("first use", "again"):
        start = time.process_time()
        index.mask(Filters(max_price=30.0, include_words=("word7",), exclude_categories=("c3",)))
        print(f"filter, {ITEMS:,} items, {turn}: {(time.process_time() - start) * 1000:.1f} ms")


if __name__ == "__main__":
    main()
