"""The training loop of retrieval, on one device or many (through accelerate)."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file
from torch import Tensor

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
from llmrec.tune.collate import Batch, Example, collate
from llmrec.tune.examples import ExampleTable
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.settings import TrainSettings
from llmrec.tune.validation import ndcg_at_10, target_ranks
from llmrec.verbalize.sought import Sought


def precision_of(settings: TrainSettings) -> str:
    """The precision that `settings` mean on this machine: "no", "bf16" or "fp16"."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


class RetrievalTrainer:
    """One run in one directory: `checkpoint/`, `best.safetensors` and TensorBoard's `log/`.

    Interrupted, a run of the same settings goes on from its last checkpoint and sees the same batches and
    the same dropout as if it had never stopped: both follow from seed, process, epoch and batch alone.
    """

    def __init__(
        self,
        loss: RetrievalLoss,
        examples: ExampleTable,
        questions: Mapping[str, Sequence[tuple[Example, np.ndarray]]],
        settings: TrainSettings,
        directory: Path,
        search: Callable[[Sequence[Sought]], np.ndarray] | None = None,
    ) -> None:
        """`questions`: sets of validation prompts by name, each prompt with the items to leave out.

        The run keeps the weights with the best mean over the sets. `search` gives vectors of what is sought.
        """
        self.settings = settings
        self.directory = Path(directory)
        # Accumulation is ours: accelerate counts steps in memory only, and across epochs.
        self.accelerator = Accelerator(
            mixed_precision=precision_of(settings), cpu=not torch.accelerator.is_available()
        )
        self.model = loss.model
        if settings.gradient_checkpointing:
            self.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        self.retrieval = loss
        self.weights = (loss.settings.sequence_weight, loss.settings.query_weight)
        self.queries = len(self.model.head.queries)
        self.examples = examples
        self.search = search
        self.any_questions = any(questions.values())  # over all processes, which must decide alike
        self.questions = {
            name: some[self.accelerator.process_index :: self.accelerator.num_processes]
            for name, some in questions.items()
            if some
        }
        optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.98), weight_decay=settings.weight_decay)
        self.loss, self.optimizer = self.accelerator.prepare(loss, optimizer)
        self.average = WeightAverage(self.model, settings.average)
        self.pool = torch.zeros(loss.pool_size * self.accelerator.num_processes, dtype=torch.int64)
        self.state = RunState()
        size = settings.batch * self.accelerator.num_processes
        self.updates = sum(
            math.ceil(len(self._batches(epoch)) / settings.accumulate) for epoch in range(settings.epochs)
        )
        if self.updates == 0:
            raise LlmrecError(f"the training table has fewer histories than {size}, a step's batch")

    def _groups(self) -> list[dict[str, object]]:
        """Parameters with their learning rates and decay; `base` is what the schedule scales."""
        settings = self.settings
        groups: list[dict[str, object]] = []
        values = trainable(self.model)
        ids, recent = ([name for name in values if name == part] for part in ("items.id_part", "head.recent"))
        backbone = [name for name in values if name.startswith("backbone.")]
        new = [name for name in values if name not in {*ids, *recent, *backbone}]
        id_rate = settings.learning_rate * settings.id_rate
        for names, rate, decay in (
            (new, settings.learning_rate, settings.weight_decay),
            (ids, id_rate, 0.0),
            (recent, settings.learning_rate, 0.0),
            (backbone, settings.backbone_learning_rate, settings.weight_decay),
        ):
            if names:
                chosen = [values[name] for name in names]
                groups.append({"params": chosen, "lr": rate, "base": rate, "weight_decay": decay})
        return groups

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
            self.directory / "checkpoint", self.model, self.optimizer, self._kept(), self.settings
        )
        if restored is not None:
            self.state = restored
            self._use_pool()
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

    def _kept(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides weights, optimiser and state."""
        return {**self.average.values, **({"hard negatives": self.pool} if len(self.pool) else {})}

    def _use_pool(self) -> None:
        if len(self.pool) and self.retrieval.sampler is not None:
            self.retrieval.sampler.pool = self.pool

    def _find_hard(self, batch: Batch) -> None:
        """Find hard negatives for the updates to come with the prompts of a batch, on every process."""
        with self.accelerator.autocast():
            found = self.retrieval.hard_negatives(batch).to(self.accelerator.device)
        self.pool.copy_(self.accelerator.gather(found).cpu())
        self._use_pool()

    def _update(self, batches: list[np.ndarray]) -> dict[str, Any]:
        """Forward and backward over the next `accumulate` batches (fewer at an epoch's end), one update."""
        started = time.monotonic()
        self.loss.train()
        chosen = batches[self.state.batch : self.state.batch + self.settings.accumulate]
        sums = {"sequence_loss": 0.0, "query_loss": 0.0}
        for number, rows in enumerate(chosen, start=1):
            self._seed()
            batch = collate(
                [self.examples[row] for row in rows],
                self.queries,
                self.model.head.remembered,
                self.settings.pack,
                self.search,
            ).to(self.accelerator.device)
            if number == 1 and len(self.pool) and self.state.update % self.retrieval.settings.hard_every == 0:
                self._find_hard(batch)
            last = number == len(chosen)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.loss):
                sequence, query = self.loss(batch)
                total = self.weights[0] * sequence + self.weights[1] * query
                self.accelerator.backward(total / len(chosen))
            for name, value in (("sequence_loss", sequence.item()), ("query_loss", query.item())):
                sums[name] += value / len(chosen)
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
        if self.any_questions:
            self._keep_if_best()

    def _keep_if_best(self) -> None:
        """Validate, and keep the weights when no earlier ones were better."""
        started = time.monotonic()
        with self.average.applied():
            figures = self._validate()
            figure = sum(figures.values()) / len(figures)
            if figure > self.state.best:
                self.state.best, self.state.best_epoch = figure, self.state.epoch
                if self.accelerator.is_main_process:
                    save_tensors(self.directory / "best.safetensors", trainable(self.model))
        self.state.seconds += time.monotonic() - started
        if self.any_questions:
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

    def _validate(self) -> dict[str, float]:
        """ndcg@10 of each set of questions."""
        if not self.any_questions:
            # Nothing to compare with: the newest weights are the best.
            return {"none": float(self.state.epoch)}
        device, batch = self.accelerator.device, 4 * self.settings.batch
        found = {}
        for name, questions in self.questions.items():
            ranks = target_ranks(self.model, questions, self.queries, batch, device, self.search)
            found[name] = ndcg_at_10(np.array(gather_object(ranks.tolist())))
        return found

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.directory / "checkpoint",
                self.model,
                self.optimizer,
                self._kept(),
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
