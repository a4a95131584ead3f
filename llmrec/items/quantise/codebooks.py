"""Residual codebooks: a code a level, each for what the levels before left over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.items.quantise.contract import CELLS, distances
from llmrec.items.quantise.filling import fill

Fit = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""Points [n, width], a number of codes and a seed to a codebook [codes, width] and its prices [codes]."""


@dataclass(frozen=True, slots=True, eq=False)
class Codebooks:
    """`books[l]` float32 [sizes[l], width]; `prices[l]` float32 [sizes[l]].

    A price is added to the squared distance when a point chooses its code: it keeps codes in dense regions
    from taking more than their share. Costs of relocation are distances alone.
    """

    books: tuple[np.ndarray, ...]
    prices: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes a level."""
        return tuple(len(book) for book in self.books)

    def codes(self, points: np.ndarray) -> np.ndarray:
        """The cheapest code of each level in turn, int32 [n, levels], for each point by itself."""
        return self._walk(points, self.cheapest)

    def assign(self, points: np.ndarray) -> np.ndarray:
        """The same for all points together: the shares of a level's codes differ by at most one."""
        return self._walk(points, self.shared_out)

    def _walk(self, points: np.ndarray, choose: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        found = np.empty((len(points), len(self.books)), dtype=np.int32)
        rest = points
        for level, book in enumerate(self.books):
            found[:, level] = choose(rest, level)
            rest = rest - book[found[:, level]]
        return found

    def cheapest(self, rest: np.ndarray, level: int) -> np.ndarray:
        """The cheapest code of one level, int64 [n]."""
        return cheapest(rest, self.books[level], self.prices[level])

    def shared_out(self, rest: np.ndarray, level: int) -> np.ndarray:
        """A code of one level for each of n points, int64 [n].

        Each code is that of n / size points, rounded up or down.
        """
        book, price = self.books[level], self.prices[level]
        least, over = divmod(len(rest), len(book))
        room = np.full(len(book), least, dtype=np.int64)
        demand = np.bincount(cheapest(rest, book, price), minlength=len(book))
        room[np.argsort(-demand, kind="stable")[:over]] += 1  # the odd ones go where most want to be
        return fill(lambda rows: distances(rest[rows], book) + price, len(rest), room)

    def costs(self, points: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        """Squared distances of what the prefixes [n, l] leave over from the codes of level l."""
        level = prefixes.shape[1]
        return distances(points - self.total(prefixes), self.books[level])

    def total(self, codes: np.ndarray) -> np.ndarray:
        """The sum of what codes [n, l] stand for, float32 [n, width]."""
        found = np.zeros((len(codes), self.books[0].shape[1]), dtype=np.float32)
        for book, chosen in zip(self.books, codes.T, strict=False):
            found += book[chosen]
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """`book_0`, `price_0` and so on."""
        found = {f"book_{level}": book for level, book in enumerate(self.books)}
        return found | {f"price_{level}": price for level, price in enumerate(self.prices)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], levels: int) -> Codebooks:
        """What `arrays` gave; raises `KeyError` when one is missing."""
        books, prices = (tuple(arrays[f"{name}_{at}"] for at in range(levels)) for name in ("book", "price"))
        return cls(books, prices)


def cheapest(points: np.ndarray, book: np.ndarray, price: np.ndarray) -> np.ndarray:
    """The row of `book` with the least squared distance plus price for each point, int64 [n]."""
    found = np.empty(len(points), dtype=np.int64)
    step = max(1, CELLS // len(book))
    for start in range(0, len(points), step):
        block = points[start : start + step]
        found[start : start + step] = (distances(block, book) + price).argmin(axis=1)
    return found


def fit_codebooks(points: np.ndarray, sizes: Sequence[int], fit: Fit, seed: int, shared: bool) -> Codebooks:
    """Codebooks level by level, each fitted to what the ones before leave over.

    `shared`: what is left over of a level is by `Codebooks.shared_out` rather than by the cheapest codes.
    """
    found = Codebooks((), ())
    rest = points
    for level, size in enumerate(sizes):
        book, price = fit(rest, size, seed + level)
        found = Codebooks((*found.books, book), (*found.prices, price))
        chosen = found.shared_out(rest, level) if shared else found.cheapest(rest, level)
        rest = rest - book[chosen]
    return found
