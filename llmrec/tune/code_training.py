"""Training a model to write codes, in the loop that all training shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from accelerate.utils import gather_object

from llmrec.model.code_model import CodeModel
from llmrec.tune.alignment import ItemTasks
from llmrec.tune.code_losses import CodeLoss
from llmrec.tune.code_settings import TASKS, TaskWeights
from llmrec.tune.collate import Example
from llmrec.tune.examples import ExampleTable
from llmrec.tune.loop import Trainer
from llmrec.tune.passages import CodeBatch, collate_passages, passage
from llmrec.tune.settings import TrainSettings
from llmrec.tune.validation import ndcg_at_10

Question = tuple[Example, np.ndarray]
"""A prompt with its target, and the items to leave out."""
Find = Callable[[CodeModel, Sequence[Question]], np.ndarray]
"""The rank of each question's target (0 is best, 10 or more: not in the first ten) as it will be searched."""


class CodeTrainer(Trainer):
    """A run of `tune.loop.Trainer` with the losses of `tune.code_losses.CodeLoss`."""

    def __init__(
        self,
        loss: CodeLoss,
        weights: TaskWeights,
        examples: ExampleTable,
        sequences: np.ndarray,
        items: ItemTasks,
        heads: bool,
        questions: Mapping[str, Sequence[Question]],
        find: Find,
        settings: TrainSettings,
        directory: Path,
        finds: Mapping[str, Find] | None = None,
    ) -> None:
        """`sequences` int [items, levels] are the tokens of each item; `heads` as in `passages.passage`.

        `questions`: sets of validation prompts by name, whose targets `find` finds, or what `finds` has for a
        set. The run keeps the weights with the best mean over the sets.
        """
        if settings.gradient_checkpointing:
            loss.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        self.table, self.sequences, self.items, self.heads, self.find = (
            examples,
            sequences,
            items,
            heads,
            find,
        )
        self.finds = finds or {}
        self.writer = loss.model
        losses = {f"{name}_loss": getattr(weights, name) for name in TASKS}
        super().__init__(loss, loss.model, losses, examples, settings, directory)
        self._any_questions = any(questions.values())
        self.questions = {
            name: some[self.accelerator.process_index :: self.accelerator.num_processes]
            for name, some in questions.items()
            if some
        }

    def rates(self, names: Sequence[str]) -> list[tuple[list[str], float, float]]:
        """The rows of new tokens do not decay, and have a rate of their own."""
        rows = [name for name in names if "trainable_tokens_delta" in name]
        others = [name for name in names if name not in rows]
        return [
            (rows, self.settings.learning_rate, 0.0),
            (others, self.settings.backbone_learning_rate, self.settings.weight_decay),
        ]

    def batch_of(self, rows: np.ndarray) -> CodeBatch:
        """The histories of some rows with what they teach, and items beside them."""
        place = (self.settings.seed, self.accelerator.process_index, self.state.epoch, self.state.batch)
        rng = np.random.default_rng(place)
        examples = [self.table[row] for row in rows]
        passages = [
            passage(example, self.sequences, self.heads, self.items.runs(example, rng))
            for example in examples
        ]
        return collate_passages(passages, self.settings.pack).to(self.accelerator.device)

    @property
    def validates(self) -> bool:
        """Whether there is a question."""
        return self._any_questions

    def figures(self) -> dict[str, float]:
        """ndcg@10 of each set of questions."""
        return {
            name: ndcg_at_10(
                np.array(gather_object(self.finds.get(name, self.find)(self.writer, asked).tolist()))
            )
            for name, asked in self.questions.items()
        }
