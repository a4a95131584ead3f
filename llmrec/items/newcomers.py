"""Id parts of items that came after training, from what training learnt of others.

V = id part + text part (URM section 1.4). The text part of a new item is computed from its text; of its id
part nothing was learnt, and this decides what stands in for it.
"""

from __future__ import annotations

import numpy as np

ID_PARTS = ("neighbours", "mean", "zero")
NEIGHBOURS = 20
"""Known items that a new one takes its id part from, at most."""
STRENGTH = 0.5
"""How much of its neighbours' length an id part gets; see `stand_in`."""
_SHARPNESS = 8
"""Power of the cosine by which neighbours are weighted: most of the weight is with the nearest few."""
_CELLS = 1 << 24
"""Similarities held at a time: 64 MiB of float32."""


def stand_in(
    new: np.ndarray,
    known: np.ndarray,
    id_part: np.ndarray,
    how: str,
    neighbours: int = NEIGHBOURS,
    strength: float = STRENGTH,
) -> np.ndarray:
    """Id parts float32 [new, inner] for new items with text vectors `new` [new, width], unit rows.

    `known` [items, width] and `id_part` [items, inner] are those of trained items. "mean": their mean.
    "zero": nothing, the item stands by its text alone. "neighbours": the mean of the `neighbours` nearest by
    text, weighted by similarity; for a text like no other, the mean of all.

    A mean is shorter than what it is the mean of, so its scores are lower and the item seldom comes up.
    `strength` 0 leaves it so, 1 makes it as long as its neighbours are, between them is a power of the ratio:
    new items come up more often, at the cost of known ones (benchmarks/README.md).
    """
    if how not in ID_PARTS:
        raise ValueError(f"id part {how!r} is none of {', '.join(ID_PARTS)}")
    inner = id_part.shape[1]
    if how == "zero" or len(known) == 0:
        return np.zeros((len(new), inner), dtype=np.float32)
    mean = id_part.mean(axis=0, dtype=np.float64).astype(np.float32)
    found = np.tile(mean, (len(new), 1))
    if how == "mean":
        return found
    lengths = np.linalg.norm(id_part, axis=1)
    count = min(neighbours, len(known))
    step = max(1, _CELLS // len(known))
    for start in range(0, len(new), step):
        similar = new[start : start + step] @ known.T
        nearest = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        weights = np.clip(np.take_along_axis(similar, nearest, axis=1), 0, None) ** _SHARPNESS
        total = weights.sum(axis=1, keepdims=True)
        weights /= np.where(total > 0, total, 1)
        mixed = np.einsum("nk,nki->ni", weights, id_part[nearest])
        length = np.linalg.norm(mixed, axis=1)
        wanted = (weights * lengths[nearest]).sum(axis=1)
        mixed *= ((wanted / np.where(length > 0, length, 1)) ** strength)[:, None]
        found[start : start + step] = np.where(total > 0, mixed, mean)
    return found
