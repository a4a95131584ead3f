"""Query tokens and the scores read at them (URM sections 1.3 and 1.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QueryHead(nn.Module):
    """M learnable query tokens and the map U from hidden states to the width of the item table.

    Item v's score at query m is <h_m, w_v> with W = V U^T; computed as <U^T h_m, v>, which is the same
    and never makes the [items, hidden] matrix. A list takes the maximum over the queries.
    """

    def __init__(self, hidden: int, inner: int = 128, queries: int = 4, embedding_std: float = 0.02) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, hidden) * embedding_std)
        self.inward = nn.Linear(hidden, inner, bias=False)

    def vectors(self, states: Tensor) -> Tensor:
        """User vectors [..., inner] of hidden states [..., hidden]."""
        vectors: Tensor = self.inward(states)
        return vectors

    def scores(self, states: Tensor, table: Tensor) -> Tensor:
        """Scores [..., items] of states [..., hidden], each state by itself (the sequence loss)."""
        return self.vectors(states) @ table.T

    def best(self, states: Tensor, table: Tensor) -> Tensor:
        """Scores [..., items] of query states [..., M, hidden]: the maximum over the M queries."""
        return self.scores(states, table).amax(dim=-2)
