"""The best of many candidates for each request, plain or in groups that avoid each other."""

from __future__ import annotations

import numpy as np


def best(request: np.ndarray, value: np.ndarray, place: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """Of the candidates [n] the `quota[r]` best of each request r: sorted by request, best first.

    `request` int64 [n] is sorted; `value` float [n]; of equal values the lower `place` int [n] comes first.
    Returns positions int64.
    """
    kept = _not_below_cut(request, value, len(quota), int(quota.max(initial=0)))
    order = kept[np.lexsort((place[kept], -value[kept], request[kept]))]
    found: np.ndarray = order[rank_within(request[order]) < quota[request[order]]]
    return found


def rank_within(sorted_request: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... within each run of equal numbers, int64 [n]."""
    places = np.arange(len(sorted_request))
    new = np.ones(len(sorted_request), dtype=bool)
    new[1:] = sorted_request[1:] != sorted_request[:-1]
    starts = places[new]
    found: np.ndarray = places - starts[np.cumsum(new) - 1]
    return found


def _not_below_cut(request: np.ndarray, value: np.ndarray, requests: int, width: int) -> np.ndarray:
    """Positions of what may be among the `width` best of its request: all ties at the cut too."""
    counts = np.bincount(request, minlength=requests)
    longest = int(counts.max(initial=0))
    if longest <= width or width == 0:
        return np.arange(len(request)) if width else np.zeros(0, dtype=np.int64)
    table = np.full((requests, longest), -np.inf)
    table[request, rank_within(request)] = value
    cut = np.partition(table, longest - width, axis=1)[:, longest - width]
    return np.flatnonzero(value >= cut[request])


def best_in_groups(
    request: np.ndarray,
    value: np.ndarray,
    place: np.ndarray,
    token: np.ndarray,
    group: np.ndarray,
    quota: np.ndarray,
    groups: int,
    penalty: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The same in `groups` groups that choose one after another (Vijayakumar et al. 2016).

    A group chooses among the candidates that come from its own, `group` int64 [n] (-1: anybody's), an
    equal share of what places are left; each time that an earlier group took a token costs that token
    `penalty`. No two groups take one candidate, and places that a group cannot fill go to the others.
    Returns positions, sorted by request, and the group of every candidate, int64 [n].
    """
    owner = np.where(group < 0, groups - 1, group)
    taken = np.zeros(len(request), dtype=bool)
    names, column = np.unique(token, return_inverse=True)
    times = np.zeros((len(quota), len(names)))
    left = quota.copy()
    for number in range(groups):
        free = np.flatnonzero(~taken & ((group == number) | (group < 0)))
        share = -(-left // (groups - number))
        lowered = value[free] - penalty * times[request[free], column[free]]
        chosen = free[best(request[free], lowered, place[free], share)]
        taken[chosen] = True
        owner[chosen] = number
        np.add.at(times, (request[chosen], column[chosen]), 1)
        left = left - np.bincount(request[chosen], minlength=len(quota))
    rest = np.flatnonzero(~taken)
    taken[rest[best(request[rest], value[rest], place[rest], left)]] = True
    return np.flatnonzero(taken), owner


def and_others(kept: np.ndarray, also: np.ndarray, request: np.ndarray) -> np.ndarray:
    """`kept` int64, positions sorted by request, and after each request's the others that `also` bool has."""
    others = also.copy()
    others[kept] = False
    if not others.any():
        return kept
    both = np.concatenate([kept, np.flatnonzero(others)])
    found: np.ndarray = both[np.argsort(request[both], kind="stable")]
    return found


def in_turn(
    kept: np.ndarray, request: np.ndarray, value: np.ndarray, place: np.ndarray, group: np.ndarray
) -> np.ndarray:
    """Positions `kept` int64 sorted by request; of each request the best of its groups in turn."""
    order = kept[np.lexsort((place[kept], -value[kept], group[kept], request[kept]))]
    own = request[order] * (int(group.max(initial=0)) + 1) + group[order]
    found: np.ndarray = order[np.lexsort((group[order], rank_within(own), request[order]))]
    return found
