"""Training SASRec: every position of every history predicts the next item; best validation epoch kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from llmrec.baselines.choose import Validation, validation_ndcg
from llmrec.baselines.sasrec import SASRec, SasrecNetwork, SasrecSettings, pad_right
from llmrec.data.catalog import Catalog
from llmrec.data.events import Histories
from llmrec.device import device_of
from llmrec.errors import DataError

_LOGITS = 1 << 25
"""Logits held at a time (128 MiB of float32): larger batches are taken in parts, gradients summed."""
_WARMUP = 100
"""Steps over which the learning rate rises from zero."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What happened in one epoch; `ndcg` is validation ndcg@10, None without validation."""

    number: int
    loss: float
    ndcg: float | None


def _shuffle_ties(items: np.ndarray, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The items in order of time, those of equal time in random order."""
    # Ranks of the runs of equal time, not the times: a history's own order counts, even if times jump back.
    runs = np.cumsum(np.diff(times, prepend=times[:1]) != 0)
    shuffled: np.ndarray = items[np.lexsort((rng.random(len(items)), runs))]
    return shuffled


def _epoch_sequences(
    train: Histories, settings: SasrecSettings, rng: np.random.Generator
) -> list[np.ndarray]:
    """One window of at most length + 1 events of each user, at a random place where the history is longer."""
    sequences = []
    for user in range(len(train)):
        start, end = int(train.offsets[user]), int(train.offsets[user + 1])
        if start == end:
            continue
        items = train.items[start:end].astype(np.int64)
        if settings.shuffle_ties:
            items = _shuffle_ties(items, train.times[start:end], rng)
        spare = max(0, len(items) - settings.length - 1)
        first = int(rng.integers(spare + 1)) if spare else 0
        sequences.append(items[first : first + settings.length + 1])
    return sequences


def _batches(
    sequences: list[np.ndarray], settings: SasrecSettings, rng: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Batches of users in random order, each of sequences of similar length, so that little is padding."""
    lengths = np.array([len(sequence) for sequence in sequences])
    size = settings.batch_users or min(128, max(32, len(sequences) // 100))
    # Jitter keeps the company of a user changing from epoch to epoch.
    order = np.argsort(lengths * rng.uniform(0.7, 1.3, len(lengths)), kind="stable")
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    for group in rng.permutation(len(groups)):
        yield [sequences[row] for row in groups[group]]


def _step(
    network: SasrecNetwork, batch: list[np.ndarray], settings: SasrecSettings, backward: bool = True
) -> float:
    """Add the gradient of the batch's mean loss; returns that loss."""
    positions = sum(len(sequence) for sequence in batch)
    longest = max(len(sequence) for sequence in batch)
    users = max(1, _LOGITS // (longest * network.items))
    total = torch.zeros((), device=network.device)
    for start in range(0, len(batch), users):
        part = batch[start : start + users]
        lengths = torch.tensor([len(sequence) for sequence in part])
        targets = pad_right(part, network.items)[:, 1:]
        real = torch.arange(targets.shape[1]) < lengths[:, None]
        targets = targets[real].to(network.device)
        given = pad_right([sequence[:-1] for sequence in part], network.items).to(network.device)
        states = network(given)[real.to(network.device)]
        loss = nn.functional.cross_entropy(
            network.logits(states),
            targets,
            reduction="sum",
            label_smoothing=settings.label_smoothing,
        )
        loss = loss / positions
        if backward:
            torch.autograd.backward(loss)
        total += loss.detach()
    return float(total)


def _optimizer(network: nn.Module, settings: SasrecSettings) -> torch.optim.AdamW:
    """AdamW; decay acts on matrices alone, not on biases and norms."""
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    vectors = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))


def fit_sasrec(
    train: Histories,
    catalog: Catalog,
    settings: SasrecSettings | None = None,
    validation: Validation | None = None,
    seed: int = 0,
    progress: Callable[[Epoch], None] | None = None,
) -> SASRec:
    """Train on `train`; with `validation`, keep the epoch of the best ndcg@10 and stop early.

    Trains on the GPU where there is one.
    The same seed gives the same model on the same machine. `progress` is called after each epoch.
    Raises `DataError` when there are no events to learn from.
    """
    settings = settings or SasrecSettings()
    if len(train.items) == 0:
        raise DataError("sasrec: the train fold has no events to learn from")
    rng = np.random.default_rng(seed)
    device = torch.device(device_of())
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        network = SasrecNetwork(len(catalog), settings).to(device)
        model = SASRec(catalog, network, settings)
        optimizer = _optimizer(network, settings)
        best, best_epoch, kept, steps = -1.0, 0, {}, 0
        for number in range(1, settings.epochs + 1):
            network.train()
            losses = []
            for batch in _batches(_epoch_sequences(train, settings, rng), settings, rng):
                steps += 1
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * min(1.0, steps / _WARMUP)
                optimizer.zero_grad(set_to_none=True)
                losses.append(_step(network, batch, settings))
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
            network.eval()
            ndcg = validation_ndcg(model, validation) if validation else None
            if progress:
                progress(Epoch(number, float(np.mean(losses)), ndcg))
            if ndcg is not None and ndcg > best:
                best, best_epoch = ndcg, number
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            if ndcg is not None and number - best_epoch >= settings.patience:
                break
        if kept:
            network.load_state_dict(kept)
    return model
