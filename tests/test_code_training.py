"""Training to write codes: it learns, resumes to the bit, and keeps what validated best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from code_models import writing
from tiny_models import tiny_prepared

from llmrec.codes.fitting import finder, searcher
from llmrec.items.trie import Trie
from llmrec.model.settings import AdapterSettings
from llmrec.tune.checkpoint import trainable
from llmrec.tune.code_losses import CodeLoss
from llmrec.tune.code_settings import CodeSettings, TaskWeights
from llmrec.tune.code_training import CodeTrainer
from llmrec.tune.examples import ExampleTable, build_examples, validation_questions
from llmrec.tune.settings import ExampleSettings, TrainSettings
from llmrec.tune.validation import ndcg_at_10

SETTINGS = TrainSettings(
    epochs=2, batch=8, learning_rate=1e-2, backbone_learning_rate=3e-3, dropout=0.1, average=0.5,
    precision="no", checkpoint_minutes=0.0, pack=True,
)  # fmt: skip
CODES = CodeSettings(beam=5, aligned=0.5, tasks=TaskWeights(id_to_text=0.5))


class Run:
    """A table of examples of the tiny shop; `trainer` gives a new model on it."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.prepared = tiny_prepared(folder / "shop", users=24)
        self.checkpoint, self.table = checkpoint, folder / "table"
        made = self.made("lora")
        build_examples(made.builder, self.prepared, "leave-last-out", self.table, 0)
        cases = self.prepared.cases("leave-last-out", "valid")
        self.questions = validation_questions(made.builder, self.prepared, cases)

    def made(self, kind: str):
        adapter = AdapterSettings(kind, rank=2, tokens=2, dropout=0.1)
        examples = ExampleSettings(versions=1, cuts=1)
        return writing(self.checkpoint, self.prepared.catalog, CODES, adapter, None, examples, gaps=False)

    def trainer(self, directory: Path, settings: TrainSettings = SETTINGS, kind: str = "lora") -> CodeTrainer:
        made = self.made(kind)
        made.model.dropout.p = settings.dropout
        return CodeTrainer(
            CodeLoss(made.model, made.items.words),
            CODES.tasks,
            ExampleTable(self.table),
            made.prompts.sequences,
            made.items,
            True,
            {"plain": self.questions},
            finder(searcher(Trie.build(made.prompts.sequences), made.prompts.tokens.levels, CODES.beam)),
            settings,
            directory,
        )


@pytest.fixture(scope="module")
def run(checkpoints, tmp_path_factory) -> Run:
    return Run(checkpoints["llama"], tmp_path_factory.mktemp("codes"))


def weights(trainer: CodeTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainable(trainer.model).items()}


@pytest.mark.parametrize("updates", [1, 3, 5])
def test_an_interrupted_run_ends_as_if_it_had_not_been(run: Run, tmp_path: Path, updates: int) -> None:
    whole = run.trainer(tmp_path / "whole")
    wanted = whole.run()
    assert wanted.update == 6
    run.trainer(tmp_path / "run").run(lambda state: state.update == updates)
    torch.rand(7)
    again = run.trainer(tmp_path / "run")
    state = again.run()
    assert (state.update, state.tokens, state.best) == (wanted.update, wanted.tokens, wanted.best)
    first, second = weights(whole), weights(again)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["lora", "full", "prompt"])
def test_it_learns_what_the_shop_is_made_of(run: Run, tmp_path: Path, kind: str) -> None:
    settings = replace(
        SETTINGS, epochs=16, dropout=0.0, learning_rate=3e-2, checkpoint_minutes=9.0, average=0.0
    )
    trainer = run.trainer(tmp_path / "run", settings, kind)
    before = weights(trainer)
    state = trainer.run()
    assert state.best_epoch > 0 and not any(
        torch.equal(before[name], value) for name, value in weights(trainer).items()
    )
    ranks = np.arange(24)
    chance = ndcg_at_10(np.where(ranks < CODES.beam, ranks, 10))  # what the beam does not find is a miss
    figures = [entry["ndcg@10"] for entry in state.log]
    assert figures[0] < 1.6 * chance and state.best == max(figures) > 1.6 * chance
    again = ndcg_at_10(trainer.find(trainer.writer, run.questions))
    assert again == pytest.approx(state.best)  # the best weights are back in the model


def test_rates_and_decay(run: Run, tmp_path: Path) -> None:
    trainer = run.trainer(tmp_path / "run", replace(SETTINGS, weight_decay=0.1))
    rows, others = trainer.optimizer.param_groups
    assert (rows["base"], rows["weight_decay"]) == (1e-2, 0.0) and len(rows["params"]) == 2
    assert (others["base"], others["weight_decay"]) == (3e-3, 0.1)
    assert len(rows["params"]) + len(others["params"]) == len(trainable(trainer.model))


def test_without_questions_the_newest_weights_win_and_checkpointing_changes_nothing(
    run: Run, tmp_path: Path
) -> None:
    found = []
    for name, more in (("plain", {}), ("checkpointed", {"gradient_checkpointing": True})):
        settings = replace(SETTINGS, epochs=1, dropout=0.0, **more)
        trainer = run.trainer(tmp_path / name, settings, "full")
        trainer.questions, trainer._any_questions = {}, False
        state = trainer.run()
        assert state.best_epoch == 1 and state.log == []
        found.append(weights(trainer))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4)
