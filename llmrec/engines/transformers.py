"""The engine that runs everywhere: transformers, on the CPU or one GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS = 8192
"""Tokens of a batch, padding included, at most (one prompt may be longer)."""


class TransformersEngine:
    """A plain causal language model and the embeddings of the ids beyond its tokenizer's."""

    def __init__(self, model: PreTrainedModel, new_rows: Tensor, base: int, device: str = "cpu") -> None:
        """Row r of `new_rows` [ids, hidden] is the embedding of id `base + r`; ids below are looked up."""
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.new_rows = new_rows.detach().to(self.device, model.dtype)
        self.base = base

    @torch.inference_mode()
    def hidden_states(self, prompts: Sequence[Sequence[int]], at: np.ndarray) -> np.ndarray:
        """States after the final norm at the tokens `at` int [prompts, p], float32 [prompts, p, hidden]."""
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        if len(prompts) and (at.min() < 0 or (at >= lengths[:, None]).any()):
            raise ValueError("a state is asked for outside its prompt")
        width = self.model.config.get_text_config().hidden_size
        found = np.empty((len(prompts), at.shape[1], width), dtype=np.float32)
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and int(lengths[order[end]]) * (end + 1 - start) <= _TOKENS:
                end += 1
            rows = order[start:end]
            found[rows] = self._run([prompts[row] for row in rows], at[rows])
            start = end
        return found

    def _run(self, prompts: list[Sequence[int]], at: np.ndarray) -> np.ndarray:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros((len(prompts), longest), dtype=torch.int64)
        real = torch.zeros((len(prompts), longest), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.as_tensor(prompt)
            real[row, : len(prompt)] = 1
        # Padding stands behind the prompt, where causal attention never looks.
        output = self.model.get_decoder()(
            inputs_embeds=self._embed(ids.to(self.device)),
            attention_mask=real.to(self.device),
            use_cache=False,
        )
        rows = torch.arange(len(prompts), device=self.device)[:, None]
        states = output.last_hidden_state[rows, torch.as_tensor(at, device=self.device)]
        result: np.ndarray = states.float().cpu().numpy()
        return result

    def _embed(self, ids: Tensor) -> Tensor:
        is_word = ids < self.base
        words: Tensor = self.model.get_input_embeddings()(torch.where(is_word, ids, 0))
        new = self.new_rows[torch.where(is_word, 0, ids - self.base)]
        return torch.where(is_word[..., None], words, new)
