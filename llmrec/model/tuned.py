"""The model as it trains: adapted backbone, item tokens and query head behind one forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from llmrec.model.adapters import causal_lm, soft_prompt
from llmrec.model.attention import attention_inputs
from llmrec.model.item_tokens import ItemRows, ItemTokens
from llmrec.model.query_head import QueryHead, best_scores
from llmrec.verbalize.sought import ASKS

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

    def asks(self, search: Tensor) -> Tensor | None:
        """The weights of what is asked [n, len(ASKS)] in `search` of `query_vectors`; None in width 0."""
        return search[:, search.shape[1] - len(ASKS) :] if search.shape[1] else None

    def query_vectors(self, states: Tensor, recent: Tensor | None, search: Tensor) -> Tensor:
        """User vectors [n, M, inner + F] of the queries; see `QueryHead.at_wish` for states and `recent`.

        `search` [n, text width + len(ASKS)] is what is sought (`items.search_vectors`), of width 0 where
        nothing is.
        """
        text, asks = None, self.asks(search)
        if asks is not None and self.head.searches:
            text = self.items.of_search(search[:, : search.shape[1] - len(ASKS)])
        return self.head.at_wish(states, recent, text, asks)

    def best(
        self, states: Tensor, table: Tensor, recent: Tensor | None = None, search: Tensor | None = None
    ) -> Tensor:
        """Scores [n, items] of states [n, 1 + M, hidden] over `table` [items, inner + F]: the best query's.

        `recent` int64 [n, K] are the newest items, -1 for none; `search` as in `query_vectors`.
        """
        search = states.new_zeros(len(states), 0) if search is None else search
        past = None
        if recent is not None and self.head.remembered:
            past = self.head.of_recent(table, recent, self.asks(search))
        scores = best_scores(self.query_vectors(states, past, search), table)
        if past is None or recent is None:
            return scores
        items = torch.arange(len(table), device=table.device)
        return self.head.gain_of_seen(scores, items, recent, self.asks(search))

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
