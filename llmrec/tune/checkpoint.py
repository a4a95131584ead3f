"""Checkpoints of a run: what trains, the optimiser and how far it is (see `retrieval` on random numbers)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.errors import LlmrecError
from llmrec.files import read_json, replace_directory, replace_file, write_json


@dataclass(slots=True)
class RunState:
    """How far a run is. `best` is the best validation figure so far, of epoch `best_epoch`.

    `tokens` were read so far, in rows with room for `places`.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    tokens: int = 0
    places: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    best_epoch: int = -1
    finished: bool = False
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of training a second, padding left out, validation's time included."""
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def padding_share(self) -> float:
        """Share of the places in rows that held no token."""
        return max(0.0, 1.0 - self.tokens / self.places) if self.places else 0.0


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


def save_tensors(path: Path, values: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with replace_file(path) as temporary:
        save_file({name: value.detach().contiguous().cpu() for name, value in values.items()}, temporary)


def save_checkpoint(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    kept: Mapping[str, Tensor],
    state: RunState,
    settings: Any,
) -> None:
    """Write a checkpoint, whole or not at all. `settings` (a dataclass) must be the same on resume.

    `kept` is what else a run goes on with: averaged weights (`tune.average`), hard negatives.
    """
    moments = {
        f"{number}.{name}": value
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    with replace_directory(directory) as temporary:
        save_tensors(temporary / "model.safetensors", trainable(model))
        save_tensors(temporary / "optimizer.safetensors", moments)
        save_tensors(temporary / "average.safetensors", kept)
        values = asdict(state)
        if state.best_epoch < 0:
            values["best"] = None
        write_json(temporary / "state.json", {"state": values, "settings": asdict(settings)})


def load_checkpoint(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    kept: Mapping[str, Tensor],
    settings: Any,
) -> RunState | None:
    """Restore a run from its checkpoint, `kept` in place; None when there is none.

    Raises `LlmrecError` when it was written under other settings, or is damaged.
    """
    if not directory.is_dir():
        return None
    try:
        saved = read_json(directory / "state.json", "checkpoint")
        _same_settings(directory, saved["settings"], settings)
        load_trainable(model, load_file(directory / "model.safetensors"))
        others = load_file(directory / "average.safetensors")
        for name, value in kept.items():
            value.copy_(others[name])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in load_file(directory / "optimizer.safetensors").items():
            number, _, which = name.partition(".")
            moments.setdefault(int(number), {})[which] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        values = saved["state"]
        return RunState(**{**values, "best": float("-inf") if values["best"] is None else values["best"]})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LlmrecError(
            f"the checkpoint {directory} cannot be used ({error}): remove it to start anew"
        ) from error


def _same_settings(directory: Path, saved: Mapping[str, Any], settings: Any) -> None:
    usual = asdict(type(settings)())  # a setting that came later was at its default then
    asked = asdict(settings)
    changed = [name for name, value in asked.items() if saved.get(name, usual[name]) != value]
    if changed:
        raise LlmrecError(
            f"{directory} was written with other settings ({', '.join(changed)}): "
            "restore them, or remove the directory to start anew"
        )
