"""One prefill, cheap codes: a language model reads the prompts, a small decoder writes what follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llmrec.engines.contract import Engine
from llmrec.model.code_tokens import CodeTokens
from llmrec.model.small_decoder import SmallDecoder, item_ends


class SmallDecoderEngine:
    """Continues prompts by codes; see `decode.continuations.TokenEngine`."""

    def __init__(self, engine: Engine, decoder: SmallDecoder, tokens: CodeTokens) -> None:
        """`engine` runs the model on whose states `decoder` was trained."""
        self._engine, self._decoder, self._tokens = engine, decoder.eval(), tokens

    def begin(self, prompts: Sequence[Sequence[int]]) -> SmallContinuations:
        """Read some prompts, each in one pass."""
        if not all(map(len, prompts)):
            raise ValueError("a prompt is empty: nothing says what could come next")
        at, real = item_ends(prompts, self._tokens, self._decoder.settings.states)
        states = torch.from_numpy(self._engine.hidden_states(prompts, at))
        return SmallContinuations(self._decoder, self._tokens, states, torch.from_numpy(real))


class SmallContinuations:
    """Codes after some prompts; see `decode.continuations.Continuations`.

    The tokens behind a prompt are codes, one of each level in order. They are so few that what was computed
    of them is not kept.
    """

    @torch.inference_mode()
    def __init__(self, decoder: SmallDecoder, tokens: CodeTokens, states: Tensor, real: Tensor) -> None:
        """`states` float32 [prompts, states, hidden], `real` as in `SmallDecoder.forward`."""
        self._decoder, self._tokens = decoder, tokens
        self._seen, self._real = decoder.read(states), real
        self._prompt = np.arange(len(states))
        self._written: list[tuple[int, ...]] = [()] * len(states)

    @property
    def prefixes(self) -> int:
        """Prefixes so far, the prompts included."""
        return len(self._written)

    @torch.inference_mode()
    def log_probabilities(
        self, parents: np.ndarray, tails: Sequence[np.ndarray], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """Log-probabilities float32 [n, m] of `tokens`, codes of the level that comes next.

        They are over the codes of that level, with `whole` too: nothing else can be written. Raises
        `ValueError` for other tokens, and for prefixes of different lengths.
        """
        written = [
            (*self._written[parent], *tail.tolist())
            for parent, tail in zip(parents.tolist(), tails, strict=True)
        ]
        levels = {len(one) for one in written}
        level = levels.pop() if levels else 0
        starts = np.array(self._tokens.starts)
        columns = tokens - starts[level]
        if levels or ((columns < 0) | (columns >= self._decoder.sizes[level])).any():
            raise ValueError("a small decoder goes on with codes of one level, whichever comes next")
        prompt = self._prompt[parents]
        self._prompt, self._written = np.append(self._prompt, prompt), [*self._written, *written]
        codes = np.array(written, dtype=np.int64).reshape(len(written), level) - starts[:level]
        row = torch.from_numpy(prompt)
        outputs = self._decoder(self._seen[row], self._real[row], torch.from_numpy(codes))
        values = torch.log_softmax(self._decoder.logits(outputs[:, -1], level), dim=1)
        found: np.ndarray = values[:, torch.from_numpy(columns)].numpy()
        return found
