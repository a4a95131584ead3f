"""Continuing prompts with vLLM: one call for all prefixes of a level, prompts from its prefix cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vllm import SamplingParams

from llmrec.engines.vllm.listening import ROW
from llmrec.engines.vllm.running import Running
from llmrec.errors import LlmrecError


class VllmTokens:
    """A plain causal language model in vLLM, which continues prompts (`decode.continuations.TokenEngine`).

    Prefixes are prompts like any other to vLLM. What they share is computed once, in blocks of 32 tokens:
    the last part of a prompt, which fills no block, is computed for each of its prefixes.
    """

    def __init__(self, checkpoint: Path | Running, **settings: Any) -> None:
        """`checkpoint` is a directory, or the model of one that runs; `settings` as for `running.Running`."""
        self.running = checkpoint if isinstance(checkpoint, Running) else Running(checkpoint, **settings)

    def begin(self, prompts: Sequence[Sequence[int]]) -> VllmContinuations:
        """Start to continue prompts by the model's own tokens (see `decode.continuations`)."""
        return VllmContinuations(self, prompts)

    def log_probabilities(
        self, prefixes: Sequence[Sequence[int]], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """Log-probabilities of `tokens` int64 [m] after prefixes, float32 [n, m]; see `Continuations`.

        Raises `LlmrecError` for a prefix that is longer than the model's context.
        """
        running = self.running
        if len(tokens) and (tokens.min() < 0 or tokens.max() >= running.vocabulary):
            raise ValueError(f"a token is outside the model's vocabulary of {running.vocabulary:,}")
        longest = max(map(len, prefixes), default=0)
        if longest >= running.longest:
            raise LlmrecError(
                f"a prompt and what is written after it have {longest:,} tokens, the model takes "
                f"{running.longest - 1:,}: show it fewer events (max_events)"
            )
        params = [
            SamplingParams(max_tokens=1, temperature=0, detokenize=False, extra_args={ROW: row})
            for row in range(len(prefixes))
        ]
        with running.alone():
            running.heard.ask(len(prefixes), tokens, whole)
            running.ask([{"prompt_token_ids": list(prefix)} for prefix in prefixes], params)
            found: np.ndarray = running.heard.values
        return found

    def close(self) -> None:
        """Give the memory back."""
        self.running.close()


class VllmContinuations:
    """See `decode.continuations.Continuations`: prefixes as lists of tokens, which vLLM knows again."""

    def __init__(self, engine: VllmTokens, prompts: Sequence[Sequence[int]]) -> None:
        if not all(map(len, prompts)):
            raise ValueError("a prompt is empty: nothing says what could come next")
        self._engine = engine
        self._prompts = len(prompts)
        self._prefixes = [list(prompt) for prompt in prompts]

    @property
    def prefixes(self) -> int:
        """Prefixes so far, the prompts included."""
        return len(self._prefixes)

    def log_probabilities(
        self, parents: np.ndarray, tails: Sequence[np.ndarray], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """Log-probabilities of `tokens` after some prefixes, float32 [n, m]."""
        asked = [
            self._prefixes[parent] + tail.tolist()
            for parent, tail in zip(parents.tolist(), tails, strict=True)
        ]
        if any(
            parent >= self._prompts and not len(tail)
            for parent, tail in zip(parents.tolist(), tails, strict=True)
        ):
            raise ValueError("only behind a prompt may there be nothing")
        found = self._engine.log_probabilities(asked, tokens, whole)
        self._prefixes += asked
        return found
