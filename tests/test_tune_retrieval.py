"""The training loop: resuming, early stopping, seeds, and one clear line when something is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_models import builder_of, tiny_prepared, tuned

from llmrec.errors import DataError, LlmrecError
from llmrec.files import only_writer, read_json, write_json
from llmrec.model.settings import AdapterSettings
from llmrec.model.tuned import TunedModel
from llmrec.tune.checkpoint import RunState, trainable
from llmrec.tune.examples import ExampleTable, build_examples, validation_questions
from llmrec.tune.losses import RetrievalLoss
from llmrec.tune.retrieval import RetrievalTrainer
from llmrec.tune.settings import ExampleSettings, LossSettings, TrainSettings
from llmrec.tune.validation import ndcg_at_10, target_ranks

SETTINGS = TrainSettings(
    epochs=3, batch=4, dropout=0.2, learning_rate=1e-2, patience=0, checkpoint_minutes=0.0, precision="no"
)


class Run:
    """All that a run needs besides its settings; each `trainer` starts from the same model."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self.checkpoint, self.folder = checkpoint, folder
        self.prepared = tiny_prepared(folder / "shop")
        _, self.tokens, _ = tuned(checkpoint, self.prepared.catalog)
        self.builder = builder_of(self.prepared.catalog, self.tokens, examples=ExampleSettings(2, 2))
        build_examples(self.builder, self.prepared, "leave-last-out", folder / "table", seed=0)
        self.table = ExampleTable(folder / "table")
        cases = self.prepared.cases("leave-last-out", "valid")
        self.questions = validation_questions(self.builder, self.prepared, cases)

    def trainer(
        self,
        directory: Path,
        settings: TrainSettings = SETTINGS,
        loss: LossSettings | None = None,
        questions: list | None = None,
        **items: object,
    ):
        adapter = AdapterSettings("lora", rank=2, dropout=0.1)
        model, _, _ = tuned(self.checkpoint, self.prepared.catalog, adapter, **items)
        model.dropout.p = settings.dropout
        counts = torch.ones(len(self.prepared.catalog))
        questions = self.questions if questions is None else questions
        whole = RetrievalLoss(model, loss or LossSettings(), counts)
        return RetrievalTrainer(whole, self.table, {"plain": questions}, settings, directory)


@pytest.fixture(scope="module")
def run(checkpoints, tmp_path_factory) -> Run:
    return Run(checkpoints["llama"], tmp_path_factory.mktemp("run"))


def weights(model: TunedModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainable(model).items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def losses_of(directory: Path) -> dict[int, float]:
    """The sequence loss of each update, from TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values: dict[int, float] = {}
    for path in sorted((directory / "log").glob("events.*")):
        events = EventAccumulator(str(path))
        events.Reload()
        if "sequence_loss" in events.Tags()["scalars"]:
            values |= {scalar.step: scalar.value for scalar in events.Scalars("sequence_loss")}
    return values


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory):
    """Uninterrupted runs, with and without accumulation: trainer, state and weights."""
    found = {}
    for accumulate in (1, 4):
        directory = tmp_path_factory.mktemp("whole") / "run"
        trainer = run.trainer(directory, replace(SETTINGS, accumulate=accumulate))
        state = trainer.run()
        found[accumulate] = (directory, state, weights(trainer.model))
    return found


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 1), (1, 6), (1, 10), (4, 1), (4, 3), (4, 5)])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    run: Run, whole, tmp_path: Path, accumulate: int, updates: int
) -> None:
    directory, wanted, final = whole[accumulate]
    settings = replace(SETTINGS, accumulate=accumulate)
    # After this update the process ends, before it can save: one update is lost and done again.
    stopped = run.trainer(tmp_path / "run", settings).run(lambda state: state.update == updates)
    assert stopped.update == updates and not stopped.finished
    torch.rand(7)  # whatever else uses the generator does not matter
    trainer = run.trainer(tmp_path / "run", settings)
    state = trainer.run()
    assert (state.update, state.epoch, state.tokens) == (wanted.update, wanted.epoch, wanted.tokens)
    assert (state.best, state.best_epoch) == (wanted.best, wanted.best_epoch)
    assert same(weights(trainer.model), final)
    assert losses_of(tmp_path / "run") == losses_of(directory)


def test_updates_are_as_many_as_the_schedule_counts(run: Run, whole) -> None:
    steps = len(run.table.batches(0, 4, 0))
    assert whole[1][1].update == 3 * steps
    assert whole[4][1].update == 3 * -(-steps // 4)
    assert steps % 4, "an epoch that ends within an accumulation is what this tests"
    assert len(losses_of(whole[4][0])) == whole[4][1].update


def test_accumulated_batches_are_one_larger_batch(run: Run, tmp_path: Path) -> None:
    """With losses that average over equally many targets: one update from two halves or the whole."""
    settings = replace(SETTINGS, dropout=0.0, epochs=1, batch=1)
    one = run.trainer(tmp_path / "one", replace(settings, batch=2))
    two = run.trainer(tmp_path / "two", replace(settings, accumulate=2))
    for trainer in (one, two):
        trainer.weights = (0.0, 1.0)  # every example has two tails
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    rows = run.table.batches(0, 2, 0)[0]
    assert len(rows) == 2
    one._update([rows])
    two._update([rows[:1], rows[1:]])
    for name, value in weights(one.model).items():
        torch.testing.assert_close(weights(two.model)[name], value, atol=1e-5, rtol=1e-4)


def test_a_finished_run_is_not_trained_again(run: Run, tmp_path: Path) -> None:
    first = run.trainer(tmp_path / "run")
    state = first.run()
    again = run.trainer(tmp_path / "run")
    resumed = again.run()
    assert resumed.finished and resumed.update == state.update
    assert same(weights(first.model), weights(again.model))


def test_seeds_decide(run: Run, whole, tmp_path: Path) -> None:
    same_seed = run.trainer(tmp_path / "same")
    same_seed.run()
    other = run.trainer(tmp_path / "other", replace(SETTINGS, seed=1))
    other.run()
    assert same(weights(same_seed.model), whole[1][2])
    assert not same(weights(other.model), whole[1][2])


def test_early_stopping_keeps_the_best_weights(run: Run, tmp_path: Path) -> None:
    # A rate that ruins what the first epochs learn, or never gets off the ground: the best comes early.
    settings = replace(SETTINGS, epochs=12, patience=2, learning_rate=0.5, warmup=0.0)
    trainer = run.trainer(tmp_path / "run", settings)
    state = trainer.run()
    figures = {entry["epoch"]: entry["ndcg@10"] for entry in state.log}
    assert state.epoch < 12 and state.epoch == state.best_epoch + 2
    assert state.best == max(figures.values()) == figures[state.best_epoch] > figures[state.epoch]
    assert same(weights(trainer.model), load_file(tmp_path / "run" / "best.safetensors"))
    ranks = target_ranks(trainer.model, run.questions, 2, 8, torch.device("cpu"))
    assert ndcg_at_10(ranks) == pytest.approx(state.best)


def test_ranks_leave_out_what_each_question_says(run: Run, tmp_path: Path) -> None:
    """A target that all others are left out for is first; without, as many stand before it as score more."""
    trainer = run.trainer(tmp_path / "run", SETTINGS)
    items = np.arange(len(run.prepared.catalog))
    plain = [(example, items[:0]) for example, _ in run.questions]
    alone = [(example, np.delete(items, example.tails[0].target)) for example, _ in run.questions]
    mixed = [pair[number % 2] for number, pair in enumerate(zip(plain, alone, strict=True))]
    ranks = [target_ranks(trainer.model, some, 2, 8, torch.device("cpu")) for some in (plain, alone, mixed)]
    assert not ranks[1].any() and ranks[0].any()
    np.testing.assert_array_equal(ranks[2], np.where(np.arange(len(plain)) % 2, 0, ranks[0]))


def test_it_learns_what_the_shop_is_made_of(run: Run, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=20, learning_rate=3e-2, dropout=0.0, checkpoint_minutes=9.0)
    trainer = run.trainer(tmp_path / "run", settings)
    state = trainer.run()
    losses = losses_of(tmp_path / "run")
    first, last = (
        np.mean([losses[at] for at in sorted(losses)[part]]) for part in (slice(3), slice(-3, None))
    )
    assert last < 0.75 * first
    items = len(run.prepared.catalog)
    chance = ndcg_at_10(np.arange(items))  # all ranks alike
    assert state.best > 1.5 * chance


def test_the_run_leaves_logs_a_checkpoint_and_the_best(whole) -> None:
    directory = whole[1][0]
    assert sorted(path.name for path in directory.iterdir()) == ["best.safetensors", "checkpoint", "log"]
    assert {path.suffix for path in (directory / "checkpoint").iterdir()} == {".safetensors", ".json"}
    state = read_json(directory / "checkpoint" / "state.json", "checkpoint")["state"]
    assert state["finished"] and [entry["epoch"] for entry in state["log"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("change", [{"batch": 2}, {"seed": 3}, {"learning_rate": 0.1}, {"epochs": 4}])
def test_other_settings_are_refused_by_name(run: Run, whole, change: dict[str, float]) -> None:
    with pytest.raises(LlmrecError, match=f"other settings .{next(iter(change))}.: restore them"):
        run.trainer(whole[1][0], replace(SETTINGS, **change)).run()


@pytest.mark.parametrize("part", ["state.json", "model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "absent"])
def test_a_damaged_checkpoint_is_one_clear_line(run: Run, tmp_path: Path, part: str, damage: str) -> None:
    run.trainer(tmp_path / "run").run(lambda state: state.update == 2)
    path = tmp_path / "run" / "checkpoint" / part
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:20])
    else:
        path.unlink()
    with pytest.raises(LlmrecError) as error:
        run.trainer(tmp_path / "run").run()
    assert "checkpoint" in str(error.value) and "\n" not in str(error.value)


def test_a_checkpoint_of_another_model_is_refused(run: Run, tmp_path: Path, checkpoints) -> None:
    run.trainer(tmp_path / "run").run(lambda state: state.update == 2)
    other, _, _ = tuned(checkpoints["gpt2"], run.prepared.catalog, AdapterSettings("none"))
    loss = RetrievalLoss(other, LossSettings(), torch.ones(24))
    trainer = RetrievalTrainer(loss, run.table, {"plain": run.questions}, SETTINGS, tmp_path / "run")
    with pytest.raises(LlmrecError, match="another model or recipe"):
        trainer.run()


def test_a_loss_that_is_no_number_is_one_error_and_spoils_nothing(run: Run, tmp_path: Path) -> None:
    run.trainer(tmp_path / "run").run(lambda state: state.update == 2)
    kept = (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes()
    trainer = run.trainer(tmp_path / "run")
    trainer.weights = (1.0, 1.0)
    trainer.model.items.text_vectors[3] = float("nan")
    with pytest.raises(
        LlmrecError, match="went astray at update 2 .*nan.*: lower the learning rates"
    ) as error:
        trainer.run()
    assert "\n" not in str(error.value)
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes() == kept


def test_two_runs_in_one_directory_are_refused(run: Run, tmp_path: Path) -> None:
    with only_writer(tmp_path / "run"), pytest.raises(LlmrecError, match="another run is writing"):
        run.trainer(tmp_path / "run").run()
    assert not (tmp_path / "run").exists()


def test_without_validation_cases_the_newest_weights_win(run: Run, tmp_path: Path) -> None:
    trainer = run.trainer(tmp_path / "run", replace(SETTINGS, epochs=2, patience=1), questions=[])
    state = trainer.run()
    assert (state.epoch, state.best_epoch, state.log) == (2, 2, [])


@pytest.mark.parametrize(
    ("loss", "changes", "items"),
    [
        ({"sampler": "popularity"}, {}, {}),
        ({"sampler": "mixed", "hard_share": 0.5, "hard_every": 2, "hard_rows": 3, "hard_top": 2}, {}, {}),
        (None, {"pack": True, "schedule": "linear"}, {"dropout": 0.3}),
        (None, {"gradient_checkpointing": True, "schedule": "constant"}, {}),
    ],
    ids=["sampled", "hard", "packed", "checkpointed"],
)
def test_with_every_option_a_run_learns_and_resumes(run: Run, tmp_path: Path, loss, changes, items) -> None:
    settings = replace(SETTINGS, epochs=1, **changes)
    sampled = loss and LossSettings(full_softmax_up_to=0, negatives=20, **loss)
    one = run.trainer(tmp_path / "one", settings, sampled, **items)
    before = weights(one.model)
    one.run()
    run.trainer(tmp_path / "two", settings, sampled, **items).run(lambda state: state.update == 4)
    two = run.trainer(tmp_path / "two", settings, sampled, **items)
    two.run()
    assert same(weights(one.model), weights(two.model)) and not same(weights(one.model), before)
    assert losses_of(tmp_path / "one") == losses_of(tmp_path / "two")
    if loss and "hard_share" in loss:
        assert len(one.pool) == 6 and torch.equal(one.pool, two.pool)
        assert torch.equal(one.retrieval.sampler.pool, one.pool)


def test_gradient_checkpointing_changes_no_gradient(run: Run, tmp_path: Path) -> None:
    found = {}
    for on in (False, True):
        settings = replace(SETTINGS, gradient_checkpointing=on)
        trainer = run.trainer(tmp_path / str(on), settings)
        trainer.run(lambda state: state.update == 1)
        found[on] = weights(trainer.model)
        assert trainer.model.language_model.is_gradient_checkpointing == on
    for name, value in found[True].items():
        torch.testing.assert_close(value, found[False][name], msg=name)


def test_half_precision_differs_by_rounding_only(run: Run, tmp_path: Path) -> None:
    found = {}
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state()  # accelerate holds one precision for a process
        settings = replace(SETTINGS, precision=precision, epochs=1, dropout=0.0, pack=True)
        run.trainer(tmp_path / precision, settings).run()
        found[precision] = losses_of(tmp_path / precision)
        AcceleratorState._reset_state()
    assert found["no"] != found["bf16"]
    assert list(found["bf16"].values()) == pytest.approx(list(found["no"].values()), rel=0.03)


def test_speed_and_padding_are_counted_and_said(run: Run, tmp_path: Path, capsys) -> None:
    shares = {}
    for pack in (False, True):
        trainer = run.trainer(tmp_path / str(pack), replace(SETTINGS, epochs=1, batch=30, pack=pack))
        state = trainer.run()
        lengths = [run.table[row].length for rows in run.table.batches(0, 30, 0) for row in rows]
        assert state.tokens == sum(lengths) < state.places
        assert state.padding_share == pytest.approx(1 - state.tokens / state.places)
        assert state.tokens_per_second == pytest.approx(state.tokens / state.seconds)
        said = capsys.readouterr().err
        assert f"{state.tokens_per_second:,.0f} tokens a second, {state.padding_share:.1%} padding" in said
        shares[pack] = state.padding_share
    widest = [max(run.table[row].length for row in rows) for rows in run.table.batches(0, 30, 0)]
    assert shares[True] <= shares[False] <= 1 - sum(lengths) / (30 * sum(widest)) + 1e-9


def test_a_checkpoint_from_before_a_setting_existed_goes_on(run: Run, tmp_path: Path) -> None:
    run.trainer(tmp_path / "run").run(lambda state: state.update == 3)
    path = tmp_path / "run" / "checkpoint" / "state.json"
    saved = read_json(path, "checkpoint")
    for name in ("schedule", "pack", "gradient_checkpointing"):
        del saved["settings"][name]
    del saved["state"]["places"]
    write_json(path, saved)
    with pytest.raises(LlmrecError, match="other settings .pack.: restore them"):
        run.trainer(tmp_path / "run", replace(SETTINGS, pack=True)).run()
    assert run.trainer(tmp_path / "run").run().finished


def test_the_backbone_and_the_new_parts_have_their_own_rates(run: Run, tmp_path: Path) -> None:
    trainer = run.trainer(tmp_path / "run", replace(SETTINGS, warmup=0.5))
    rates: list[list[float]] = []

    def watch(state: RunState) -> bool:
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        return False

    trainer.run(watch)
    new, ids, recent, backbone = np.array(rates).T
    np.testing.assert_allclose(ids, 0.1 * new)
    np.testing.assert_allclose(recent, new)
    np.testing.assert_allclose(new / backbone, 1e-2 / 5e-4)
    assert np.argmax(new) in (len(new) // 2 - 1, len(new) // 2) and new.max() <= 1e-2
    assert 0 < new[0] < 0.1 * new.max() + 1e-3 and new[-1] < 0.02 * new.max()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", lambda update, updates, warm: 1.0),
        ("linear", lambda update, updates, warm: (updates - update) / (updates - warm)),
        ("cosine", lambda update, updates, warm: 0.5 * (1 + np.cos(np.pi * update / updates))),
    ],
)
def test_schedules_warm_up_and_then_go_their_ways(run: Run, tmp_path: Path, schedule: str, expected) -> None:
    trainer = run.trainer(tmp_path / "run", replace(SETTINGS, warmup=0.25, schedule=schedule))
    warm = 0.25 * trainer.updates
    for update in range(trainer.updates):
        trainer.state.update = update
        wanted = (update + 1) / warm if update < warm else expected(update, trainer.updates, warm)
        assert trainer._scale() == pytest.approx(wanted) and 0 < trainer._scale() <= 1.3


def test_the_table_holds_the_examples_and_epochs_turn_over_its_versions(run: Run) -> None:
    train = run.prepared.train("leave-last-out")
    usable = [user for user in range(len(train)) if len(train.history(user)) > 1]
    assert len(run.table) == 2 * len(usable)
    again = run.builder.example(train.history(usable[0]), {}, np.random.default_rng([0, 0, usable[0]]))
    assert run.table[0] == again
    for epoch in range(4):
        rows = np.concatenate(run.table.batches(epoch, 4, 0))
        assert sorted(rows) == list(range(len(usable) * (epoch % 2), len(usable) * (epoch % 2 + 1)))
        assert max(map(len, run.table.batches(epoch, 4, 0))) == 4
    assert not np.array_equal(
        np.concatenate(run.table.batches(0, 4, 0)), np.concatenate(run.table.batches(2, 4, 0))
    )


def test_a_shop_where_nobody_came_back_has_nothing_to_learn(run: Run, tmp_path: Path) -> None:
    class Alone(type(run.prepared)):
        def train(self, split: str):
            return self.histories.select(np.zeros(len(self.histories.items), dtype=bool))

    with pytest.raises(DataError, match="no user has two training events"):
        build_examples(
            run.builder, Alone(run.prepared.directory), "leave-last-out", tmp_path / "table", seed=0
        )
    assert not list(tmp_path.iterdir())


def test_what_goes_wrong_in_a_row_is_said_as_it_was(run: Run, tmp_path: Path) -> None:
    def goals(history):
        raise LlmrecError("this wish has no words")

    builder = builder_of(run.prepared.catalog, run.tokens, goals)
    with pytest.raises(LlmrecError, match="this wish has no words"):
        build_examples(builder, run.prepared, "leave-last-out", tmp_path / "table", seed=0)
    assert not list(tmp_path.iterdir())
