"""A small decoder that writes codes from what a language model read, without running that model again.

The language model reads a prompt once. A few layers look at its states at the newest items of the history and
write the codes of the next item, one a step: what a step costs does not depend on the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from llmrec.errors import LlmrecError
from llmrec.model.code_tokens import CodeTokens


@dataclass(frozen=True, slots=True)
class SmallDecoderSettings:
    """The shape: `states` of a prompt that are read, `layers` of `width` with `heads`."""

    states: int = 4
    width: int = 192
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("states", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise LlmrecError(f"small decoder: {name} is {getattr(self, name)}, it must be at least 1")
        if self.width % self.heads:
            raise LlmrecError(f"small decoder: width {self.width} does not part into {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise LlmrecError(f"small decoder: dropout is {self.dropout}, it must be from 0 to below 1")


class SmallDecoder(nn.Module):
    """A transformer over the codes written so far, which looks at a few states of a language model."""

    def __init__(self, hidden: int, sizes: Sequence[int], settings: SmallDecoderSettings) -> None:
        """`hidden` is the width of the states, `sizes` the number of codes of each level."""
        super().__init__()
        self.sizes, self.settings = tuple(sizes), settings
        self._starts = np.cumsum([0, *self.sizes]).tolist()
        width, dropout = settings.width, settings.dropout
        self.inward = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, width))
        self.places = nn.Parameter(0.02 * torch.randn(settings.states, width))
        self.codes = nn.Embedding(self._starts[-1] + 1, width)  # the last is what stands before all codes
        layer = nn.TransformerDecoderLayer(
            width, settings.heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, settings.layers, nn.LayerNorm(width))
        self.outward = nn.Linear(width, self._starts[-1])

    def read(self, states: Tensor) -> Tensor:
        """States of a language model [n, states, hidden] as the layers look at them, [n, states, width]."""
        seen: Tensor = self.inward(states) + self.places
        return seen

    def forward(self, seen: Tensor, real: Tensor, codes: Tensor) -> Tensor:
        """Outputs [n, l + 1, width] after nothing, the first code, ..., all of `codes` int64 [n, l].

        `seen` comes from `read`; bool [n, states] `real` says which of the states there are, at least one.
        """
        starts = torch.tensor(self._starts[: codes.shape[1]], dtype=torch.int64, device=codes.device)
        first = codes.new_full((len(codes), 1), self._starts[-1])
        embedded = self.codes(torch.cat([first, codes + starts], dim=1))
        length = embedded.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=codes.device).triu(1)
        written: Tensor = self.layers(embedded, seen, tgt_mask=later, memory_key_padding_mask=~real)
        return written

    def logits(self, outputs: Tensor, level: int) -> Tensor:
        """Logits [n, codes of the level] of what comes after outputs [n, width] of that level."""
        own = slice(self._starts[level], self._starts[level + 1])
        return nn.functional.linear(outputs, self.outward.weight[own], self.outward.bias[own])


def item_ends(
    prompts: Sequence[Sequence[int]], tokens: CodeTokens, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the newest `count` items of each prompt end, int64 [prompts, count], the newest last.

    Where there are fewer, the places before them are 0 and false in the second array, bool [prompts, count];
    without any item the last token of the prompt stands for one.
    """
    low, high = tokens.starts[-2:]
    at = np.zeros((len(prompts), count), dtype=np.int64)
    real = np.zeros((len(prompts), count), dtype=bool)
    for row, prompt in enumerate(prompts):
        ids = np.asarray(prompt)
        ends = np.flatnonzero((ids >= low) & (ids < high))[-count:]
        if not len(ends):
            ends = np.array([len(ids) - 1])
        at[row, count - len(ends) :] = ends
        real[row, count - len(ends) :] = True
    return at, real
