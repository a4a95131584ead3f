"""One token an item: embeddings computed from an id part and a text part (URM sections 1.2 and 1.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.model.settings import PARTS

INNER_STD = 0.05
"""Spread of the item vectors at the start."""
FACT_STD = 0.1
"""Spread of each fact in the rows of V."""
_PRINCIPAL = 100_000
"""Items whose texts decide the principal axes, the first of the catalogue."""


Change = tuple[Tensor, Tensor]
"""Items int64 [n], each once, and what is added to their id parts, float [n, inner]."""


@dataclass(frozen=True, slots=True)
class ItemRows:
    """Rows of V computed once for a step: `values` [rows, inner + F] of the catalogue's items `index`.

    `index` is int64 [rows] and sorted, None for the whole catalogue.
    """

    values: Tensor
    index: Tensor | None = None

    def at(self, items: Tensor) -> Tensor:
        """Rows [..., inner + F] of catalogue indices [...], all of which must be among `index`."""
        return functional.embedding(self.places(items), self.values)

    def places(self, items: Tensor) -> Tensor:
        """Where in `values` the catalogue indices [...] stand."""
        return items if self.index is None else torch.searchsorted(self.index, items)


class ItemTokens(nn.Module):
    """The table V [items, inner + F] and the tokens made of it.

    V = id part + text part: a free row an item, which tells items apart, and a linear map of the frozen
    text vector less the mean of all, which reaches items never seen (URM: V_dis and V_trans). The token of
    an item in a prompt is a linear map of its row of V to the backbone's hidden width; the same table
    answers at the output, W = V U^T (see `query_head`), so what is learnt at one end serves the other.

    With facts (`data.fact_columns`), rows of V end in F columns more, which do not train and are no part of
    tokens: what is known of an item besides its text, less the mean over the catalogue, each of one spread.
    """

    text_vectors: Tensor
    center: Tensor
    """Mean of the text vectors at the time of training: what all texts of the catalogue share."""
    facts: Tensor
    """float32 [items, F], as they stand in the rows of V; zero where unknown."""
    fact_mean: Tensor
    fact_spread: Tensor
    """float32 [F]: of the raw facts at the time of training; a spread of 0 is a fact that tells nothing."""
    newcomer: Tensor | None
    """bool [items]: items without an id part of their own, None when there are none; see `ItemSettings`."""

    def __init__(
        self,
        text_vectors: Tensor,
        hidden: int,
        inner: int = 128,
        parts: str = "both",
        embedding_std: float = 0.02,
        dropout: float = 0.0,
        without_id: str = "mean",
        facts: Tensor | None = None,
    ) -> None:
        """`text_vectors` [items, text width], unit rows; `embedding_std`: spread of the words' embeddings.

        `dropout` and `without_id` as in `model.settings.ItemSettings`; `facts` [items, F] raw, NaN unknown.
        """
        super().__init__()
        if parts not in PARTS:
            raise ValueError(f"parts is {parts!r}, it must be one of: {', '.join(PARTS)}")
        items, width = text_vectors.shape
        self.parts = parts
        self.dropout = dropout
        self.without_id = without_id
        self.register_buffer("newcomer", None, persistent=False)
        self.register_buffer("text_vectors", text_vectors.float(), persistent=False)
        self.register_buffer("center", self.text_vectors.mean(0))
        raw = torch.zeros(items, 0) if facts is None else facts.float()
        mean = raw.nanmean(0).nan_to_num()
        self.register_buffer("fact_mean", mean)
        self.register_buffer("fact_spread", (raw - mean).square().nanmean(0).nan_to_num().sqrt())
        self.register_buffer("facts", self.scaled_facts(raw))
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

    def scaled_facts(self, raw: Tensor) -> Tensor:
        """Raw facts [n, F], NaN unknown, as they stand in rows of V."""
        told = self.fact_spread > 1e-9
        scaled = (raw - self.fact_mean) * (told * FACT_STD / self.fact_spread.clamp(min=1e-9))
        return scaled.nan_to_num()

    def start_from(self, factors: np.ndarray) -> None:
        """Let both parts start from what is known before training.

        The id part from `factors` [items, inner] of spread 1 (see `items.collaborative`); the text part from
        the principal axes of the text vectors, turned at random, so that inner products of texts are kept
        as well as the width allows and stand in no relation to the id part's axes. Both have one spread.
        """
        offset = (self.text_vectors[:_PRINCIPAL] - self.center).double()
        _, axes = torch.linalg.eigh(offset.T @ offset)
        width = min(self.text_map.weight.shape)
        turn = torch.linalg.qr(torch.randn(self.text_map.weight.shape[0], width).double())[0]
        found = turn @ axes[:, -width:].T
        spread = (offset @ found.T).std().clamp(min=1e-9)
        with torch.no_grad():
            self.id_part.copy_(torch.from_numpy(factors) * INNER_STD)
            self.text_map.weight.copy_(found * (INNER_STD / spread))

    def set_newcomers(self, newcomer: Tensor) -> None:
        """Let the items where `newcomer` bool [items] is true do without an id part of their own."""
        self.newcomer = newcomer.to(self.id_part.device) if bool(newcomer.any()) else None

    def settle(self, own: Tensor | None = None) -> None:
        """Write into the id parts of newcomers what stands in for them, for use from now on.

        That is `own` [newcomers, inner], or else what stood in for them in training.
        """
        if self.newcomer is not None:
            with torch.no_grad():
                self.id_part[self.newcomer] = self.stand_in() if own is None else own.to(self.id_part)
            self.newcomer = None

    def stand_in(self) -> Tensor:
        """What an item without an id part has in its place, [inner]; no gradient goes through it."""
        ids = self.id_part.detach()
        if self.without_id == "zero":
            return torch.zeros_like(ids[0])
        return ids.mean(0) if self.newcomer is None else ids[~self.newcomer].mean(0)

    def forward(self, index: Tensor | None = None, change: Change | None = None) -> Tensor:
        """Rows of V, float [len(index), inner + F]; all of them without `index`.

        `change` is added to the id parts of some items. In training each call draws anew which items do
        without their id part: make the rows of a step once.
        """
        facts = self.facts if index is None else self.facts[index]
        learnt = self._learnt(index, change)
        return torch.cat([learnt, facts], dim=1) if facts.shape[1] else learnt

    def _learnt(self, index: Tensor | None, change: Change | None) -> Tensor:
        """The id part and the text part together, [len(index), inner]."""
        if self.parts == "id_only":
            return self._ids(index, change)
        vectors = self.text_vectors if index is None else self.text_vectors[index]
        text: Tensor = self.text_map(vectors - self.center)
        return text if self.parts == "text_only" else self._ids(index, change) + text

    def _ids(self, index: Tensor | None, change: Change | None) -> Tensor:
        """Id parts, or what stands in for them, [len(index), inner]."""
        ids = self.id_part if index is None else self.id_part[index]
        if change is not None:
            items, values = change
            if index is not None and len(index):
                at = torch.searchsorted(index, items).clamp(max=len(index) - 1)
                there = index[at] == items
                items, values = at[there], values[there]
            ids = ids.index_add(0, items, values.to(ids.dtype))
        without = self.newcomer if index is None or self.newcomer is None else self.newcomer[index]
        if self.training and self.dropout:
            dropped = torch.rand(len(ids), device=ids.device) < self.dropout
            without = dropped if without is None else without | dropped
        return ids if without is None else torch.where(without[:, None], self.stand_in(), ids)

    def of_search(self, vectors: Tensor) -> Tensor:
        """The text part [n, inner] of the search words' vectors [n, text width]; zero for a zero vector."""
        known = vectors.any(dim=-1, keepdim=True)
        part: Tensor = self.text_map((vectors - self.center) * known)
        return part

    def rows(self, index: Tensor | None = None, change: Change | None = None) -> ItemRows:
        """The rows of a step; `index` int64, sorted and without repetition; `change` as in `forward`."""
        return ItemRows(self(index, change), index)

    def tokens(self, table: Tensor) -> Tensor:
        """Token embeddings [..., hidden] of rows of V [..., inner + F], of which facts are no part."""
        tokens: Tensor = self.token_map(table[..., : self.token_map.in_features])
        return tokens
