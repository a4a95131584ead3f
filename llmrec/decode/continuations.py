"""What decoding asks of whatever runs a model: how likely tokens are to come next. Token ids only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Continuations(Protocol):
    """Some prompts, and what is tried as their continuation; each prompt is computed once.

    Prefixes have numbers: the prompts are 0, 1 and so on, and each call of `log_probabilities` adds its own
    behind those there are.
    """

    @property
    def prefixes(self) -> int:
        """Prefixes so far, the prompts included."""
        ...

    def log_probabilities(
        self, parents: np.ndarray, tails: Sequence[np.ndarray], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """How likely each of `tokens` int64 [m] is to come after each prefix, float32 [n, m].

        Prefix i is the known prefix `parents[i]`, int64 [n], with the tokens `tails[i]` behind it; only
        behind a prompt may a tail be empty. With `whole`, values are log-probabilities in the whole
        vocabulary; without, each row may be off by a constant of its own, which is cheaper.
        """
        ...


class TokenEngine(Protocol):
    """Continues prompts. Batch equals single, but for rounding."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Continuations:
        """Start from some prompts, none of them empty."""
        ...
