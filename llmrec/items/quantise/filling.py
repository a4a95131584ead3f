"""Places with little room, given to those who are nearest: equal clusters, and codes that hold one item."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmrec.items.quantise.contract import CELLS


def fill(costs: Callable[[np.ndarray], np.ndarray], count: int, room: np.ndarray) -> np.ndarray:
    """A place for each of `count` items, int64 [count], -1 where all places went to nearer ones.

    `costs(rows)` are the costs of all places for some items, [len(rows), places]; `room` int64 [places] is
    how many items each place takes. The result is that of taking (item, place) pairs cheapest first, the item
    of the lower row before others of equal cost. Only costs of items without a place are held at a time: each
    proposes itself to the cheapest place that has not turned it down, a place keeps the cheapest (Gale and
    Shapley 1962).
    """
    places = len(room)
    chosen = np.full(count, -1, dtype=np.int64)
    paid = np.zeros(count, dtype=np.float32)
    # A place that is full turns down all from this cost and row on; one without room turns down everybody.
    worst_cost = np.where(room > 0, np.inf, -np.inf).astype(np.float32)
    worst_row = np.where(room > 0, count, -1).astype(np.int64)
    seeking = np.arange(count)
    while len(seeking):
        wanted, price = _proposals(costs, seeking, places, worst_cost, worst_row)
        hopeful = wanted >= 0
        seeking, wanted, price = seeking[hopeful], wanted[hopeful], price[hopeful]
        chosen[seeking], paid[seeking] = wanted, price
        asked = np.zeros(places, dtype=bool)
        asked[wanted] = True
        rows = np.flatnonzero((chosen >= 0) & asked[chosen])
        order = rows[np.lexsort((rows, paid[rows], chosen[rows]))]
        held = chosen[order]
        starts = np.flatnonzero(np.diff(held, prepend=-1))
        sizes = np.diff(starts, append=len(held))
        rank = np.arange(len(held)) - np.repeat(starts, sizes)
        last = order[starts + np.minimum(sizes, room[held[starts]]) - 1]
        full = sizes >= room[held[starts]]
        worst_cost[held[starts[full]]] = paid[last[full]]
        worst_row[held[starts[full]]] = last[full]
        seeking = np.sort(order[rank >= room[held]])
        chosen[seeking] = -1
    return chosen


def _proposals(
    costs: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    places: int,
    worst_cost: np.ndarray,
    worst_row: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest place that would take each row, -1 for none, and its cost."""
    wanted = np.full(len(rows), -1, dtype=np.int64)
    price = np.zeros(len(rows), dtype=np.float32)
    step = max(1, CELLS // places)
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        own = rows[some, None]
        found = costs(rows[some])
        open_ = (found < worst_cost) | ((found == worst_cost) & (own < worst_row))
        found = np.where(open_, found, np.inf)
        best = found.argmin(axis=1)
        price[some] = found[np.arange(len(best)), best]
        wanted[some] = np.where(open_[np.arange(len(best)), best], best, -1)
    return wanted, price
