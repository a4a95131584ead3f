"""Histories and their prompts as tokens to be written: which token of a pass trains which task.

The layout is that of `tune.collate`: the head of a history once, tails behind cut points that see the head
up to there and themselves. A tail here ends with the codes of its target, and the codes in the head train as
they are read, so that one pass over a history of n items writes n items, as often again as it has tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.model.code_tokens import CodePrompts
from llmrec.tune.code_settings import HISTORY, NEXT, WISH
from llmrec.tune.collate import Example, lay_out
from llmrec.tune.examples import ExampleBuilder


class CodeExampleBuilder(ExampleBuilder):
    """Examples whose items are several tokens each: an item stands where its last code does."""

    def _item_positions(self, head: list[int]) -> list[int]:
        assert isinstance(self.tokens, CodePrompts)
        low, high = self.tokens.tokens.starts[-2:]
        return [at for at, token in enumerate(head) if low <= token < high]


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens behind `cut` tokens of a head; token k trains task `tasks[k]`, none where it is -1."""

    cut: int
    ids: Sequence[int]
    tasks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Passage:
    """A head (cut 0) and the runs behind it."""

    head: Run
    tails: Sequence[Run]


def answer(cut: int, prompt: Sequence[int], written: Sequence[int], task: int) -> Run:
    """A run that is given `prompt` and writes `written`; what nothing stands before does not train."""
    tasks = [-1] * len(prompt) + [task] * len(written)
    if cut == 0 and tasks:
        tasks[0] = -1
    return Run(cut, [*prompt, *written], tasks)


def passage(
    example: Example, sequences: np.ndarray, heads: bool = True, extra: Sequence[Run] = ()
) -> Passage:
    """An example of `CodeExampleBuilder` with the codes of its targets; `sequences` int [items, levels].

    `extra` are runs more. Without `heads` the head trains nothing: where items are written as words and codes
    both, the words would give the codes away.
    """
    width = sequences.shape[1]
    tasks = np.full(len(example.head), -1)
    tails = []
    if heads and example.item_at:
        for end in example.item_at[1:]:
            tasks[end - width + 1 : end + 1] = HISTORY
        if example.next_item[-1] >= 0:  # what came after all of the head
            tails.append(answer(len(example.head), (), sequences[example.next_item[-1]].tolist(), HISTORY))
    for tail in example.tails:
        task = WISH if tail.goal else NEXT
        tails.append(answer(tail.cut, tail.ids, sequences[tail.target].tolist(), task))
    return Passage(Run(0, example.head, tasks.tolist()), [*tails, *extra])


@dataclass(slots=True)
class CodeBatch:
    """Tensors of one step; places are numbered over the flattened [batch * length] states.

    ids, positions int64 [batch, length]; visible bool [batch, length, length]. rows int64 [n]: the state that
    writes a token; targets int64 [n]: the token; tasks int64 [n]: what it trains. `tokens` counts real ones.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    rows: Tensor
    targets: Tensor
    tasks: Tensor
    tokens: int

    @property
    def places(self) -> int:
        """Tokens that the rows hold, padding included."""
        return self.ids.numel()

    def to(self, device: torch.device) -> CodeBatch:
        """Copy to a device."""
        moved: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=True)
        return CodeBatch(**moved)


def collate_passages(passages: Sequence[Passage], pack: bool = False) -> CodeBatch:
    """Pad and mask passages; with `pack` several may share a row."""
    layout = lay_out([(each.head.ids, [(run.cut, run.ids) for run in each.tails]) for each in passages], pack)
    rows, targets, tasks = [], [], []
    for each, start in zip(passages, layout.starts, strict=True):
        begin = start
        for run in (each.head, *each.tails):
            own = np.asarray(run.tasks, dtype=np.int64)
            trained = np.flatnonzero(own >= 0)
            before = begin + trained - 1
            before[trained == 0] = start + run.cut - 1
            rows.append(before)
            targets.append(np.asarray(run.ids, dtype=np.int64)[trained])
            tasks.append(own[trained])
            begin += len(run.ids)
    return CodeBatch(
        torch.from_numpy(layout.ids),
        torch.from_numpy(layout.positions),
        torch.from_numpy(layout.visible),
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.concatenate(tasks)),
        sum(len(run.ids) for each in passages for run in (each.head, *each.tails)),
    )
