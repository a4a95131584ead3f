"""The ablation: what its splits hold out, that cells are shared and resumed, and a run end to end."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import recipe_values, tiny_recipe, write_recipe

from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.evaluate.report import read_report

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "ablation.py"


@pytest.fixture(scope="module")
def ablation():
    spec = importlib.util.spec_from_file_location("ablation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["ablation"]


def test_unseen_items_are_in_no_training_event(ablation, slice_of_sample: Prepared, tmp_path: Path) -> None:
    whole, split = slice_of_sample, "leave-last-out"
    made = ablation.write_data(whole, split, ablation.Protocol(0.2, 40, 0), tmp_path / "data")
    train, before = made.train(ablation.SPLIT), whole.train(split)
    seen = np.unique(train.items)
    held = np.setdiff1d(np.unique(before.items[: before.offsets[40]]), seen)
    assert 8 <= len(held) <= 0.2 * len(whole.catalog)
    assert np.diff(train.offsets)[40:].sum() == 0 and np.diff(train.offsets)[:40].sum() > 0
    assert not np.isin([case.target for case in made.cases(ablation.SPLIT, "valid")], held).any()
    tests = made.cases(ablation.SPLIT, "test")
    assert tests == [case for case in whole.cases(split, "test") if case.user < 40]
    unseen = made.cases(ablation.UNSEEN, "test")
    assert unseen and not np.isin([case.target for case in unseen], seen).any()
    folds = whole.folds(split)
    for case in unseen:  # the newest event outside training that has such an item
        assert case.user < 40
        last = range(int(whole.histories.offsets[case.user]), int(whole.histories.offsets[case.user + 1]))
        later = [whole.histories.items[row] for row in last[case.cut + 1 :]]
        assert np.isin(later, seen).all() and folds[last[case.cut]] > 0
    assert (made.name, len(made.catalog)) == (whole.name, len(whole.catalog))


def test_settings_that_are_the_recipe_are_its_base_and_cells_are_shared(ablation, tmp_path: Path) -> None:
    recipe = tiny_recipe("data", "out", "model", layers=2, prompt={"queries": 4}, adapter={"kind": "full"})
    settings = ablation.settings_of(recipe, list(ablation.AXES))
    assert "M = 4" not in settings["query tokens"] and "2 layers" not in settings["depth"]
    assert "full" not in settings["tuning"] and all("base" in named for named in settings.values())
    assert settings["query tokens"]["M = 16"].prompt.queries == 16
    assert settings["query tokens"]["M = 16"].adapter == recipe.adapter
    assert settings["depth"]["all layers"].layers is None
    assert settings["head"]["plain head"] == settings["backbone"]["plain head"] != recipe
    cells = ablation.cells_of(settings, [5, 6], tmp_path)
    names = [cell.name for cell in cells]
    assert len({cell.directory for cell in cells}) == len(cells) and names.count("plain head") == 2
    assert names[: len(names) // 2] == names[len(names) // 2 :]  # one seed after another
    assert {cell.recipe.train.seed for cell in cells} == {5, 6}
    for cell in cells:
        assert Path(cell.recipe.out).parent == cell.directory


def test_a_run_ends_in_tables_and_goes_on_where_it_stopped(
    ablation, slice_of_sample: Prepared, checkpoints, tmp_path: Path, capsys
) -> None:
    values = recipe_values(slice_of_sample.directory, "unused", checkpoints["llama"])
    prompt = {"queries": 2, "max_events": 12, "gaps": False}
    recipe = write_recipe(tmp_path / "recipe.yaml", {**values, "prompt": prompt})
    command = ["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--axes", "query tokens"]
    command += ["--users", "25", "--unseen", "0.3", "--wish-questions", "2"]
    ablation.AXES, axes = {"query tokens": {"M = 1": {"prompt": {"queries": 1}}}}, ablation.AXES
    try:
        ablation.main([*command, "--seeds", "1", "--minutes", "0"])
        assert "| base |" not in capsys.readouterr().out
        ablation.main([*command, "--seeds", "1"])
        first = capsys.readouterr()
        figures = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("figures.json")}
        ablation.main([*command, "--seeds", "1", "2"])
        second = capsys.readouterr()
        with pytest.raises(LlmrecError, match="was made with other settings: choose another --out"):
            ablation.main([*command, "--seeds", "1", "--epochs", "2"])
    finally:
        ablation.AXES = axes
    assert "seed 1" in first.err and "seed 1" not in second.err and len(figures) == 2
    assert {path: path.stat().st_mtime_ns for path in figures} == figures
    assert "| base | 1 |" in first.out and "| base | 2 |" in second.out and "| M = 1 | 2 |" in second.out
    assert second.out.strip() == (tmp_path / "out" / "report.md").read_text().strip()
    assert second.out.count(" ±") >= 2 * 5
    rows = read_report(tmp_path / "out" / "report.json")["rows"]
    assert {(row["model"], row["seed"]) for row in rows} == {
        (name, seed) for name in ("base", "M = 1") for seed in (1, 2)
    }
    assert {row["split"] for row in rows} == {"ablation", "ablation-unseen"}
    assert any(row["objective"].startswith("wish:") for row in rows)
    cells = tmp_path / "out" / "cells"
    assert sorted(path.name for path in cells.iterdir()) == ["M-1", "base"]
    assert (cells / "base" / "seed2" / "bundle" / "manifest.json").is_file()
    assert not list(cells.rglob("*.work"))
