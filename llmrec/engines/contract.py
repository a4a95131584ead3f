"""What an engine answers. It works in token ids and hidden states and knows nothing of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Engine(Protocol):
    """Runs one language model whose vocabulary may go on beyond the tokenizer's (`model.tokens`)."""

    def hidden_states(self, prompts: Sequence[Sequence[int]], at: np.ndarray) -> np.ndarray:
        """States after the final norm at the tokens `at` int [prompts, p], float32 [prompts, p, hidden].

        Positions are from the start and inside the prompt. Batch equals single.
        """
        ...
