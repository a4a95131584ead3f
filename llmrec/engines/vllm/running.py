"""Starting vLLM in this process, and asking it for many prompts at once."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from vllm import EngineArgs, LLMEngine, PoolingParams, SamplingParams
from vllm.platforms import current_platform

from llmrec.engines.counts import PROMPT_TOKENS
from llmrec.engines.vllm.listening import Heard, listener
from llmrec.engines.vllm.turns import InTurns
from llmrec.errors import LlmrecError
from llmrec.model.code_tokens import BLOCK

_SEQUENCES, _BATCH_TOKENS = 512, 8192
"""Prompts and tokens that go through the model together, at most."""
_CACHE = 2 << 30
"""Bytes of the cache of keys and values on a CPU."""

_open: list[Running] = []
"""Those of this process that are not closed. One that is merely forgotten would take the others with it."""
_opening = threading.RLock()
"""Held while `_open` changes; the thread that holds it may find something else to close."""


class Running:
    """One model in vLLM, perhaps shared (`named`). Several threads may ask; they wait for each other."""

    def __init__(self, checkpoint: Path, cache: int = _CACHE, name: str = "", **settings: Any) -> None:
        """`checkpoint` is a plain one; `settings` are vLLM's engine arguments.

        `cache` is the memory of keys and values in bytes, where there is no GPU. `name` says which model this
        is and how it is set, for others who need the same. Raises `LlmrecError` when vLLM cannot run this
        model.
        """
        if os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] != "0":
            raise LlmrecError("vLLM must run in this process: unset VLLM_ENABLE_V1_MULTIPROCESSING")
        self._lock = threading.Lock()
        self._engine: Any = None
        self._numbers = itertools.count()  # of prompts
        self._name = ""
        self.heard = Heard()
        """What is asked of the logits of prompts, where the model writes."""
        self.computed = self.cached = 0
        """Tokens of prompts that went through the model so far, and those that came from the cache."""
        if settings.get("runner") != "pooling":
            settings["logits_processors"] = [listener(self.heard)]
        with _opening:
            _open.append(self)  # so that nobody who closes the last other one takes away what is shared
        with _unwarned(), _hidden("llvmlite.binding.ffi"):
            if current_platform.is_cpu():  # bfloat16, which vLLM would choose, is 5 times as slow
                settings = {
                    "dtype": "float32",
                    "kv_cache_memory_bytes": cache,
                    "enforce_eager": True,  # compiling takes two minutes there and gains nothing
                    **settings,
                }
            try:
                self._engine = LLMEngine.from_engine_args(
                    EngineArgs(
                        model=str(checkpoint),
                        skip_tokenizer_init=True,
                        generation_config="vllm",
                        enable_prefix_caching=True,
                        async_scheduling=False,
                        distributed_executor_backend=InTurns,
                        block_size=BLOCK,
                        max_num_seqs=_SEQUENCES,
                        max_num_batched_tokens=_BATCH_TOKENS,
                        disable_log_stats=True,
                        use_tqdm_on_load=False,
                        **settings,
                    )
                )
                # What a kernel cannot do comes to light when it runs.
                reads = self._engine.model_config.runner_type == "pooling"
                first = PoolingParams(task="token_embed") if reads else SamplingParams(max_tokens=1)
                self.ask([{"prompt_token_ids": [0]}], [first])
            except (ValueError, RuntimeError, NotImplementedError, OSError) as error:
                self.close()
                said = " ".join(str(error).split()) or type(error).__name__
                raise LlmrecError(f"vLLM cannot run {checkpoint}: {said}") from error
        self.longest = int(self._engine.model_config.max_model_len)
        self.vocabulary = int(self._engine.model_config.get_vocab_size())
        self.dtype: torch.dtype = self._engine.model_config.dtype
        self.width = int(self._engine.model_config.get_hidden_size())
        self._name = name  # now others may share it

    @staticmethod
    def named(name: str) -> Running | None:
        """The model that runs under `name`, to be asked and closed on its own; None when there is none."""
        with _opening:
            for each in _open:
                if each._name == name:
                    found = copy.copy(each)
                    found.computed = found.cached = 0
                    _open.append(found)
                    return found
        return None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the engine: nobody else's prompts go through it in the block."""
        with self._lock:
            yield

    def ask(self, prompts: Sequence[dict[str, Any]], params: Sequence[Any]) -> list[Any]:
        """The finished outputs of prompts, in their order; to be called in `alone`."""
        numbers = list(itertools.islice(self._numbers, len(prompts)))
        found: dict[int, Any] = {}
        with _unwarned():
            for number, prompt, own in zip(numbers, prompts, params, strict=True):
                self._engine.add_request(str(number), prompt, own)
            while self._engine.has_unfinished_requests():
                for output in self._engine.step():
                    if output.finished:
                        cached = output.num_cached_tokens or 0
                        computed = len(output.prompt_token_ids) - cached
                        self.computed += computed
                        self.cached += cached
                        PROMPT_TOKENS.add(computed, cached)
                        found[int(output.request_id)] = output
        return [found[number] for number in numbers]

    def forget(self) -> None:
        """Empty the cache of prompts, as if none had been asked for."""
        with self._lock:
            self._engine.reset_prefix_cache()

    def close(self) -> None:
        """Give the memory back, unless others share it; this cannot be asked any more."""
        with _opening:
            if self not in _open:
                return
            _open.remove(self)
            engine, self._engine = self._engine, None
            if engine is None or any(each._engine is engine for each in _open):
                return
            if _open:
                # vLLM's shutdown, and so its finalizer, takes away what all engines of a process share.
                engine.engine_core._finalizer.detach()
            else:
                engine.engine_core.shutdown()
            del engine
            gc.unfreeze()
            gc.collect()


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Hide a module that is loaded already.

    vLLM looks through all modules for kernels when it starts, and stumbles over numba's `ffi.lib`, which
    claims to have whatever it is asked for.
    """
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Without the warnings of vLLM's own imports and steps of what is old in its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
