"""What the embeddings of new code tokens start from: the words of the items that they stand for.

As residual quantisation does with vectors: the text of an item is the mean of its words' embeddings; the
row of a first code is the mean text of its items, the row of a second code the mean of what is left of its
items' texts, and so on. So the rows of an item's codes together say what its words say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmrec.model.code_tokens import CodeTokens

_ITEMS = 1 << 16
"""Items whose texts are in memory at a time."""


def code_rows(words: Tensor, texts: Sequence[Sequence[int]], codes: np.ndarray, tokens: CodeTokens) -> Tensor:
    """Rows [len(tokens.ids), hidden] in the space of `words` [vocabulary, hidden], an embedding table.

    `texts` are the words of each item, ids of `words` (an item may have none), `codes` int [items, levels]
    its ID. Rows lie around the mean of the items' words, and those of each level are spread as the items'
    texts are: what is left for a later level is little, and a table's rows must be alike in size. Rows of
    codes without items, and of levels on which texts do not differ, are random with that spread, drawn from
    torch's generator; rows of a soft prompt are words of the vocabulary.
    """
    used, counts = np.unique(_flat(texts), return_counts=True)
    known = words[torch.from_numpy(used)] if len(used) else words[: tokens.first]
    weights = torch.from_numpy(counts).to(words) if len(used) else torch.ones(len(known)).to(words)
    center = (weights[:, None] * known).sum(0) / weights.sum()
    parts: list[Tensor] = []
    spreads: list[float] = []
    for level, size in enumerate(tokens.sizes):
        sums, count = words.new_zeros(size, words.shape[1]), words.new_zeros(size)
        for start in range(0, len(texts), _ITEMS):
            own = torch.from_numpy(np.asarray(codes[start : start + _ITEMS], dtype=np.int64)).to(words.device)
            left = _means(words, texts[start : start + _ITEMS], center) - center
            if level == 0:
                spreads += left.square().mean(1).tolist()
            for before, rows in enumerate(parts):
                left -= rows[own[:, before]]
            sums.index_add_(0, own[:, level], left)
            count += torch.bincount(own[:, level], minlength=size)
        parts.append(sums / count.clamp(min=1)[:, None])
    # Where texts say nothing, as words are spread.
    spread = math.sqrt(sum(spreads) / max(1, len(spreads))) or float((known - center).square().mean().sqrt())
    started = [center + _spread(rows, spread) for rows in parts]
    drawn = torch.randint(tokens.first, (tokens.soft,))
    return torch.cat([*started, words[drawn.to(words.device)]])


def _flat(texts: Sequence[Sequence[int]]) -> np.ndarray:
    lengths = sum(map(len, texts))
    return np.fromiter((token for text in texts for token in text), dtype=np.int64, count=lengths)


def _means(words: Tensor, texts: Sequence[Sequence[int]], center: Tensor) -> Tensor:
    """Mean embedding of each text [n, hidden], `center` for one without words."""
    lengths = np.array([len(text) for text in texts])
    offsets = torch.from_numpy(np.cumsum(lengths) - lengths).to(words.device)
    found = functional.embedding_bag(
        torch.from_numpy(_flat(texts)).to(words.device), words, offsets, mode="mean"
    )
    found[torch.from_numpy(lengths == 0).to(words.device)] = center
    return found


def _spread(rows: Tensor, spread: float) -> Tensor:
    """Rows [n, hidden] scaled to a root mean square of `spread`; random where they say nothing."""
    said = rows.abs().amax(dim=1) > 1e-3 * spread
    noise = spread * torch.randn(rows.shape).to(rows)
    if said.sum() < 2:
        return noise
    scaled = rows * (spread / rows[said].square().mean().sqrt())
    return torch.where(said[:, None], scaled, noise)
