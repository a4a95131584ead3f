"""The embeddings that serving needs beyond the tokenizer's: items, query tokens, soft prompt rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from llmrec.model.adapters import soft_prompt
from llmrec.model.tuned import TunedModel


class NewRows:
    """Row r is the embedding of the id `base + r` of `model.tokens.PromptTokens`.

    Tokens of items are computed from their rows of V when a prompt names them: the [items, hidden] table,
    2.3 GB for a million items of SmolLM2-135M, never exists.
    """

    def __init__(self, table: np.ndarray, token_map: nn.Linear, others: Tensor) -> None:
        """`table` is V [items, inner + F], perhaps memory-mapped.

        `others` [queries + soft prompt, hidden] are the query tokens and behind them the soft prompt.
        """
        self._table = table
        bias = token_map.bias.detach().float().cpu()
        self._weight, self._bias = token_map.weight.detach().float().cpu(), bias
        self._others = others.detach().float().cpu()

    @classmethod
    def of(cls, model: TunedModel, table: np.ndarray | None = None) -> NewRows:
        """Those of `model`; `table` is its V where a bundle has it at hand, else it is computed."""
        with torch.no_grad():
            if table is None:
                table = model.items().float().cpu().numpy()
            soft = soft_prompt(model.backbone)
            others = model.head.queries if soft is None else torch.cat([model.head.queries, soft])
            return cls(table, model.items.token_map, others)

    def __len__(self) -> int:
        return len(self._table) + len(self._others)

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        """Embeddings float32 [n, hidden], on the CPU, of `rows` int64 [n]."""
        items = len(self._table)
        is_item = rows < items
        inner = self._weight.shape[1]
        named = np.array(self._table[rows[is_item].numpy(), :inner], dtype=np.float32)
        found = torch.empty(len(rows), self._weight.shape[0])
        found[is_item] = nn.functional.linear(torch.from_numpy(named), self._weight, self._bias)
        found[~is_item] = self._others[rows[~is_item] - items]
        return found
