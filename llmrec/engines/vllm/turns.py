"""Models of one process take turns.

What a layer reads of the batch that is under way, and of the cache that belongs to it, vLLM keeps in a global
of the process (`vllm.forward_context`), and on a CPU all matrix products share a work memory and a table of
what was prepared. Of two models that run at the same time in two threads one reads the other's: it gives
wrong numbers and says nothing, or never comes back.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import torch
from vllm.v1.executor.uniproc_executor import UniProcExecutor

_TURN = threading.RLock()
"""Held by the thread whose model runs."""


class InTurns(UniProcExecutor):  # type: ignore[misc]
    """vLLM's executor for one process; whatever runs a model waits until no other one runs.

    A turn is one step, or one part of a start. Reading weights and making the cache run no model and are the
    longest parts of a start, so others answer meanwhile.
    """

    def _init_executor(self) -> None:
        # While weights are read, their type is what torch makes new tensors of, in all threads.
        usual = self.model_config.dtype == torch.get_default_dtype()
        with contextlib.nullcontext() if usual else _TURN:
            super()._init_executor()

    def collective_rpc(self, method: Any, *args: Any, **more: Any) -> Any:
        """Run a method of the worker."""
        with contextlib.nullcontext() if method == "initialize_from_config" else _TURN:
            return super().collective_rpc(method, *args, **more)
