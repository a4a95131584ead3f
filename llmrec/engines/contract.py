"""What an engine answers. It works in token ids and hidden states and knows nothing of items.

How tokens are written is `decode.continuations.TokenEngine`; one engine may do both, or only one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Branching:
    """Prompts that begin alike: the token ids of their `head`, and what stands behind it in each."""

    head: Sequence[int]
    tails: Sequence[Sequence[int]]

    @property
    def prompts(self) -> list[list[int]]:
        """The prompts one by one."""
        return [[*self.head, *tail] for tail in self.tails]


class Engine(Protocol):
    """Runs one language model whose vocabulary may go on beyond the tokenizer's (`model.tokens`)."""

    def hidden_states(self, prompts: Sequence[Sequence[int]], at: np.ndarray) -> np.ndarray:
        """States after the final norm at the tokens `at` int [prompts, p], float32 [prompts, p, hidden].

        Positions are from the start and inside the prompt. Batch equals single.
        """
        ...

    def branch_states(self, branchings: Sequence[Branching], at: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same for prompts that share heads, float32 [tails, p, hidden] for each branching.

        `at[b]` int [tails, p] are positions in the whole prompts, head included. Equals `hidden_states` of
        `branchings[b].prompts`; a head is computed once, however many tails it has.
        """
        ...


def check_inside(at: np.ndarray, lengths: Sequence[int]) -> None:
    """Raise `ValueError` unless each row of `at` int [prompts, p] lies inside a prompt of that length."""
    if at.size and (at.min() < 0 or (at >= np.asarray(lengths)[:, None]).any()):
        raise ValueError("a state is asked for outside its prompt")
