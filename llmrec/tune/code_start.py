"""Where writing codes starts: from what the events say about each history, at how often a code is written.

A language model's states share one direction that is far longer than what tells them apart (Ethayarajh,
EMNLP 2019), above all where layers were cut off. Rows of codes that lie along it, or along the few others
in which states differ most, begin with logits that have nothing to do with items, at a loss far above that
of guessing. Here they begin beside these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from llmrec.model.code_model import CodeModel
from llmrec.model.history_layer import HistoryLayer
from llmrec.tune.passages import CodeBatch

_SCALES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
"""How much the layer may add: spreads of the logits."""
_LOUD = 64
"""Directions in which states differ most, that rows of codes leave out."""
_RIDGE = 1e-4


def level_shares(codes: np.ndarray, counts: np.ndarray, sizes: Sequence[int]) -> list[Tensor]:
    """How often each code of each level is written, float32 [codes] by level, summing to 1.

    `codes` int [items, levels], `counts` [items]: how often each item was taken. Every code counts once more
    than that, so that none has a share of 0.
    """
    found = []
    for level, size in enumerate(sizes):
        taken = 1 + np.bincount(codes[:, level], weights=counts, minlength=size)
        found.append(torch.from_numpy(taken / taken.sum()).float())
    return found


def code_vectors(vectors: np.ndarray, codes: np.ndarray, sizes: Sequence[int]) -> Tensor:
    """Vectors of codes float32 [sum of sizes, width], the sum of an item's being near its own in `vectors`.

    As residual quantisation: the vector of a code is the mean of what is left of its items' vectors by the
    codes before it.
    """
    left, found = vectors.astype(np.float32), []
    for level, size in enumerate(sizes):
        own = codes[:, level]
        sums = np.zeros((size, left.shape[1]), dtype=np.float32)
        np.add.at(sums, own, left)
        means = sums / np.maximum(1, np.bincount(own, minlength=size)).astype(np.float32)[:, None]
        left = left - means[own]
        found.append(means)
    return torch.from_numpy(np.concatenate(found))


def states_of(model: CodeModel, batch: CodeBatch) -> Tensor:
    """The states that write the targets of a batch, float32 [n, hidden]."""
    states: Tensor = model(batch.ids, batch.visible, batch.positions)
    return states.flatten(0, 1)[batch.rows].float()


@torch.no_grad()
def loss_of(model: CodeModel, batch: CodeBatch) -> float:
    """Mean loss of the codes that a batch writes."""
    states, starts, total, count = states_of(model, batch), model.tokens.starts, 0.0, 0
    for level, start in enumerate(starts[:-1]):
        own = (batch.targets >= start) & (batch.targets < starts[level + 1])
        logits = model.code_logits(states[own], level)
        total += float(functional.cross_entropy(logits, batch.targets[own] - start, reduction="sum"))
        count += int(own.sum())
    return total / max(1, count)


@torch.no_grad()
def level_rows(model: CodeModel, batch: CodeBatch, shares: Sequence[Tensor]) -> None:
    """Move the rows of codes so that the mean state before a level has the logits log `shares[level]`.

    `batch` has histories as they train. Rows move along the mean state alone, so that what tells states
    apart stays, and almost all that rows say at the input, where one table serves both. A level that nothing
    in the batch writes stays as it is. Does nothing where the model caps its logits: there they cannot run
    away.
    """
    if model.caps_logits:
        return
    states, starts = states_of(model, batch), model.tokens.starts
    for level, share in enumerate(shares):
        own = (batch.targets >= starts[level]) & (batch.targets < starts[level + 1])
        mean = states[own].mean(0)
        if not own.any() or not mean.any():
            continue
        rows = model.output_rows[starts[level] - starts[0] : starts[level + 1] - starts[0]]
        wanted = share.to(rows.device).log()
        missing = (wanted - rows.float() @ mean) / mean.square().sum()
        rows += (missing[:, None] * mean).to(rows.dtype)


@torch.no_grad()
def start_from_events(
    model: CodeModel,
    vectors: Tensor,
    read: CodeBatch,
    asked: CodeBatch,
    shares: Sequence[Tensor],
) -> float:
    """Write the history layer of `model` and the rows of its codes; returns the loss on `asked` then.

    `vectors` float32 [codes, width] are those of `code_vectors`, `width` at most the layer's; `read` has
    histories as they train, `asked` questions whose answers the vectors do not know: they choose how much
    vectors count. `shares` as in `level_rows`.
    """
    layer = HistoryLayer(model.language_model)
    vectors = functional.pad(vectors, (0, layer.width - vectors.shape[1])).to(model.rows)
    states = states_of(model, read)
    quiet, loud = _directions(states, layer.width)
    codes = len(vectors)
    for rows in {id(each): each for each in (model.rows, model.output_rows)}.values():
        words = rows[:codes].float()
        size = words.norm(dim=1).mean()
        for basis in (quiet, loud):
            words = words - (words @ basis) @ basis.T
        scaled = vectors * (size / vectors[: model.tokens.sizes[0]].norm(dim=1).mean().clamp(min=1e-9))
        rows[:codes] = (words + scaled @ quiet.T).to(rows.dtype)
    before = _layer_inputs(model, layer, read)
    tokens = read.ids.flatten()
    own = tokens - model.tokens.first
    is_code = (own >= 0) & (own < codes)
    wanted = torch.where(is_code[:, None], scaled[own.clamp(0, codes - 1)], 0.0)
    kinds = torch.stack([torch.ones_like(wanted[:, 0]), 2.0 * is_code - 1], 1)
    solved = _ridge(before, torch.cat([kinds, wanted], 1))  # padding counts as a word
    longest = int(read.positions.max()) + 1
    layer.write_looks(solved[:, 0], solved[:, 1], longest, len(model.tokens.sizes))
    layer.write_values(solved[:, 2:].T)
    return _scaled(model, layer, quiet, scaled, (read, asked), shares)


def _scaled(
    model: CodeModel,
    layer: HistoryLayer,
    quiet: Tensor,
    vectors: Tensor,
    batches: tuple[CodeBatch, CodeBatch],
    shares: Sequence[Tensor],
) -> float:
    """Try how much the layer adds and keep what suits questions best; returns their loss.

    More of it ranks items better at first, but makes the model too sure: on Amazon Beauty it had learnt less
    after an epoch, with smaller gains of the last norm too.
    """
    read, asked = batches
    decoder: Any = model.language_model.get_decoder()
    gains = decoder.norm.weight.data.float()[:, None] * quiet
    # What is added, times the gains of the last norm, times rows, shall be a product of vectors.
    output = gains @ torch.linalg.inv(gains.T @ gains)
    layer.write_output(output)
    first = vectors[: model.tokens.sizes[0]]
    unit = float(((states_of(model, read) @ quiet) @ first.T).std(1).mean().clamp(min=1e-9))
    tables = list({id(each): each.data for each in (model.rows, model.output_rows)}.values())
    rows = [table.clone() for table in tables]

    def write(scale: float) -> float:
        for table, before in zip(tables, rows, strict=True):
            table.copy_(before)
        layer.write_output(output * (scale / unit))
        level_rows(model, read, shares)
        return loss_of(model, asked)

    return write(min(_SCALES, key=write))


def _directions(states: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Orthonormal directions [hidden, width] in which states differ least, and those in which most."""
    centered = states - states.mean(0)
    _, found = torch.linalg.eigh(centered.T @ centered / len(states))
    loud = min(_LOUD, max(0, found.shape[1] - width))
    return found[:, :width], found[:, found.shape[1] - loud :]


def _layer_inputs(model: CodeModel, layer: HistoryLayer, batch: CodeBatch) -> Tensor:
    """What the layer's maps read, float32 [batch * length, hidden]."""
    kept: list[Tensor] = []
    norm = layer.layer.input_layernorm
    hook = norm.register_forward_hook(lambda _module, _given, out: kept.append(out.flatten(0, 1).float()))
    try:
        model(batch.ids, batch.visible, batch.positions)
    finally:
        hook.remove()
    return kept[0]


def _ridge(given: Tensor, wanted: Tensor) -> Tensor:
    """Least squares [hidden, n] of `wanted` [tokens, n] on `given` [tokens, hidden], slightly damped."""
    squares = given.T @ given
    damping = _RIDGE * squares.diagonal().mean()
    damped = squares + damping * torch.eye(len(squares)).to(squares)
    found: Tensor = torch.linalg.solve(damped, given.T @ wanted)
    return found
