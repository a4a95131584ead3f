"""Whether query tokens specialise: how often each one finds the items, and how far their own lists overlap.

A list takes the best of M queries for each item (URM section 1.3). M vectors are worth their cost when they
want different things: when several of them win places of one list, and their own lists have little in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters, Request
from llmrec.decode.filters import FilterIndex
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import questions
from llmrec.retrieve.rank import top_k

TOP = 10


class QueryModel(Protocol):
    """A recommender whose user vectors can be looked at."""

    name: str

    @property
    def filters(self) -> FilterIndex:
        """What decides which items a request allows."""
        ...

    def user_vectors(self, requests: Sequence[Request]) -> np.ndarray:
        """One vector a query, float32 [requests, M, inner]."""
        ...


@dataclass(frozen=True, slots=True)
class Specialisation:
    """How M queries share the work on the top 10 of some users.

    wins: each query's share of all places of the lists. effective: exp of the entropy of those shares, from 1
    (one query does all) to M (all the same). effective_in_list: the mean of that over single lists; where it
    is well below `effective`, queries serve different users rather than different wants of one. overlap: mean
    Jaccard index of the queries' own top 10 over all pairs, 1 when all want the same; None for one query.
    unlisted: share of what stands in some query's own top 10 but not in the list.
    """

    queries: int
    users: int
    wins: tuple[float, ...]
    effective: float
    effective_in_list: float
    overlap: float | None
    unlisted: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "wins": list(self.wins)}


def specialisation(
    vectors: np.ndarray, matrix: np.ndarray, allowed: Iterable[np.ndarray], top: int = TOP
) -> Specialisation:
    """The figures for user vectors [n, M, inner] over V [items, inner]; `allowed` bool [items] for each."""
    users, queries = vectors.shape[:2]
    wins = np.zeros((users, queries), dtype=np.int64)
    overlap: list[float] = []
    wanted = unlisted = 0
    for user, mask in enumerate(allowed):
        scores = vectors[user] @ matrix.T
        listed = _best(scores.max(axis=0)[None], mask, top)[0]
        wins[user] = np.bincount(scores[:, listed[listed >= 0]].argmax(axis=0), minlength=queries)
        own = _best(scores, mask, top)
        found = np.unique(own[own >= 0])
        inside = (own[:, :, None] == found).any(axis=1).astype(np.int64)  # [M, found]
        both, sizes = inside @ inside.T, inside.sum(axis=1)
        upper = np.triu_indices(queries, 1)
        either = (sizes[:, None] + sizes - both)[upper]
        overlap += (both[upper] / np.maximum(either, 1)).tolist()
        wanted += len(found)
        unlisted += len(np.setdiff1d(found, listed))
    total = wins.sum(axis=0) / max(1, wins.sum())
    within = [_effective(row / row.sum()) for row in wins if row.sum()]
    return Specialisation(
        queries,
        users,
        tuple(total.tolist()),
        _effective(total),
        float(np.mean(within)) if within else 0.0,
        float(np.mean(overlap)) if overlap else None,
        unlisted / max(1, wanted),
    )


def _best(scores: np.ndarray, mask: np.ndarray, top: int) -> np.ndarray:
    """The best allowed items of each row, best first, -1 where a list is shorter; int64 [rows, top]."""
    return top_k(scores, np.broadcast_to(mask, scores.shape), top)[0]


def _effective(shares: np.ndarray) -> float:
    """Exp of the entropy: how many equal shares would be as uneven; 0 for no shares at all."""
    known = shares[shares > 0]
    return float(np.exp(-(known * np.log(known)).sum())) if len(known) else 0.0


def measure_queries(
    model: QueryModel,
    matrix: np.ndarray,
    prepared: Prepared,
    split: str = "leave-last-out",
    fold: str = "test",
    most: int | None = 500,
) -> Specialisation:
    """Ask the questions of a fold, seen items left out, at most `most` of them, evenly chosen.

    `matrix` is V, float32 [items, inner]. Raises `LlmrecError` for an empty fold.
    """
    cases = questions(prepared, split, fold)
    if most is not None and len(cases) > most:
        cases = [cases[at] for at in np.linspace(0, len(cases) - 1, most).astype(int)]
    requests = [
        Request(
            prepared.histories.history(case.user, case.cut),
            filters=Filters(exclude_seen=True),
            user=case.user,
        )
        for case in cases
    ]
    vectors = model.user_vectors(requests)
    masks = (model.filters.mask(each.filters, each.history) for each in requests)
    return specialisation(vectors, np.asarray(matrix), masks)


def queries_page(found: Specialisation) -> str:
    """The figures for people, as Markdown."""
    overlap = "–" if found.overlap is None else f"{found.overlap:.3f}"
    summary = table(
        ("what", "figure"),
        [
            ("users asked", f"{found.users:,}"),
            ("query tokens", found.queries),
            ("effective number, all lists together", f"{found.effective:.2f}"),
            ("effective number within a list", f"{found.effective_in_list:.2f}"),
            ("overlap of the queries' own top 10", overlap),
            ("wanted by a query, not in the list", f"{found.unlisted:.3f}"),
        ],
    )
    wins = table(
        ("query", "share of places in the top 10"),
        [(number, f"{share:.3f}") for number, share in enumerate(found.wins)],
    )
    return f"{summary}\n\n{wins}\n"
