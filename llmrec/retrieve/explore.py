"""Neighbour exploration: from a few candidates to the best items, a few rounds of exact scores (URM 1.5).

Each round takes the best items found so far, adds their neighbours in the graph, and scores those by the
maximum over the queries. That maximum is no distance, and no graph is built for it: the graph only says
what to look at next.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmrec.retrieve.exact import max_scores


def explore(
    vectors: np.ndarray,
    neighbours: Callable[[np.ndarray], np.ndarray],
    queries: np.ndarray,
    start: np.ndarray,
    rounds: int,
    width: int,
    seen: np.ndarray,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """All items that were looked at, int64 [n], each once, and their exact scores, float32 [n].

    `vectors` [items, inner]; `neighbours` maps items [m] to [m, degree], -1 for none; `queries` float32
    [M, inner]; `start` are the first candidates. A round opens the `width` best items that are not open
    yet; with `allowed` (bool [items]) the `width` best of those too, so that the walk goes on through
    items that may not be shown without forgetting what it is for. `seen` bool [items] is scratch: all
    false, before and after.
    """
    ids = _distinct(start)
    found, scored = [ids], [max_scores(vectors, ids, queries)]
    pool, scores = ids, scored[0]
    is_open = np.zeros(len(pool), dtype=bool)
    seen[ids] = True
    try:
        for _ in range(rounds):
            kept = _promising(scores, None if allowed is None else allowed[pool], width)
            if kept is not None:
                pool, scores, is_open = pool[kept], scores[kept], is_open[kept]
            fresh = pool[~is_open]
            if not len(fresh):
                break
            is_open[:] = True
            near = neighbours(fresh).ravel()
            near = near[near >= 0]
            new = _distinct(near[~seen[near]])
            seen[new] = True
            found.append(new)
            scored.append(max_scores(vectors, new, queries))
            pool, scores = np.concatenate([pool, new]), np.concatenate([scores, scored[-1]])
            is_open = np.concatenate([is_open, np.zeros(len(new), dtype=bool)])
    finally:
        for each in found:
            seen[each] = False
    return np.concatenate(found), np.concatenate(scored)


def _distinct(ids: np.ndarray) -> np.ndarray:
    """Sorted distinct values, int64 [n]; many times as fast as `np.unique` for so few."""
    ids = np.sort(ids)
    first = np.ones(len(ids), dtype=bool)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    return ids[first].astype(np.int64)


def _promising(scores: np.ndarray, allowed: np.ndarray | None, width: int) -> np.ndarray | None:
    """Places of the `width` best, and of the `width` best allowed; None for all places."""
    if len(scores) <= width:
        return None
    best = np.argpartition(-scores, width - 1)[:width]
    if allowed is None:
        return best
    places = np.flatnonzero(allowed)
    if len(places) > width:
        places = places[np.argpartition(-scores[places], width - 1)[:width]]
    kept = np.zeros(len(scores), dtype=bool)
    kept[best] = True
    kept[places] = True
    return np.flatnonzero(kept)
