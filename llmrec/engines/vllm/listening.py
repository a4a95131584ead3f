"""Log-probabilities of any tokens, taken where vLLM has the logits.

vLLM's own ways are not enough: `logprob_token_ids` takes 128 tokens at most, where a level may have 256
codes and titles begin in hundreds of ways; `allowed_token_ids` with `processed_logprobs` knows no whole
vocabulary, and 1,024 tokens at most on a GPU; `logprobs` sorts the vocabulary, and hands all values over as
lists of Python numbers. A logits processor sees the logits themselves: nothing is sorted, any number of
tokens is the same, and the values are those of the model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

ROW = "llmrec_row"
"""Key of a request's `extra_args`: its row of what is heard."""


class Heard:
    """What is asked of all prompts that are in the engine, and their answers, float32 [rows, tokens]."""

    def __init__(self) -> None:
        self._tokens = torch.zeros(0, dtype=torch.int64)
        self._whole = False
        self.values = np.zeros((0, 0), dtype=np.float32)

    def ask(self, rows: int, tokens: np.ndarray, whole: bool) -> None:
        """From now on hear `tokens` int64 [m] for so many rows, in the whole vocabulary or as logits."""
        self._tokens, self._whole = torch.as_tensor(tokens), whole
        self.values = np.full((rows, len(tokens)), np.nan, dtype=np.float32)

    def hear(self, logits: Tensor, rows: list[int]) -> None:
        """Take the values of some rows from `logits` [rows, vocabulary]."""
        logits = logits.float()
        found = logits[:, self._tokens.to(logits.device)]
        if self._whole:
            found = found - logits.logsumexp(dim=1, keepdim=True)
        self.values[rows] = found.cpu().numpy()


def listener(heard: Heard) -> type[LogitsProcessor]:
    """A class of logits processors that fill `heard` and change nothing."""

    class Listener(LogitsProcessor):  # type: ignore[misc]
        def __init__(self, config: object, device: torch.device, pinned: bool) -> None:
            self._rows: dict[int, int] = {}  # of each place in the batch

        def is_argmax_invariant(self) -> bool:
            return False  # those that are may be left out of greedy decoding

        def update_state(self, batch_update: BatchUpdate | None) -> None:
            if batch_update is None:
                return
            for place in batch_update.removed:
                self._rows.pop(place, None)
            for place, params, _, _ in batch_update.added:
                if params.extra_args and ROW in params.extra_args:
                    self._rows[place] = params.extra_args[ROW]
                else:
                    self._rows.pop(place, None)
            for one, other, direction in batch_update.moved:
                here, there = self._rows.pop(one, None), self._rows.pop(other, None)
                if here is not None:
                    self._rows[other] = here
                if there is not None and direction == MoveDirectionality.SWAP:
                    self._rows[one] = there

        def apply(self, logits: Tensor) -> Tensor:
            places = sorted(self._rows)
            # A prompt that is read in parts is heard after each of them; the last is what counts.
            heard.hear(
                logits if len(places) == len(logits) else logits[places], [self._rows[p] for p in places]
            )
            return logits

    return Listener
