"""A language model that writes codes, as it trains: prompts in, states out, logits of one level at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional

from llmrec.errors import LlmrecError
from llmrec.model.adapters import causal_lm
from llmrec.model.assemble import fingerprint
from llmrec.model.attention import attention_inputs
from llmrec.model.code_adapters import adapt_for_codes, make_room, plain_table, set_rows, tied, trained_rows
from llmrec.model.code_rows import code_rows
from llmrec.model.code_tokens import CodeTokens
from llmrec.model.history_layer import append_history_layer
from llmrec.model.pretrained import load_backbone
from llmrec.model.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CodeModel(nn.Module):
    """An adapted model and where its codes stand; computes what peft's own forward does, in less time.

    peft writes trained rows into a copy of the whole table at every pass. Here words are looked up in the
    frozen table and codes among the trained rows, and logits are computed for the tokens that can follow.
    """

    def __init__(self, backbone: PeftModel, tokens: CodeTokens, dropout: float = 0.0) -> None:
        """`backbone` comes from `code_adapters.adapt_for_codes`."""
        super().__init__()
        self.backbone = backbone
        self.tokens = tokens
        self.dropout = nn.Dropout(dropout)
        config = self.language_model.config.get_text_config()
        scaled = [getattr(config, name, None) for name in ("logits_scaling", "logit_scale")]
        if any(scale not in (None, 1, 1.0) for scale in scaled):
            raise LlmrecError("the base model scales its output: choose another model")
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)

    @property
    def language_model(self) -> PreTrainedModel:
        """The causal language model inside, adapters in place."""
        return causal_lm(self.backbone)

    @property
    def rows(self) -> nn.Parameter:
        """The rows [tokens, hidden] of the new tokens in the input's table."""
        return trained_rows(self.language_model.get_input_embeddings())

    @property
    def output_rows(self) -> nn.Parameter:
        """The rows [tokens, hidden] of the new tokens in the output's table; `rows` where one serves both."""
        return trained_rows(self.language_model.get_output_embeddings())

    @property
    def caps_logits(self) -> bool:
        """Whether logits are bounded (Gemma 2)."""
        return self._softcap is not None

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings [..., hidden] of ids [...]."""
        table = plain_table(self.language_model.get_input_embeddings())
        is_new = (ids >= self.tokens.first) & (ids < self.tokens.end)
        embedded: Tensor = table(torch.where(is_new, 0, ids))
        # Gemma scales what it looks up.
        rows = self.rows[ids[is_new] - self.tokens.first] * getattr(table, "embed_scale", 1.0)
        return embedded.masked_scatter(is_new[..., None], rows.to(embedded.dtype))

    def forward(self, ids: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
        """Hidden states [batch, length, hidden] after the final norm, as `TunedModel.forward`."""
        model = self.language_model
        output = model.get_decoder()(
            inputs_embeds=self.dropout(self.embed(ids)),
            position_ids=positions,
            use_cache=False,
            **attention_inputs(model, visible, positions),
        )
        states: Tensor = output.last_hidden_state
        return states

    def code_logits(self, states: Tensor, level: int) -> Tensor:
        """Logits [n, codes of the level], float32, after states [n, hidden]."""
        starts = self.tokens.starts
        own = slice(starts[level] - self.tokens.first, starts[level + 1] - self.tokens.first)
        return self._capped(functional.linear(states.float(), self.output_rows[own].float()))

    def word_logits(self, states: Tensor, words: Tensor) -> Tensor:
        """Logits [n, words], float32, of `words` int64, ids of the base model, after states [n, hidden]."""
        table: Any = plain_table(self.language_model.get_output_embeddings())
        bias = None if table.bias is None else table.bias[words].float()
        return self._capped(functional.linear(states.float(), table.weight[words].float(), bias))

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)


class PlainView:
    """A `CodeModel` as engines take models: what it has learnt so far stands in its plain tables.

    The tables' own rows of the new tokens are not read in training, so they can be written.
    """

    def __init__(self, model: CodeModel) -> None:
        self._model = model.language_model
        self.config = self._model.config
        self.dtype = self._model.dtype
        tables = [self._model.get_input_embeddings(), self._model.get_output_embeddings()]
        with torch.no_grad():
            for module in tables:
                table: Any = plain_table(module)
                table.weight[model.tokens.first : model.tokens.end] = trained_rows(module)

    def get_decoder(self) -> nn.Module:
        """The decoder, adapters in place; it is called with embeddings."""
        decoder: nn.Module = self._model.get_decoder()
        return decoder

    def get_input_embeddings(self) -> nn.Module:
        """The input's table."""
        return plain_table(self._model.get_input_embeddings())

    def get_output_embeddings(self) -> nn.Module:
        """The output's table."""
        return plain_table(self._model.get_output_embeddings())

    def to(self, device: torch.device) -> PlainView:
        """Itself; the model is where it trains."""
        return self

    def eval(self) -> PlainView:
        """Itself, dropout off."""
        self._model.eval()
        return self


def new_code_model(
    settings: ModelSettings,
    tokens: CodeTokens,
    texts: Sequence[Sequence[int]],
    codes: np.ndarray,
    dropout: float,
    history_layer: bool = False,
) -> tuple[CodeModel, str]:
    """An untrained model and the fingerprint of its base; rows start as `code_rows` says.

    `texts` are the ids of each item's words, `codes` int [items, levels]. What is random is drawn from
    torch's generator. With `history_layer` there is a layer more behind those of the base, which adds nothing
    yet (`model.history_layer`). Raises `LlmrecError` for a base model that cannot learn codes.
    """
    base = load_backbone(settings.name, layers=settings.layers, random=settings.random)
    mark = fingerprint(base)
    if history_layer:
        append_history_layer(base)
    make_room(base, tokens)
    tables = [base.get_input_embeddings().weight.detach()]
    if not tied(base):
        tables.append(base.get_output_embeddings().weight.detach())
    rows = [code_rows(table.float(), texts, codes, tokens) for table in tables]
    set_rows(base, tokens, rows[0], rows[-1])
    return CodeModel(adapt_for_codes(base, settings.adapter, tokens), tokens, dropout), mark
