"""Residual k-means, free (GRID's RK-means) or with equal shares (OneRec section 3.1)."""

from __future__ import annotations

from functools import partial

import numpy as np

from llmrec.errors import require_extra
from llmrec.items.quantise.codebooks import Codebooks, fit_codebooks
from llmrec.items.quantise.contract import CELLS, checked, distances
from llmrec.items.quantise.settings import QuantiserSettings

_POINTS_A_CODE = 256
"""Points that a codebook is fitted to, at most, for each of its codes."""
_LEAST_A_CODE = 4
"""Points that equal shares are fitted to at least, where so many distances take much memory."""
_STEPS, _DAMPING = 2, np.float32(0.5)
"""Changes of the prices in a round, and how far they go."""


class ResidualQuantiser:
    """Codebooks over the vectors themselves."""

    def __init__(self, settings: QuantiserSettings, codebooks: Codebooks) -> None:
        self.settings = settings
        self.codebooks = codebooks
        self.width = codebooks.books[0].shape[1]

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.codes`."""
        return self.codebooks.codes(checked(vectors, self.width))

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.assign`: `balanced` gives each code of a level its share, whole vectors apart."""
        vectors = checked(vectors, self.width)
        balanced = self.settings.kind == "balanced"
        return self.codebooks.assign(vectors) if balanced else self.codebooks.codes(vectors)

    def costs(self, vectors: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        """See `Quantiser.costs`."""
        return self.codebooks.costs(checked(vectors, self.width), prefixes)

    def reconstruct(self, codes: np.ndarray) -> np.ndarray:
        """See `Quantiser.reconstruct`."""
        return self.codebooks.total(codes)

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Quantiser.arrays`."""
        return self.codebooks.arrays()

    @classmethod
    def from_arrays(cls, settings: QuantiserSettings, arrays: dict[str, np.ndarray]) -> ResidualQuantiser:
        """What `arrays` gave."""
        return cls(settings, Codebooks.from_arrays(arrays, len(settings.sizes)))


def fit_residual(vectors: np.ndarray, settings: QuantiserSettings, seed: int) -> ResidualQuantiser:
    """Residual k-means of vectors [n, width], with equal shares where the kind is `balanced`."""
    shared = settings.kind == "balanced"
    one = partial(balanced_book if shared else kmeans_book, rounds=settings.rounds)
    return ResidualQuantiser(settings, fit_codebooks(vectors, settings.sizes, one, seed, shared))


def kmeans_book(points: np.ndarray, size: int, seed: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroids float32 [size, width] by k-means, and prices of zero.

    Where there are no more points than codes, the points are the centroids, again and again: a code that
    stands for the same as another is where the second of two equal items can go.
    """
    free = np.zeros(size, dtype=np.float32)
    if len(points) <= size:
        return np.ascontiguousarray(points[np.arange(size) % len(points)]), free
    require_extra("train", ["faiss"], "k-means")
    import faiss

    means = faiss.Kmeans(
        points.shape[1],
        size,
        niter=rounds,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=_POINTS_A_CODE,
    )
    means.train(np.ascontiguousarray(points))
    return np.asarray(means.centroids, dtype=np.float32).reshape(size, -1).copy(), free


def balanced_book(points: np.ndarray, size: int, seed: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroids float32 [size, width] and the prices float32 [size] at which each attracts an equal share.

    OneRec visits the centroids in turn and lets each take its share of what is left; the last ones get what
    nobody wanted. Here codes have prices: the best division into equal shares has that form (Aurenhammer,
    Hoffmann and Aronov 1998). Each round moves every price half-way to where just an equal share would choose
    the code, were the other prices to stay, and then the centroids to the means of what they attract. Steps
    along the gradient of the prices do not settle from the second level on, where all centroids are about
    equally far.
    """
    book, price = kmeans_book(points, size, seed, rounds)
    if size == 1 or len(points) <= size:
        return book, price
    sample = _sample(points, size, seed)
    everyone = np.arange(len(sample))
    beyond = len(sample) - -(-len(sample) // size)
    for _ in range(rounds):
        far = np.ascontiguousarray(distances(sample, book).T)
        for _ in range(_STEPS):
            offers = far + price[:, None]
            chosen = offers.argmin(axis=0)
            best = offers[chosen, everyone]
            offers[chosen, everyone] = np.inf
            # At this price of a code a point would be in two minds about it.
            worth = best - far
            worth[chosen, everyone] = offers.min(axis=0) - far[chosen, everyone]
            worth.partition(beyond, axis=1)
            price += _DAMPING * (worth[:, beyond] - price)
        book = _means(sample, (far + price[:, None]).argmin(axis=0), book)
    return book, price


def _sample(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    """As many of the points, in order, as a codebook needs and as fit into memory with their distances."""
    most = max(_LEAST_A_CODE * size, min(_POINTS_A_CODE * size, 2 * CELLS // size))
    if len(points) <= most:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), most, replace=False))]


def _means(points: np.ndarray, chosen: np.ndarray, book: np.ndarray) -> np.ndarray:
    """The mean of the points that chose each code; codes that none chose stay where they are."""
    order = np.argsort(chosen, kind="stable")
    starts = np.flatnonzero(np.diff(chosen[order], prepend=-1))
    sums = np.add.reduceat(points[order], starts, axis=0)
    moved = book.copy()
    moved[chosen[order][starts]] = sums / np.diff(starts, append=len(order))[:, None]
    return moved
