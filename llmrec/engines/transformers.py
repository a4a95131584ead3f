"""The engine that runs everywhere: transformers, on the CPU or one GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmrec.device import device_of
from llmrec.engines.contract import Branching, check_inside
from llmrec.engines.tree import TreeContinuations
from llmrec.model.attention import attention_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS = 8192
"""Tokens of a batch, padding included, at most (one prompt may be longer)."""
_TAIL_TOKENS = 1024
"""Tokens of tails that share one computation of their head, at most (one tail may be longer).

A tail is compared with all the others only to be told that it must not look at them, which costs little
while they are few.
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """Some tails of a branching, to be packed behind its head."""

    branching: int
    head: Sequence[int]
    numbers: range
    tails: Sequence[Sequence[int]]

    @property
    def length(self) -> int:
        return len(self.head) + sum(map(len, self.tails))


class TransformersEngine:
    """A plain causal language model and the embeddings of the ids beyond its tokenizer's."""

    def __init__(
        self,
        model: PreTrainedModel,
        new_rows: Callable[[Tensor], Tensor] | None = None,
        base: int = sys.maxsize,
        device: str = "auto",
    ) -> None:
        """`device` as for `device_of`; `new_rows` gives the embeddings [n, hidden] of the ids `base + r`.

        It is given r, int64 [n], on the CPU. Ids below `base` are looked up in the model, by default all.
        See `model.new_rows`.
        """
        self.device = torch.device(device_of(device))
        self.model = model.to(self.device).eval()
        self.new_rows = new_rows
        self.base = base

    @torch.inference_mode()
    def begin(self, prompts: Sequence[Sequence[int]]) -> TreeContinuations:
        """Start to continue prompts by the model's own tokens (see `decode.continuations`)."""
        lengths = [len(prompt) for prompt in prompts]
        return TreeContinuations(self.model, self._embed, prompts, _batches(lengths))

    def hidden_states(self, prompts: Sequence[Sequence[int]], at: np.ndarray) -> np.ndarray:
        """States after the final norm at the tokens `at` int [prompts, p], float32 [prompts, p, hidden]."""
        lengths = [len(prompt) for prompt in prompts]
        check_inside(at, lengths)
        found = np.empty((len(prompts), at.shape[1], self._width), dtype=np.float32)
        for rows in _batches(lengths):
            found[rows] = self._run([prompts[row] for row in rows], at[rows])
        return found

    def branch_states(self, branchings: Sequence[Branching], at: Sequence[np.ndarray]) -> list[np.ndarray]:
        """States of prompts that share heads, float32 [tails, p, hidden] for each branching.

        A head and its tails go through the model in one pass, as in training (`tune.collate`): on two
        cores that was as fast as keeping keys and values of the head or faster (benchmarks/README.md).
        """
        found: list[np.ndarray] = []
        packed: list[_Row] = []
        plain: list[_Row] = []
        for number, (branching, wanted) in enumerate(zip(branchings, at, strict=True)):
            check_inside(wanted, [len(branching.head) + len(tail) for tail in branching.tails])
            found.append(np.empty((*wanted.shape, self._width), dtype=np.float32))
            for row in _rows_of(number, branching):
                (packed if len(row.tails) > 1 else plain).append(row)
        for batch in _batches([row.length for row in packed]):
            rows = [packed[each] for each in batch]
            states = self._run_packed(rows, [at[row.branching][row.numbers] for row in rows])
            for row, some in zip(rows, states, strict=True):
                found[row.branching][row.numbers] = some
        # What shares its head with nothing needs no pattern of its own.
        for width in sorted({at[row.branching].shape[1] for row in plain}):
            rows = [row for row in plain if at[row.branching].shape[1] == width]
            prompts = [[*row.head, *row.tails[0]] for row in rows]
            wanted = np.concatenate([at[row.branching][row.numbers] for row in rows])
            for row, one in zip(rows, self.hidden_states(prompts, wanted), strict=True):
                found[row.branching][row.numbers] = one
        return found

    @property
    def _width(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @torch.inference_mode()
    def _run(self, prompts: list[Sequence[int]], at: np.ndarray) -> np.ndarray:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros((len(prompts), longest), dtype=torch.int64)
        real = torch.zeros((len(prompts), longest), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.as_tensor(prompt)
            real[row, : len(prompt)] = 1
        # Padding stands behind the prompt, where causal attention never looks.
        output = self.model.get_decoder()(
            inputs_embeds=self._embed(ids),
            attention_mask=real.to(self.device),
            use_cache=False,
        )
        rows = torch.arange(len(prompts), device=self.device)[:, None]
        states = output.last_hidden_state[rows, torch.as_tensor(at, device=self.device)]
        result: np.ndarray = states.float().cpu().numpy()
        return result

    @torch.inference_mode()
    def _run_packed(self, rows: Sequence[_Row], at: Sequence[np.ndarray]) -> list[np.ndarray]:
        """States at `at`, int [tails, p] in the whole prompts of each row: [tails, p, hidden] each."""
        ids, positions, visible, places = _pack(rows, at)
        positions, visible = positions.to(self.device), visible.to(self.device)
        output = self.model.get_decoder()(
            inputs_embeds=self._embed(ids),
            position_ids=positions,
            use_cache=False,
            **attention_inputs(self.model, visible, positions),
        )
        states = output.last_hidden_state
        return [
            states[number, torch.as_tensor(place, device=self.device)].float().cpu().numpy()
            for number, place in enumerate(places)
        ]

    def _embed(self, ids: Tensor) -> Tensor:
        """Embeddings [..., hidden], on the model's device, of `ids` int64 [...] on the CPU."""
        is_new = ids >= self.base
        embedded: Tensor = self.model.get_input_embeddings()(torch.where(is_new, 0, ids).to(self.device))
        if self.new_rows is None:
            return embedded
        embedded[is_new.to(self.device)] = self.new_rows(ids[is_new] - self.base).to(embedded)
        return embedded


def _causal(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def _pack(rows: Sequence[_Row], at: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor, list[np.ndarray]]:
    """One sequence a row: ids and positions [rows, length], visible [rows, length, length], places of `at`.

    A tail sees the head and itself, and its positions go on from the head's.
    """
    length = max(row.length for row in rows)
    ids = torch.zeros((len(rows), length), dtype=torch.int64)
    positions = torch.zeros((len(rows), length), dtype=torch.int64)
    visible = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself
    places = []
    for number, (row, wanted) in enumerate(zip(rows, at, strict=True)):
        head = start = len(row.head)
        ids[number, :head] = torch.as_tensor(row.head)
        positions[number, :head] = torch.arange(head)
        visible[number, :head, :head] = _causal(head)
        place = np.array(wanted)
        for own, tail in zip(place, row.tails, strict=True):
            own[own >= head] += start - head
            end = start + len(tail)
            ids[number, start:end] = torch.as_tensor(tail)
            positions[number, start:end] = torch.arange(head, head + len(tail))
            visible[number, start:end, :head] = True
            visible[number, start:end, start:end] = _causal(len(tail))
            start = end
        places.append(place)
    return ids, positions, visible, places


def _rows_of(number: int, branching: Branching) -> Iterator[_Row]:
    """The branching as rows of at most `_TAIL_TOKENS` tokens of tails."""
    start, tokens = 0, 0
    for end, tail in enumerate(branching.tails):
        if end > start and tokens + len(tail) > _TAIL_TOKENS:
            yield _Row(number, branching.head, range(start, end), branching.tails[start:end])
            start, tokens = end, 0
        tokens += len(tail)
    if branching.tails:
        yield _Row(number, branching.head, range(start, len(branching.tails)), branching.tails[start:])


def _batches(lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Rows int64 [n] that go through the model together, alike in length, at most `_TOKENS` padded."""
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and lengths[order[end]] * (end + 1 - start) <= _TOKENS:
            end += 1
        yield order[start:end]
        start = end
