"""How many tokens of prompts the engines of this process read, for whoever watches it."""

from __future__ import annotations

import threading
from typing import NamedTuple


class Read(NamedTuple):
    """Tokens of prompts that went through a model, and those that were found in its cache."""

    computed: int
    cached: int


class PromptTokens:
    """A count that several threads may add to; None as long as no engine adds to it.

    Only engines with a cache that outlives a question do: vLLM. Transformers computes every prompt anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.read: Read | None = None

    def add(self, computed: int, cached: int) -> None:
        """Count the tokens of one prompt."""
        with self._lock:
            before = self.read or Read(0, 0)
            self.read = Read(before.computed + computed, before.cached + cached)


PROMPT_TOKENS = PromptTokens()
"""Of all engines of this process, those that were closed included: a service changes them as it runs."""
