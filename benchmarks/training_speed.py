"""Processor time of training steps with and without each option; prints a Markdown table.

Run: python benchmarks/training_speed.py RECIPE.out.work [--steps 12] [--threads 1] [--only pack]

The workspace is that of a run of `llmrec finetune` (stopped or finished): its recipe, training table and text
vectors are used, not its weights. Every option trains on the same batches, one step of each after another.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from llmrec.config import Recipe, build
from llmrec.evaluate.page import table
from llmrec.files import read_json
from llmrec.fit import prepared_data, text_vectors
from llmrec.model.assemble import new_model
from llmrec.model.pretrained import load_tokenizer, resolve
from llmrec.tune.checkpoint import trainable
from llmrec.tune.collate import Batch, Example, collate
from llmrec.tune.examples import ExampleTable
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.settings import LossSettings


@dataclass(frozen=True, slots=True)
class Option:
    """One way to train the same examples."""

    name: str
    pack: bool = False
    checkpointing: bool = False
    loss: LossSettings | None = None


OPTIONS = (
    Option("as it is"),
    Option("pack", pack=True),
    Option("gradient_checkpointing", checkpointing=True),
    *(
        Option(f"sampled, {name}", loss=LossSettings(full_softmax_up_to=0, negatives=2048, sampler=name))
        for name in ("popularity", "in_batch", "mixed")
    ),
)


class Trainee:
    """A fresh model of the recipe with one option."""

    def __init__(self, recipe: Recipe, option: Option, vectors: np.ndarray, counts: torch.Tensor) -> None:
        torch.manual_seed(0)
        base = len(load_tokenizer(resolve(recipe.model)))
        model, _ = new_model(recipe.model_settings, vectors, base, recipe.train.dropout)
        if option.checkpointing:
            model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        self.option = option
        self.queries, self.recent = recipe.prompt.queries, model.head.remembered
        self.loss = RetrievalLoss(model, option.loss or recipe.loss, counts).train()
        self.optimizer = torch.optim.AdamW(list(trainable(model).values()), lr=1e-4)
        self.seconds: list[float] = []
        self.tokens = self.places = 0

    def step(self, examples: list[Example]) -> None:
        """Train on some examples."""
        started = time.process_time()
        batch: Batch = collate(examples, self.queries, self.recent, self.option.pack)
        sequence, query = self.loss(batch)
        (sequence + query).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds.append(time.process_time() - started)
        self.tokens += batch.tokens
        self.places += batch.places

    def row(self, first: "Trainee") -> tuple[str, ...]:
        """A line of the table; `first` is what it is compared with."""
        total = sum(self.seconds)
        return (
            self.option.name,
            f"{1 - self.tokens / self.places:.1%}",
            f"{self.tokens / total:,.0f}",
            f"{np.median(self.seconds):.3f}",
            f"{sum(first.seconds) / total:.2f}",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="options beside the first, default all")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    known = read_json(given.workspace / "recipe.json", "workspace")["recipe"]
    recipe = build(Recipe, known, str(given.workspace))
    recipe = replace(recipe, head=replace(recipe.head, search=False))  # no part of a step's cost
    prepared = prepared_data(recipe, given.workspace)
    vectors = text_vectors(prepared, recipe.items.text_encoder, given.workspace)
    items = prepared.train(recipe.split).items
    counts = torch.from_numpy(np.bincount(items, minlength=len(prepared.catalog)))
    options = [each for each in OPTIONS if not given.only or each.name in (OPTIONS[0].name, *given.only)]
    trainees = [Trainee(recipe, option, vectors, counts) for option in options]
    examples = ExampleTable(given.workspace / "examples")
    batches = examples.batches(0, recipe.train.batch, 0)[: given.steps + 1]
    for number, rows in enumerate(batches):
        some = [examples[row] for row in rows]
        for trainee in trainees:
            trainee.step(some)
            if number == 0:  # the first step makes the optimiser's state
                trainee.seconds, trainee.tokens, trainee.places = [], 0, 0
    print(f"{len(prepared.catalog):,} items, batches of {recipe.train.batch}, {given.threads} thread(s)\n")
    header = ("option", "padding", "tokens a second", "median seconds a step", "speed against the first")
    print(table(header, [trainee.row(trainees[0]) for trainee in trainees]))


if __name__ == "__main__":
    main()
