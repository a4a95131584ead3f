"""From a bundle to the engine that runs its model: transformers or vLLM."""

from __future__ import annotations

import json
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.decode.continuations import TokenEngine
from llmrec.engines.choice import choose_engine
from llmrec.engines.contract import Engine
from llmrec.errors import LlmrecError
from llmrec.export import check_export

if TYPE_CHECKING:
    from llmrec.engines.vllm.states import VllmStates


@overload
def open_engine(
    bundle: Bundle, name: str = ..., device: str = ..., checkpoint: Path | None = ..., **settings: Any
) -> Engine: ...
@overload
def open_engine(
    bundle: CodeBundle, name: str = ..., device: str = ..., checkpoint: Path | None = ..., **settings: Any
) -> TokenEngine: ...
def open_engine(
    bundle: Bundle | CodeBundle,
    name: str = "auto",
    device: str = "auto",
    checkpoint: Path | None = None,
    **settings: Any,
) -> Engine | TokenEngine:
    """The engine for a bundle; `name` as for `engines.choice.choose_engine`, of a process that lasts.

    `device` is for transformers, as for `device.device_of`; vLLM takes the one that it was built for, and
    `settings` as `engines.vllm.running.Running` does. With `checkpoint`, what `llmrec export` wrote of this
    bundle, items are rows of the checkpoint. Without it vLLM loads the merged language model alone, written
    to a temporary directory first, and new tokens go in as embeddings: a catalogue of any size. Raises
    `LlmrecError` where the engine cannot run.
    """
    if choose_engine(name) == "transformers":
        if checkpoint is not None:
            raise LlmrecError("an exported checkpoint is for vLLM, transformers runs the bundle itself")
        return bundle.engine(device)
    if checkpoint is not None:
        check_export(checkpoint, bundle)
    if isinstance(bundle, CodeBundle):
        from llmrec.engines.vllm.running import Running
        from llmrec.engines.vllm.tokens import VllmTokens

        if checkpoint is not None:
            return VllmTokens(checkpoint, **settings)
        name = _name(bundle, settings)
        running = Running.named(name)
        return VllmTokens(running or bundle.directory / "backbone", name=name, **settings)
    from llmrec.engines.vllm.states import VllmStates

    return _merged(bundle, settings) if checkpoint is None else VllmStates(checkpoint, **settings)


def _merged(bundle: Bundle, settings: dict[str, Any]) -> VllmStates:
    """VLLM with the merged model; new tokens as embeddings."""
    from llmrec.engines.vllm.running import Running
    from llmrec.engines.vllm.states import VllmStates
    from llmrec.model.new_rows import NewRows
    from llmrec.model.plain import write_backbone

    model = bundle.model()
    rows, base = NewRows.of(model, bundle.item_matrix()), model.base
    name = _name(bundle, settings)
    running = Running.named(name)
    if running is not None:
        return VllmStates(running, rows, base)
    with tempfile.TemporaryDirectory(prefix="llmrec-vllm-") as folder:
        write_backbone(model, Path(folder))
        del model
        return VllmStates(Path(folder), rows, base, name=name, **settings)


def _name(bundle: Bundle | CodeBundle, settings: dict[str, Any]) -> str:
    """What tells apart models that vLLM runs: versions with other items have the same one."""
    parts = bundle.manifest["parts"]
    model = {name: parts[name] for name in sorted(parts) if name.startswith(("adapter/", "backbone/"))}
    known = [bundle.readout, bundle.manifest["base"]["fingerprint"], model, sorted(settings.items())]
    return json.dumps(known, default=repr)


def close_with(owner: object, engine: object) -> None:
    """Give back what an engine holds (vLLM: its cache of keys and values) when `owner` is gone.

    A service lets go of older bundles while it runs; what still answers a request keeps its owner alive.
    """
    close = getattr(engine, "close", None)
    if close is not None:
        weakref.finalize(owner, close).atexit = False  # at the end of a process all goes anyway
