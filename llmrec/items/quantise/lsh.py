"""Locality-sensitive hashing: the floor that a learnt quantiser must beat (TIGER section 5.2.1).

Bit i says on which side of a random hyperplane through the mean a vector is. Directions are orthogonal in
groups of the width, which wastes fewer bits than independent ones (Ji et al. 2012, super-bit LSH).
"""

from __future__ import annotations

import numpy as np

from llmrec.items.quantise.contract import checked
from llmrec.items.quantise.settings import QuantiserSettings


class LshQuantiser:
    """`mean` float32 [width] and `directions` float32 [bits, width], unit rows."""

    def __init__(self, settings: QuantiserSettings, mean: np.ndarray, directions: np.ndarray) -> None:
        self.settings = settings
        self.width = len(mean)
        self._mean = mean
        self._directions = directions

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.codes`."""
        positive = (self._margins(vectors) > 0).astype(np.int32)
        found = np.zeros((len(positive), len(self.settings.sizes)), dtype=np.int32)
        start = 0
        for level, bits in enumerate(self.settings.bits):
            for bit in range(start, start + bits):
                found[:, level] = 2 * found[:, level] + positive[:, bit]
            start += bits
        return found

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.assign`."""
        return self.codes(vectors)

    def costs(self, vectors: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        """See `Quantiser.costs`: the squared distances from the hyperplanes on whose other side a code is."""
        margins = self._margins(vectors)
        total = np.zeros((len(margins), 1), dtype=np.float32)
        start = 0
        for level in range(prefixes.shape[1] + 1):
            bits, size = self.settings.bits[level], self.settings.sizes[level]
            here = _flips(margins[:, start : start + bits], size)
            if level == prefixes.shape[1]:
                here += total
                return here
            total += np.take_along_axis(here, prefixes[:, level, None].astype(np.int64), axis=1)
            start += bits
        raise ValueError(f"no level after {prefixes.shape[1]}")

    def reconstruct(self, codes: np.ndarray) -> None:
        """See `Quantiser.reconstruct`: a region is not a vector."""
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Quantiser.arrays`."""
        return {"mean": self._mean, "directions": self._directions}

    @classmethod
    def from_arrays(cls, settings: QuantiserSettings, arrays: dict[str, np.ndarray]) -> LshQuantiser:
        """What `arrays` gave."""
        return cls(settings, arrays["mean"], arrays["directions"])

    def _margins(self, vectors: np.ndarray) -> np.ndarray:
        """Signed distances from the hyperplanes, float32 [n, bits]."""
        margins: np.ndarray = (checked(vectors, self.width) - self._mean) @ self._directions.T
        return margins


def _flips(margins: np.ndarray, size: int) -> np.ndarray:
    """The squared margins [n, bits] of the bits in which a code differs from the signs, summed; [n, size]."""
    bits = margins.shape[1]
    ones = (np.arange(size)[:, None] >> np.arange(bits)[::-1] & 1).astype(np.float32)
    squares = margins**2
    over = np.where(margins > 0, squares, 0)
    found: np.ndarray = over @ (1 - ones).T + (squares - over) @ ones.T
    return found


def fit_lsh(vectors: np.ndarray, settings: QuantiserSettings, seed: int) -> LshQuantiser:
    """Hyperplanes through the mean of vectors [n, width]."""
    rng = np.random.default_rng(seed)
    bits, width = sum(settings.bits), vectors.shape[1]
    groups = [
        np.linalg.qr(rng.standard_normal((width, min(width, bits - start))))[0].T
        for start in range(0, bits, width)
    ]
    directions = np.concatenate([*groups, np.zeros((0, width))]).astype(np.float32)
    return LshQuantiser(settings, vectors.mean(axis=0, dtype=np.float64).astype(np.float32), directions)
