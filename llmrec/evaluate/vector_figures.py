"""What item vectors know of next items without any model: users are sums of their newest items' vectors."""

from __future__ import annotations

import numpy as np

from llmrec.data.prepared import Prepared

RECENT = 30
"""Newest items that are summed up, the d-th newest divided by d."""


def questions_of(
    prepared: Prepared, split: str, most: int, seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """At most `most` validation questions, drawn by `seed`: items of the histories, and what followed."""
    cases = prepared.cases(split, "valid")
    chosen = np.random.default_rng(seed).permutation(len(cases))[:most]
    histories = [prepared.histories.items_of(cases[at].user)[: cases[at].cut] for at in chosen]
    return histories, np.array([cases[at].target for at in chosen], dtype=np.int64)


def vector_figures(
    vectors: np.ndarray, histories: list[np.ndarray], targets: np.ndarray
) -> tuple[float, float]:
    """recall@10 and ndcg@10 of vectors [items, width], the whole catalogue ranked, seen items left out.

    Items are ranked by inner product with the user; an item as good as the target does not count against it.
    """
    ranks = []
    for history, target in zip(histories, targets, strict=True):
        newest = history[::-1][:RECENT]
        user = (vectors[newest] / np.arange(1, len(newest) + 1)[:, None]).sum(0)
        scores = vectors @ user
        wanted = scores[target]
        scores[history] = -np.inf
        ranks.append(int((scores > wanted).sum()))
    rank = np.array(ranks)
    return float((rank < 10).mean()), float(np.where(rank < 10, 1 / np.log2(rank + 2.0), 0.0).mean())
