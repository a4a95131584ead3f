"""Training for retrieval: histories and their prompts, read at item tokens and at query tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from llmrec.tune.collate import Batch, Example, Without, collate
from llmrec.tune.examples import ExampleTable
from llmrec.tune.loop import StepBatch, Trainer
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.settings import TrainSettings
from llmrec.tune.validation import ndcg_at_10, target_ranks
from llmrec.verbalize.sought import Sought


class RetrievalTrainer(Trainer):
    """A run of `tune.loop.Trainer` with the losses of `tune.losses.RetrievalLoss`."""

    def __init__(
        self,
        loss: RetrievalLoss,
        examples: ExampleTable,
        questions: Mapping[str, Sequence[tuple[Example, np.ndarray]]],
        settings: TrainSettings,
        directory: Path,
        search: Callable[[Sequence[Sought]], np.ndarray] | None = None,
        without: Without | None = None,
    ) -> None:
        """`questions`: sets of validation prompts by name, each prompt with the items to leave out.

        The run keeps the weights with the best mean over the sets. `search` gives vectors of what is sought,
        `without` what items are where the histories of a step are not counted.
        """
        if settings.gradient_checkpointing:
            loss.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        self.retrieval = loss
        self.tuned = loss.model
        weights = {
            "sequence_loss": loss.settings.sequence_weight,
            "query_loss": loss.settings.query_weight,
        }
        self.queries = len(loss.model.head.queries)
        self.table = examples
        self.search, self.without = search, without
        super().__init__(loss, loss.model, weights, examples, settings, directory)
        self._any_questions = any(questions.values())
        self.questions = {
            name: some[self.accelerator.process_index :: self.accelerator.num_processes]
            for name, some in questions.items()
            if some
        }
        self.pool = torch.zeros(loss.pool_size * self.accelerator.num_processes, dtype=torch.int64)

    def rates(self, names: Sequence[str]) -> list[tuple[list[str], float, float]]:
        """Id parts and the weights of recent items do not decay; the backbone has a rate of its own."""
        settings = self.settings
        ids = [name for name in names if name == "items.id_part"]
        recent = [name for name in names if name in ("head.recent", "head.seen")]
        backbone = [name for name in names if name.startswith("backbone.")]
        new = [name for name in names if name not in {*ids, *recent, *backbone}]
        return [
            (new, settings.learning_rate, settings.weight_decay),
            (ids, settings.learning_rate * settings.id_rate, 0.0),
            (recent, settings.learning_rate, 0.0),
            (backbone, settings.backbone_learning_rate, settings.weight_decay),
        ]

    def batch_of(self, rows: np.ndarray) -> Batch:
        """The histories of some rows with their prompts."""
        return collate(
            [self.table[row] for row in rows],
            self.queries,
            self.tuned.head.remembered,
            self.settings.pack,
            self.search,
            self.without,
        ).to(self.accelerator.device)

    def before_update(self, batch: StepBatch) -> None:
        """Find hard negatives for the updates to come with the prompts of a batch, on every process."""
        if len(self.pool) and self.state.update % self.retrieval.settings.hard_every == 0:
            assert isinstance(batch, Batch)
            with self.accelerator.autocast():
                found = self.retrieval.hard_negatives(batch).to(self.accelerator.device)
            self.pool.copy_(self.accelerator.gather(found).cpu())
            self.resumed()

    def kept(self) -> dict[str, Tensor]:
        """The averaged weights, and the hard negatives."""
        return super().kept() | ({"hard negatives": self.pool} if len(self.pool) else {})

    def resumed(self) -> None:
        """Let the sampler draw from the hard negatives."""
        if len(self.pool) and self.retrieval.sampler is not None:
            self.retrieval.sampler.pool = self.pool

    @property
    def validates(self) -> bool:
        """Whether there is a question."""
        return self._any_questions

    def figures(self) -> dict[str, float]:
        """ndcg@10 of each set of questions."""
        device, batch = self.accelerator.device, 4 * self.settings.batch
        found = {}
        for name, questions in self.questions.items():
            ranks = target_ranks(self.tuned, questions, self.queries, batch, device, self.search)
            found[name] = ndcg_at_10(np.array(gather_object(ranks.tolist())))
        return found
