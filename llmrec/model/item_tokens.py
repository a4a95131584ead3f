"""One token an item: embeddings computed from an id part and a text part (URM sections 1.2 and 1.4)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from llmrec.model.settings import PARTS

INNER_STD = 0.05
"""Spread of the item vectors at the start."""


class ItemTokens(nn.Module):
    """The table V [items, inner] and the tokens made of it.

    V = id part + text part: a free row an item, which tells items apart, and a linear map of the frozen
    text vector, which reaches items never seen (URM: V_dis and V_trans). The token of an item in a prompt
    is a linear map of its row of V to the backbone's hidden width; the same table answers at the output,
    W = V U^T (see `query_head`), so what is learnt at one end serves the other.
    """

    text_vectors: Tensor

    def __init__(
        self,
        text_vectors: Tensor,
        hidden: int,
        inner: int = 128,
        parts: str = "both",
        embedding_std: float = 0.02,
    ) -> None:
        """`text_vectors` [items, text width], unit rows; `embedding_std`: spread of the words' embeddings."""
        super().__init__()
        if parts not in PARTS:
            raise ValueError(f"parts is {parts!r}, it must be one of: {', '.join(PARTS)}")
        items, width = text_vectors.shape
        self.parts = parts
        self.register_buffer("text_vectors", text_vectors.float(), persistent=False)
        self.id_part = nn.Parameter(torch.randn(items, inner) * INNER_STD)
        self.text_map = nn.Linear(width, inner, bias=False)
        nn.init.normal_(self.text_map.weight, std=INNER_STD)
        # A part that is not used never gets a gradient, which a distributed wrapper would wait for.
        self.id_part.requires_grad_(parts != "text_only")
        self.text_map.requires_grad_(parts != "id_only")
        self.token_map = nn.Linear(inner, hidden)
        # Tokens start about as large as words: the rows of V have spread INNER_STD for each part.
        nn.init.normal_(self.token_map.weight, std=embedding_std / (math.sqrt(2 * inner) * INNER_STD))
        nn.init.zeros_(self.token_map.bias)

    def start_from(self, factors: np.ndarray) -> None:
        """Let the id part start from `factors` [items, inner] of spread 1 (see `items.collaborative`)."""
        with torch.no_grad():
            self.id_part.copy_(torch.from_numpy(factors) * INNER_STD)

    def forward(self, index: Tensor | None = None) -> Tensor:
        """Rows of V, float [len(index), inner]; all of them without `index`."""
        ids = self.id_part if index is None else self.id_part[index]
        if self.parts == "id_only":
            return ids
        text: Tensor = self.text_map(self.text_vectors if index is None else self.text_vectors[index])
        return text if self.parts == "text_only" else ids + text

    def tokens(self, table: Tensor) -> Tensor:
        """Token embeddings [..., hidden] of rows of V [..., inner]."""
        tokens: Tensor = self.token_map(table)
        return tokens
