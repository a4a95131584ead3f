"""An engine without a model: log-probabilities from a seed, for tests and to time what surrounds a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class TableEngine:
    """Every prefix has its own random logits over the vocabulary, the same wherever they are asked for.

    A logit is `sharpness` times a number from 0 to 1 that a hash of the seed, the prefix and the token
    gives. With `steps` there are only so many values, so that scores are often equal.
    """

    def __init__(
        self, vocabulary: int, seed: int = 0, sharpness: float = 4.0, steps: int | None = None
    ) -> None:
        self.vocabulary = vocabulary
        self.seed = seed
        self.sharpness = sharpness
        self.steps = steps

    def begin(self, prompts: Sequence[Sequence[int]]) -> TableContinuations:
        """Start from some prompts."""
        return TableContinuations(self, prompts)

    def logits(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Logits float64 [n, m] of `tokens` int64 [m] after the prefixes with hashes uint64 [n]."""
        uniform: np.ndarray = (_hashed(states[:, None], tokens[None]) >> np.uint64(11)).astype(
            np.float64
        ) * 2.0**-53
        if self.steps is not None:
            uniform = np.floor(uniform * self.steps) / self.steps
        return self.sharpness * uniform


class TableContinuations:
    """Prefixes as hashes; see `decode.continuations.Continuations`."""

    def __init__(self, engine: TableEngine, prompts: Sequence[Sequence[int]]) -> None:
        self._engine = engine
        self._states = np.full(len(prompts), engine.seed, dtype=np.uint64)
        self._states = self._after(np.arange(len(prompts)), [np.asarray(prompt) for prompt in prompts])

    @property
    def prefixes(self) -> int:
        """Prefixes so far, the prompts included."""
        return len(self._states)

    def log_probabilities(
        self, parents: np.ndarray, tails: Sequence[np.ndarray], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """Log-probabilities of `tokens` after some prefixes, float32 [n, m]."""
        states = self._after(parents, tails)
        self._states = np.concatenate([self._states, states])
        values = self._engine.logits(states, tokens)
        if whole:
            everything = self._engine.logits(states, np.arange(self._engine.vocabulary))
            values = values - np.log(np.exp(everything).sum(axis=1, keepdims=True))
        found: np.ndarray = values.astype(np.float32)
        return found

    def _after(self, parents: np.ndarray, tails: Sequence[np.ndarray]) -> np.ndarray:
        states: np.ndarray = self._states[parents]
        for place in range(max(map(len, tails), default=0)):
            rows = np.array([row for row, tail in enumerate(tails) if len(tail) > place])
            states[rows] = _hashed(states[rows], np.array([tails[row][place] for row in rows]))
        return states


def _hashed(states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """New hashes of `states` uint64 and `tokens`, which go together by numpy's rules (splitmix64)."""
    mixed = (states + tokens.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    found: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return found
