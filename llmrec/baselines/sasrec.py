"""SASRec (Kang and McAuley 2018) with a softmax over the whole catalogue: the baseline that counts.

Departures from the paper, all of which help it: the loss is cross-entropy over all items rather than one
sampled negative (Klenitskiy and Vasilev 2023), blocks normalise before each part, the feed-forward layer
is four times as wide, and a start token stands before the history, so that an empty one has an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from llmrec.data.catalog import Catalog
from llmrec.decode.contract import Request
from llmrec.errors import LlmrecError
from llmrec.files import replace_file
from llmrec.retrieve.scoring import ScoringRecommender

_SCORED = 64
"""Histories scored in one pass; they are sorted by length, so that little is padding."""


@dataclass(frozen=True, slots=True)
class SasrecSettings:
    """The recipe.

    Defaults: what `benchmarks/sasrec_search.py` found on the bundled sample, without weight decay: with it
    larger sets, whose epochs have more steps, learn hardly anything.

    `width` is the size of item embeddings and states; `length` the last events that are read; `dropout`
    is on embeddings, attention and feed-forward; `label_smoothing` spreads that share of the target over
    all items; `batch_users` 0 means a hundredth of the users, 32 to 128; `shuffle_ties` puts events of equal
    time in random order in each epoch; training stops after `patience` epochs without a better validation
    ndcg@10, or after `epochs`.
    """

    width: int = 64
    blocks: int = 1
    heads: int = 1
    length: int = 100
    dropout: float = 0.5
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    batch_users: int = 0
    epochs: int = 300
    patience: int = 12
    shuffle_ties: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise LlmrecError(f"sasrec: width {self.width} is not a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1 or min(self.width, self.blocks, self.length, self.epochs) < 1:
            raise LlmrecError(f"sasrec: impossible settings {self}")


class _Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each normalised before and added after."""

    def __init__(self, settings: SasrecSettings) -> None:
        super().__init__()
        width = settings.width
        self.heads = settings.heads
        self.rate = settings.dropout
        self.before_attention = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.before_forward = nn.LayerNorm(width)
        self.forward_layer = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(self.rate), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(self.rate)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """States [batch, length, width] to states of the same shape."""
        batch, length, width = state.shape
        parts = self.project(self.before_attention(state))
        query, key, value = parts.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.rate if self.training else 0.0
        )
        state = state + self.drop(self.merge(mixed.transpose(1, 2).reshape(batch, length, width)))
        out: torch.Tensor = state + self.drop(self.forward_layer(self.before_forward(state)))
        return out


class SasrecNetwork(nn.Module):
    """The states of a history; items are told apart by the inner product with their embeddings (tied).

    Rows of the item table: 0 to items - 1 the catalogue, `items` the start token.
    """

    def __init__(self, items: int, settings: SasrecSettings) -> None:
        super().__init__()
        self.items = items
        self.table = nn.Embedding(items + 1, settings.width)
        self.places = nn.Embedding(settings.length + 1, settings.width)
        self.bias = nn.Parameter(torch.zeros(items))
        self.drop = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(_Block(settings) for _ in range(settings.blocks))
        self.last = nn.LayerNorm(settings.width)
        for part in (self.table, self.places):
            nn.init.normal_(part.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Rows of the item table, int64 [batch, length], padded on the right; states [batch, length, width].

        Padding needs no mask: attention looks back only.
        """
        places = torch.arange(tokens.shape[1], device=tokens.device)
        state = self.drop(self.table(tokens) + self.places(places))
        for block in self.blocks:
            state = block(state)
        out: torch.Tensor = self.last(state)
        return out

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.bias.device

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Scores of the catalogue, [n, items], from states [n, width]."""
        return nn.functional.linear(states, self.table.weight[: self.items], self.bias)


def pad_right(sequences: Sequence[np.ndarray], start: int) -> torch.Tensor:
    """The start token, then each sequence, then padding (also `start`); int64 [n, longest + 1]."""
    longest = max((len(sequence) for sequence in sequences), default=0)
    tokens = np.full((len(sequences), longest + 1), start, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        tokens[row, 1 : 1 + len(sequence)] = sequence
    return torch.from_numpy(tokens)


class SASRec(ScoringRecommender):
    """A trained network on the recommender contract; see `sasrec_training.fit_sasrec`."""

    def __init__(self, catalog: Catalog, network: SasrecNetwork, settings: SasrecSettings) -> None:
        super().__init__("sasrec", catalog)
        if network.items != len(catalog):
            raise LlmrecError(f"sasrec was fitted to {network.items:,} items, not to {len(catalog):,}")
        self.network = network.eval()
        self.settings = settings
        self.setting = f"width {settings.width}, blocks {settings.blocks}, dropout {settings.dropout:g}"

    def score(self, requests: Sequence[Request]) -> np.ndarray:
        """Scores of all items, float32 [requests, items]."""
        length = self.settings.length
        sequences = [np.array([event.item for event in each.history[-length:]]) for each in requests]
        return self.score_sequences(sequences)

    def score_sequences(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """Scores after histories given as item indices, each of at most `settings.length`."""
        scores = np.empty((len(sequences), self.network.items), dtype=np.float32)
        order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
        for start in range(0, len(order), _SCORED):
            rows = order[start : start + _SCORED]
            part = [sequences[row] for row in rows]
            last = torch.tensor([len(sequence) for sequence in part])
            with torch.inference_mode():
                states = self.network(pad_right(part, self.network.items).to(self.network.device))
                found = self.network.logits(states[torch.arange(len(part)), last])
                scores[rows] = found.cpu().numpy()
        return scores

    def save(self, path: Path) -> None:
        """Write weights and settings to one safetensors file."""
        weights = {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        with replace_file(path) as temporary:
            save_file(weights, temporary, {"settings": json.dumps(asdict(self.settings))})

    @classmethod
    def load(cls, path: Path, catalog: Catalog) -> SASRec:
        """Read what `save` wrote; raises `LlmrecError` when it is of another catalogue or damaged."""
        try:
            with safe_open(path, framework="pt") as file:
                settings = SasrecSettings(**json.loads(file.metadata()["settings"]))
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            network = SasrecNetwork(len(weights["bias"]), settings)
            network.load_state_dict(weights)
        except FileNotFoundError as error:
            raise LlmrecError(f"{path} is missing: fit sasrec again") from error
        except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
            raise LlmrecError(f"{path} is not a sasrec model of this version: fit it again") from error
        except Exception as error:
            if type(error).__name__ != "SafetensorError":
                raise
            raise LlmrecError(f"{path} is damaged: fit sasrec again") from error
        return cls(catalog, network, settings)
