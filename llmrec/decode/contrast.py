"""How much likelier a prompt makes each token than no history does: what anyone would be told counts less.

A language model that was never tuned gives a title of common words a high probability after any history, and
one of rare words a low one. So a share of the log-probability of a token after the same words without the
history is taken off (Holtzman et al. 2021, there the whole of it, as mutual information).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.decode.continuations import Continuations, TokenEngine


class ContrastEngine:
    """Continues prompts by another engine's log-probabilities, less `share` of those after the prompt `bare`.

    The values are log-odds, and may be above 0: see `falls` of `decode.beam.BeamSearch`.
    """

    def __init__(self, engine: TokenEngine, bare: Sequence[int], share: float) -> None:
        self._engine, self._bare, self._share = engine, list(bare), share

    def begin(self, prompts: Sequence[Sequence[int]]) -> Contrast:
        """Start from some prompts."""
        alone = self._engine.begin([self._bare] * len(prompts))
        return Contrast(self._engine.begin(prompts), alone, self._share)


class Contrast:
    """See `decode.continuations.Continuations`: two sessions with the same prefixes behind other prompts."""

    def __init__(self, asked: Continuations, alone: Continuations, share: float) -> None:
        self._asked, self._alone, self._share = asked, alone, share

    @property
    def prefixes(self) -> int:
        """Prefixes so far, the prompts included."""
        return self._asked.prefixes

    def log_probabilities(
        self, parents: np.ndarray, tails: Sequence[np.ndarray], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """The difference, float32 [n, m]; without `whole` each row may be off by a constant of its own."""
        asked = self._asked.log_probabilities(parents, tails, tokens, whole)
        alone = self._alone.log_probabilities(parents, tails, tokens, whole)
        found: np.ndarray = asked - np.float32(self._share) * alone
        return found
