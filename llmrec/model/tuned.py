"""The model as it trains: adapted backbone, item tokens and query head behind one forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from llmrec.model.adapters import causal_lm, soft_prompt
from llmrec.model.attention import attention_inputs
from llmrec.model.item_tokens import ItemRows, ItemTokens
from llmrec.model.query_head import QueryHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TunedModel(nn.Module):
    """Token ids of `model.tokens.PromptTokens` in, final hidden states out."""

    def __init__(
        self, backbone: nn.Module, items: ItemTokens, head: QueryHead, base: int, dropout: float = 0.0
    ) -> None:
        """`backbone` comes from `adapters.adapt`; `base` is the number of word ids."""
        super().__init__()
        self.backbone = backbone
        self.items = items
        self.head = head
        self.base = base
        self.dropout = nn.Dropout(dropout)

    @property
    def language_model(self) -> PreTrainedModel:
        """The causal language model inside, adapters in place."""
        return causal_lm(self.backbone)

    def embed(self, ids: Tensor, rows: ItemRows | None = None) -> Tensor:
        """Embeddings [..., hidden] of ids [...]: words looked up, items computed where they occur.

        `rows` are rows of V made before, all items of `ids` among them.
        """
        first_query = self.base + len(self.items.text_vectors)
        words = self.language_model.get_input_embeddings()
        embedded: Tensor = words(torch.where(ids < self.base, ids, 0))
        other: Tensor = self.head.queries
        soft = soft_prompt(self.backbone)
        if soft is not None:
            other = torch.cat([other, soft])
        is_item = (ids >= self.base) & (ids < first_query)
        is_other = ids >= first_query
        items = ids[is_item] - self.base
        item_tokens = self.items.tokens(self.items(items) if rows is None else rows.at(items))
        embedded = embedded.masked_scatter(is_item[..., None], item_tokens.to(embedded.dtype))
        return embedded.masked_scatter(
            is_other[..., None], other[ids[is_other] - first_query].to(embedded.dtype)
        )

    def of_search(self, states: Tensor, vectors: Tensor) -> Tensor:
        """What the search words' `vectors` [n, text width] add to the M queries, [n, M, inner].

        `states` [n, 1 + M, hidden] are those that the head reads; without search words a zero.
        """
        if not self.head.searches or vectors.shape[1] == 0:
            return torch.zeros(1, 1, 1, device=states.device)
        return self.head.of_search(states, self.items.of_search(vectors))

    def forward(
        self, ids: Tensor, visible: Tensor, positions: Tensor, rows: ItemRows | None = None
    ) -> Tensor:
        """Hidden states [batch, length, hidden] after the final norm.

        ids and positions int64 [batch, length]; visible bool [batch, length, length]: whether the token of
        the row may look at the token of the column. `rows` as for `embed`.
        """
        model = self.language_model
        output = model.get_decoder()(
            inputs_embeds=self.dropout(self.embed(ids, rows)),
            position_ids=positions,
            use_cache=False,
            **attention_inputs(model, visible, positions),
        )
        states: Tensor = output.last_hidden_state
        return states
