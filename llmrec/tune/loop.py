"""The training loop of whatever trains, on one device or many (through accelerate)."""

from __future__ import annotations

import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from llmrec.errors import LlmrecError
from llmrec.files import only_writer
from llmrec.progress import note, track
from llmrec.tune.average import WeightAverage
from llmrec.tune.checkpoint import (
    RunState,
    load_checkpoint,
    load_trainable,
    save_checkpoint,
    save_tensors,
    trainable,
)
from llmrec.tune.settings import TrainSettings


def precision_of(settings: TrainSettings) -> str:
    """The precision that `settings` mean on this machine: "no", "bf16" or "fp16"."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


class StepBatch(Protocol):
    """What one step of one process runs on: `tokens` are real ones, `places` have room for them."""

    tokens: int

    @property
    def places(self) -> int:
        """Tokens that the rows hold, padding included."""
        ...


class Epochs(Protocol):
    """The rows of a training table, epoch by epoch."""

    def batches(self, epoch: int, size: int, seed: int) -> list[np.ndarray]:
        """Row numbers of the batches of an epoch, the same for a seed."""
        ...


class Trainer(ABC):
    """One run in one directory: `checkpoint/`, `best.safetensors` and TensorBoard's `log/`.

    Interrupted, a run of the same settings goes on from its last checkpoint and sees the same batches and
    the same dropout as if it had never stopped: both follow from seed, process, epoch and batch alone.

    What trains decides how rows become a batch, which losses the model has on it, and how it is validated.
    """

    def __init__(
        self,
        loss: nn.Module,
        model: nn.Module,
        losses: dict[str, float],
        examples: Epochs,
        settings: TrainSettings,
        directory: Path,
    ) -> None:
        """`loss` has `model` inside and gives the losses named in `losses`, which are summed by weight."""
        self.settings = settings
        self.directory = Path(directory)
        # Accumulation is ours: accelerate counts steps in memory only, and across epochs.
        self.accelerator = Accelerator(
            mixed_precision=precision_of(settings), cpu=not torch.accelerator.is_available()
        )
        self.model = model
        self.names, self.weights = tuple(losses), tuple(losses.values())
        self.examples = examples
        optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.98), weight_decay=settings.weight_decay)
        self.loss, self.optimizer = self.accelerator.prepare(loss, optimizer)
        self.average = WeightAverage(model, settings.average)
        self.state = RunState()
        size = settings.batch * self.accelerator.num_processes
        self.updates = sum(
            math.ceil(len(self._batches(epoch)) / settings.accumulate) for epoch in range(settings.epochs)
        )
        if self.updates == 0:
            raise LlmrecError(f"the training table has fewer histories than {size}, a step's batch")

    @abstractmethod
    def batch_of(self, rows: np.ndarray) -> StepBatch:
        """The batch of some rows of the table, on the device of this process."""

    @property
    @abstractmethod
    def validates(self) -> bool:
        """Whether there is anything to validate on, over all processes, which must decide alike."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """ndcg@10 of each set of validation questions, over all processes."""

    @abstractmethod
    def rates(self, names: Sequence[str]) -> list[tuple[list[str], float, float]]:
        """Which of the trainable parameters share a learning rate and a decay."""

    def before_update(self, batch: StepBatch) -> None:  # noqa: B027 (most have nothing to do)
        """What is done with the first batch of an update before it trains."""

    def _groups(self) -> list[dict[str, object]]:
        """Parameters with their learning rates and decay; `base` is what the schedule scales."""
        values = trainable(self.model)
        return [
            {"params": [values[name] for name in names], "lr": rate, "base": rate, "weight_decay": decay}
            for names, rate, decay in self.rates(list(values))
            if names
        ]

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of this process; every process has the same number."""
        batches = self.examples.batches(epoch, self.settings.batch, self.settings.seed)
        processes = self.accelerator.num_processes
        while len(batches) % processes:
            batches.append(batches[len(batches) % processes - 1])
        return batches[self.accelerator.process_index :: processes]

    def _scale(self) -> float:
        """What the schedule multiplies learning rates with at the present update."""
        warm = max(1.0, self.settings.warmup * self.updates)
        if self.state.update < warm:
            return (self.state.update + 1) / warm
        if self.settings.schedule == "constant":
            return 1.0
        if self.settings.schedule == "linear":
            return (self.updates - self.state.update) / (self.updates - warm)
        return 0.5 * (1.0 + math.cos(math.pi * self.state.update / self.updates))

    def run(self, stop_after: Callable[[RunState], bool] = lambda state: False) -> RunState:
        """Train to the end, leaving the best weights in the model.

        `stop_after(state)` may end the process's work after an update, as an interruption would (tests).
        """
        main = self.accelerator.is_main_process
        if not main:
            return self._run(stop_after)
        with only_writer(self.directory):
            return self._run(stop_after)

    def _run(self, stop_after: Callable[[RunState], bool]) -> RunState:
        restored = load_checkpoint(
            self.directory / "checkpoint", self.model, self.optimizer, self.kept(), self.settings
        )
        if restored is not None:
            self.state = restored
            self.resumed()
            if not self.state.finished:
                self._say(f"fine-tune: going on from epoch {self.state.epoch + 1}")
        per_epoch = len(self._batches(0))
        with track(
            "fine-tune", total=per_epoch * self.settings.epochs, show=self.accelerator.is_main_process
        ) as progress:
            progress.advance(self.state.epoch * per_epoch + self.state.batch)
            if restored is None:
                self._validate_start()
            last_saved = time.monotonic()
            while not self.state.finished:
                batches = self._batches(self.state.epoch)
                while self.state.batch < len(batches):
                    figures = self._update(batches)
                    progress.advance(figures.pop("steps"), epoch=self.state.epoch + 1, **figures)
                    if stop_after(self.state):
                        return self.state
                    # By the clock of one process: the others must not wait here, theirs may differ.
                    if time.monotonic() - last_saved > 60 * self.settings.checkpoint_minutes:
                        self._save()
                        last_saved = time.monotonic()
                self._end_epoch()
                self._save()
                self.accelerator.wait_for_everyone()
                last_saved = time.monotonic()
        best = self.directory / "best.safetensors"
        if best.is_file():
            load_trainable(self.model, load_file(best))
        self._say(
            f"fine-tune: {self.state.update:,} updates, {self.state.tokens_per_second:,.0f} tokens a second, "
            f"{self.state.padding_share:.1%} padding"
        )
        return self.state

    def kept(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides weights, optimiser and state."""
        return dict(self.average.values)

    def resumed(self) -> None:  # noqa: B027 (likewise)
        """What is done when a checkpoint has put back what is kept."""

    def _update(self, batches: list[np.ndarray]) -> dict[str, Any]:
        """Forward and backward over the next `accumulate` batches (fewer at an epoch's end), one update."""
        started = time.monotonic()
        self.loss.train()
        chosen = batches[self.state.batch : self.state.batch + self.settings.accumulate]
        sums = dict.fromkeys(self.names, 0.0)
        for number, rows in enumerate(chosen, start=1):
            self._seed()
            batch = self.batch_of(rows)
            if number == 1:
                self.before_update(batch)
            last = number == len(chosen)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.loss):
                losses = self.loss(batch)
                total = sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True))
                self.accelerator.backward(total / len(chosen))
            for name, loss in zip(self.names, losses, strict=True):
                sums[name] += loss.item() / len(chosen)
            self.state.batch += 1
            self.state.tokens += batch.tokens * self.accelerator.num_processes
            self.state.places += batch.places * self.accelerator.num_processes
        if not all(math.isfinite(value) for value in sums.values()):
            said = ", ".join(f"{name} {value}" for name, value in sums.items())
            raise LlmrecError(
                f"training went astray at update {self.state.update + 1} ({said}): lower the learning rates"
            )
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        scale = self._scale()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * scale
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.update += 1
        self.average.follow(self.state.update)
        self.state.seconds += time.monotonic() - started
        self._log(sums)
        return {**sums, "steps": len(chosen)}

    def _seed(self) -> None:
        """Let dropout and negatives of the next batch depend on where it stands and on nothing else."""
        place = (self.settings.seed, self.accelerator.process_index, self.state.epoch, self.state.batch)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _validate_start(self) -> None:
        """Validate what the model knows before training: no epoch is kept that is worse."""
        if self.validates:
            self._keep_if_best()

    def _keep_if_best(self) -> None:
        """Validate, and keep the weights when no earlier ones were better."""
        started = time.monotonic()
        with self.average.applied():
            # With nothing to compare with, the newest weights are the best.
            figures = self.figures() if self.validates else {"none": float(self.state.epoch)}
            figure = sum(figures.values()) / len(figures)
            if figure > self.state.best:
                self.state.best, self.state.best_epoch = figure, self.state.epoch
                if self.accelerator.is_main_process:
                    save_tensors(self.directory / "best.safetensors", trainable(self.model))
        self.state.seconds += time.monotonic() - started
        if self.validates:
            self.state.log.append(
                {
                    "epoch": self.state.epoch,
                    "ndcg@10": figure,
                    **{f"ndcg@10 {name}": one for name, one in figures.items()},
                    "seconds": self.state.seconds,
                }
            )
            self._log({f"validation_ndcg@10/{name}": one for name, one in figures.items()})
            said = ", ".join(f"{name} {one:.4f}" for name, one in figures.items())
            when = f"epoch {self.state.epoch}" if self.state.epoch else "before training"
            self._say(f"fine-tune: {when}, validation ndcg@10: {said}")

    def _end_epoch(self) -> None:
        """Validate when it is time, keep the best weights, and decide whether to go on."""
        self.state.epoch += 1
        self.state.batch = 0
        last = self.state.epoch >= self.settings.epochs
        if last or self.state.epoch % self.settings.validate_every == 0:
            self._keep_if_best()
            waited = (self.state.epoch - self.state.best_epoch) // self.settings.validate_every
            last = last or (self.settings.patience > 0 and waited >= self.settings.patience)
        self.state.finished = last
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.directory / "checkpoint",
                self.model,
                self.optimizer,
                self.kept(),
                self.state,
                self.settings,
            )

    def _log(self, figures: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        if not hasattr(self, "_writer"):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.directory / "log"))
        for name, value in figures.items():
            self._writer.add_scalar(name, value, self.state.update)
        for number, group in enumerate(self.optimizer.param_groups):
            self._writer.add_scalar(f"learning_rate/{number}", group["lr"], self.state.update)

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            note(text)
