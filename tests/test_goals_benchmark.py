"""One universal model against specialists: same data, same updates, same questions, and a run end to end."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from goal_shop import SPLIT
from tiny_bundles import recipe_values, write_recipe

from llmrec.config import load_recipe
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.evaluate.report import read_report
from llmrec.tune.goals import GoalMaker
from llmrec.verbalize.templates import Templates

ROOT = Path(__file__).parents[1]
GOALS = {
    "add": {"watch": {}},
    "only": ["watch", "long-tail", "cheap", "long-tail+again"],
    "held_out": ["cheap+long-tail"],
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "goals", raising=False)
    return importlib.import_module("goals")


def test_a_run_ends_in_tables_and_goes_on_where_it_stopped(
    script: ModuleType, shop: Prepared, checkpoints, tmp_path: Path, capsys
) -> None:
    examples = {"versions": 2, "cuts": 3, "asks": 2, "wish_share": 1.0}
    values = recipe_values(
        shop.directory, tmp_path / "unused", checkpoints["gpt2"], split=SPLIT, goals=GOALS, examples=examples
    )
    recipe = write_recipe(tmp_path / "mine.yaml", values)
    run = ["--recipes", str(recipe), "--out", str(tmp_path / "out"), "--users", "16", "--questions", "9"]
    script.main([*run, "--specialists", "long-tail"])
    out = tmp_path / "out" / "mine"
    data = Prepared(out / "data")
    assert (np.diff(data.train(SPLIT).offsets) > 0).sum() == 16
    assert (np.diff(shop.train(SPLIT).offsets) > 0).sum() == len(shop.histories)
    rows = read_report(out / "report.json")["rows"]
    asked = {
        (row["model"], row["seed"], row["objective"], row["said"]): row
        for row in rows
        if not row.get("enforced")
    }
    universal = {goal for model, seed, goal, _ in asked if (model, seed) == ("universal", 1)}
    assert universal == {f"goal:{name}" for name in (*GOALS["only"], "cheap+long-tail")}
    special = {goal for model, _, goal, _ in asked if model == "specialist long-tail"}
    assert special == {"goal:long-tail", "goal:long-tail+again", "goal:cheap+long-tail"}
    for (model, seed, goal, said), row in asked.items():
        assert row["users"] == asked["popularity", 0, goal, False]["users"] <= 9
        if model == "specialist long-tail":
            theirs = asked["universal", seed, goal, said]
            assert row["updates"] == theirs["updates"] and row["tokens"] < theirs["tokens"]
    page = (out / "report.md").read_text()
    for words in (
        "| cheap+long-tail | never |",
        "| long-tail+again | yes |",
        "16 users, 30 items",
        "over 1 goals",
    ):
        assert words in page
    compared = read_report(out / "report.json")["comparisons"]
    assert {(each["first"], each["second"]) for each in compared} == {("universal", "specialist long-tail")}
    assert {each["metric"] for each in compared} == {"ndcg@10", "recall@10"}
    assert not list(out.glob("*/seed*/bundle.work"))
    # What is done stays as it is; what is not waits for time.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/**/*")}
    capsys.readouterr()
    script.main([*run, "--specialists", "long-tail", "cheap", "--minutes", "0"])
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/seed*/**/*")}
    assert f"no time for {out / 'cheap' / 'seed1'}" in capsys.readouterr().err
    with pytest.raises(LlmrecError, match="made with other settings"):
        script.main([*run, "--epochs", "2"])


@pytest.mark.parametrize("name", ["ml-1m", "online-retail"])
def test_a_specialist_trains_its_goal_alone_and_nobody_what_is_held_out(
    script: ModuleType, name: str
) -> None:
    recipe = load_recipe(ROOT / "finetune" / "recipes" / f"goals-{name}.yaml")
    assert (ROOT / recipe.data).is_file() and recipe.split == "leave-last-10" and recipe.train.patience == 0
    cells = list(script.cells_of(recipe, recipe, script.singles(recipe), [1], Path("out")))
    assert [cell.name for cell in cells] == ["universal", *script.singles(recipe)]
    for cell in cells[1:]:
        assert cell.recipe.goals.only == (cell.name,) and not cell.recipe.goals.held_out
        assert cell.recipe.examples == replace(cells[0].recipe.examples, asks=1)
        for field in ("train", "model_settings", "loss", "prompt"):
            assert getattr(cell.recipe, field) == getattr(cells[0].recipe, field)
        assert cell.recipe.goals.add == recipe.goals.add
    held = [frozenset(each.split("+")) for each in recipe.goals.held_out]
    assert held and not any(set(each.split("+")) >= one for each in recipe.goals.only for one in held)


def test_the_universal_model_alone_may_train_for_longer(script: ModuleType) -> None:
    base = load_recipe(ROOT / "finetune" / "recipes" / "goals-online-retail.yaml")
    single, universal = (script.changed(base, script.parsed([]), epochs) for epochs in (2, 4))
    first, *others = script.cells_of(universal, single, ["cheap"], [1], Path("out"))
    assert [each.recipe.train.epochs for each in (first, *others)] == [4, 2]
    assert [each.recipe.examples.versions for each in (first, *others)] == [4, 2]


def test_the_goals_of_the_recipes_are_those_of_the_shipped_table_or_their_own(shop: Prepared) -> None:
    for path in sorted((ROOT / "finetune" / "recipes").glob("goals-*.yaml")):
        goals = load_recipe(path).goals
        maker = GoalMaker.of(shop, SPLIT, Templates.load())
        table = maker.table.extended(goals.add, str(path)).weighted(goals.weights)
        for name in (*goals.only, *goals.held_out):
            assert table.goal(name).parts == tuple(name.split("+"))
