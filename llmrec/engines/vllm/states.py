"""Hidden states with vLLM: its pooling runner gives the states of what it computed, heads from its cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm import PoolingParams
from vllm.config import PoolerConfig

from llmrec.engines.contract import Branching, check_inside
from llmrec.engines.vllm.running import Running
from llmrec.errors import LlmrecError

_TOGETHER = 1 << 16
"""Tokens of prompts that are handed over at a time, at most (one branching may be longer)."""

Place = tuple[int, int, int]
"""A token: the number of its branching, of its tail (-1 in the head, which all tails share), its position."""


class VllmStates:
    """A plain language model in vLLM that is read and does not write (`engines.contract.Engine`)."""

    def __init__(
        self,
        checkpoint: Path | Running,
        new_rows: Callable[[Tensor], Tensor] | None = None,
        base: int = sys.maxsize,
        **settings: Any,
    ) -> None:
        """`checkpoint` is a directory, or the model of one that runs already as it would be started here.

        `new_rows` gives the embeddings [n, hidden] of the ids `base + r` for r int64 [n], on the CPU.

        Without it all ids are rows of the checkpoint. `settings` as for `running.Running`.
        """
        self._new_rows, self._base = new_rows, base
        if not isinstance(checkpoint, Running):
            checkpoint = Running(
                checkpoint,
                runner="pooling",
                pooler_config=PoolerConfig(use_activation=False),
                enable_prompt_embeds=new_rows is not None,
                **settings,
            )
        self.running = checkpoint

    def hidden_states(self, prompts: Sequence[Sequence[int]], at: np.ndarray) -> np.ndarray:
        """States after the final norm at the tokens `at` int [prompts, p], float32 [prompts, p, hidden]."""
        found = np.empty((*at.shape, self.running.width), dtype=np.float32)
        branchings = [Branching(prompt, [()]) for prompt in prompts]
        for row, states in enumerate(self.branch_states(branchings, list(at[:, None]))):
            found[row] = states[0]
        return found

    def branch_states(self, branchings: Sequence[Branching], at: Sequence[np.ndarray]) -> list[np.ndarray]:
        """States of prompts that share heads, float32 [tails, p, hidden] for each branching.

        Raises `LlmrecError` for a prompt that is longer than the model's context.
        """
        for branching, wanted in zip(branchings, at, strict=True):
            check_inside(wanted, [len(branching.head) + len(tail) for tail in branching.tails])
            longest = len(branching.head) + max(map(len, branching.tails), default=0)
            if longest > self.running.longest:
                raise LlmrecError(
                    f"a prompt has {longest:,} tokens, the model takes {self.running.longest:,}: "
                    "show it fewer events (max_events)"
                )
        found: list[np.ndarray] = []
        for part in _parts(branchings):
            own, wanted_there = branchings[part], at[part]
            with self.running.alone():
                states = self._states(own, wanted_there)
            for number, wanted in enumerate(wanted_there):
                rows = np.empty((*wanted.shape, self.running.width), dtype=np.float32)
                for tail, column in np.ndindex(wanted.shape):
                    rows[tail, column] = states[_place(own[number], number, tail, int(wanted[tail, column]))]
                found.append(rows)
        return found

    def _states(self, branchings: Sequence[Branching], at: Sequence[np.ndarray]) -> dict[Place, np.ndarray]:
        """The state [hidden] of each token that is wanted."""
        wanted = {
            _place(branchings[number], number, tail, position): (number, tail, position)
            for number, rows in enumerate(at)
            for tail, row in enumerate(rows.tolist())
            for position in row
        }
        asked = [(number, tail) for number, each in enumerate(branchings) for tail in range(len(each.tails))]
        prompts = [[*branchings[number].head, *branchings[number].tails[tail]] for number, tail in asked]
        found: dict[Place, np.ndarray] = {}
        for (number, tail), prompt, states in zip(asked, prompts, self._ask(prompts), strict=True):
            start = len(prompt) - len(states)
            for position in at[number][tail].tolist():
                if position >= start:
                    found[_place(branchings[number], number, tail, position)] = states[position - start]
        # What is in the cache has no states there. The last token of a prompt is always computed.
        missing = [place for place in wanted if place not in found]
        ends = [wanted[place] for place in missing]
        again = [
            [*branchings[number].head, *branchings[number].tails[tail]][: position + 1]
            for number, tail, position in ends
        ]
        for place, states in zip(missing, self._ask(again), strict=True):
            found[place] = states[-1]
        return found

    def _ask(self, prompts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """States of the last tokens of prompts, those that were computed, float32 [at least 1, hidden]."""
        # By default vLLM computes all tokens of a prompt whose states are asked for.
        params = PoolingParams(task="token_embed", skip_reading_prefix_cache=False)
        outputs = self.running.ask([self._prompt(prompt) for prompt in prompts], [params] * len(prompts))
        return [output.outputs.data.float().numpy() for output in outputs]

    def _prompt(self, prompt: Sequence[int]) -> dict[str, Any]:
        if self._new_rows is None:
            return {"prompt_token_ids": list(prompt)}
        ids = torch.as_tensor(prompt)
        is_new = ids >= self._base
        embedded = torch.zeros(len(ids), self.running.width, dtype=self.running.dtype)
        embedded[is_new] = self._new_rows(ids[is_new] - self._base).to(embedded)
        return {
            "prompt_embeds": embedded,
            "prompt_token_ids": torch.where(is_new, 0, ids).tolist(),
            "prompt_is_token_ids": (~is_new).tolist(),
        }

    def close(self) -> None:
        """Give the memory back."""
        self.running.close()


def _place(branching: Branching, number: int, tail: int, position: int) -> Place:
    return (number, -1 if position < len(branching.head) else tail, position)


def _parts(branchings: Sequence[Branching]) -> Iterator[slice]:
    """Branchings that go together."""
    start, tokens = 0, 0
    for end, each in enumerate(branchings):
        own = len(each.head) * len(each.tails) + sum(map(len, each.tails))
        if end > start and tokens + own > _TOGETHER:
            yield slice(start, end)
            start, tokens = end, 0
        tokens += own
    if branchings:
        yield slice(start, len(branchings))
