"""Training a small decoder on the states of a language model that stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmrec.model.small_decoder import SmallDecoder


@dataclass(frozen=True, slots=True)
class ReadHistories:
    """What a language model made of histories, and what came next.

    states: float32 [places, hidden], at the ends of items. windows: int64 [n, states], the places that a
    target may look at, the newest last, -1 for none. codes: int64 [n, levels], those of the targets.
    """

    states: Tensor
    windows: Tensor
    codes: Tensor

    def __len__(self) -> int:
        return len(self.windows)


def windows_of(lengths: np.ndarray, count: int) -> np.ndarray:
    """Windows int64 [sum of lengths, count] over histories whose places follow each other, one a place.

    A window ends at its place and stays inside its history; -1 stands for what would lie before.
    """
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = np.arange(len(starts))[:, None] + np.arange(1 - count, 1)
    found: np.ndarray = np.where(places >= starts[:, None], places, -1)
    return found


def code_loss(decoder: SmallDecoder, read: ReadHistories, rows: Tensor) -> Tensor:
    """Mean loss of the codes of some targets, int64 [n]: the sum over levels."""
    windows, codes = read.windows[rows], read.codes[rows]
    seen = decoder.read(read.states[windows.clamp(min=0)])
    outputs = decoder(seen, windows >= 0, codes[:, :-1])
    losses = [
        functional.cross_entropy(decoder.logits(outputs[:, level], level), codes[:, level])
        for level in range(codes.shape[1])
    ]
    return torch.stack(losses).sum()


def train_small_decoder(
    decoder: SmallDecoder,
    train: ReadHistories,
    valid: ReadHistories,
    epochs: int = 10,
    batch: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
    advance: Callable[[int, float], None] | None = None,
) -> float:
    """Train `decoder` in place and leave it with the weights of the epoch that validated best.

    Returns that epoch's loss on `valid`; `advance` is told each epoch and its loss. The rate falls as a
    cosine.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(decoder.parameters(), learning_rate, weight_decay=0.05)
    steps = epochs * -(-len(train) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, kept = float("inf"), copy.deepcopy(decoder.state_dict())
    for epoch in range(epochs):
        decoder.train()
        for rows in torch.split(torch.randperm(len(train), generator=generator), batch):
            optimizer.zero_grad()
            torch.autograd.backward(code_loss(decoder, train, rows))
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        decoder.eval()
        with torch.no_grad():
            parts = torch.split(torch.arange(len(valid)), 4 * batch)
            total = sum(code_loss(decoder, valid, rows).item() * len(rows) for rows in parts)
        loss = total / len(valid)
        if advance is not None:
            advance(epoch + 1, loss)
        if loss < best:
            best, kept = loss, copy.deepcopy(decoder.state_dict())
    decoder.load_state_dict(kept)
    decoder.eval()
    return best
