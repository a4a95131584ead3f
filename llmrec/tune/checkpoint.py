"""Checkpoints of a run: what trains, the optimiser, the random state and how far it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.errors import LlmrecError
from llmrec.files import read_json, replace_directory, write_json


@dataclass(slots=True)
class RunState:
    """How far a run is. `best` is the best validation figure so far, of epoch `best_epoch`."""

    epoch: int = 0
    batch: int = 0
    update: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int = -1
    finished: bool = False
    log: list[dict[str, float]] = field(default_factory=list)


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Names and values of the parameters that train."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def load_trainable(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Put values back; raises `LlmrecError` when names or shapes are others."""
    own = trainable(model)
    if own.keys() != values.keys() or any(own[name].shape != value.shape for name, value in values.items()):
        raise LlmrecError("the checkpoint belongs to another model or recipe: remove the run's directory")
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)


def save_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: RunState, settings: Any
) -> None:
    """Write a checkpoint, whole or not at all. `settings` (a dataclass) must be the same on resume."""
    with replace_directory(directory) as temporary:
        save_file(
            {n: v.detach().contiguous().cpu() for n, v in trainable(model).items()},
            temporary / "model.safetensors",
        )
        torch.save(
            {"optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}, temporary / "optimizer.pt"
        )
        values = asdict(state)
        if state.best_epoch < 0:
            values["best"] = None
        write_json(temporary / "state.json", {"state": values, "settings": asdict(settings)})


def load_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: Any
) -> RunState | None:
    """Restore a run from its checkpoint; None when there is none.

    Raises `LlmrecError` when it was written under other settings.
    """
    if not (directory / "state.json").is_file():
        return None
    saved = read_json(directory / "state.json", "checkpoint")
    if saved["settings"] != asdict(settings):
        changed = [name for name, value in asdict(settings).items() if saved["settings"].get(name) != value]
        raise LlmrecError(
            f"{directory} was written with other settings ({', '.join(changed)}): "
            "restore them, or remove the directory to start anew"
        )
    load_trainable(model, load_file(directory / "model.safetensors"))
    rest = torch.load(directory / "optimizer.pt", weights_only=True)
    optimizer.load_state_dict(rest["optimizer"])
    torch.set_rng_state(rest["random"])
    values = saved["state"]
    if values["best"] is None:
        values["best"] = float("-inf")
    return RunState(**values)
