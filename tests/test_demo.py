"""`llmrec demo`: its stages are commands that exist, it runs from end to end and skips what is finished."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny_bundles import recipe_values, write_recipe

from llmrec import cli
from llmrec.config import load_recipe
from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml
from llmrec.decode.filters import FilterIndex, from_objective, merge
from llmrec.demo import CUSTOMERS, OTHER_WISH, customers, demo_stages, recipe_path
from llmrec.errors import LlmrecError
from llmrec.evaluate.report import read_report
from llmrec.recommend import NOTHING_SEEN
from llmrec.stages import llmrec_command
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.parse import parse

Run = Callable[..., tuple[int, str, str]]


def parsed(command: list[str]) -> dict[str, Any]:
    """What the command line makes of a stage's command, without running it; a wrong one raises."""
    assert command[:3] == llmrec_command()
    found, rest = typer.main.get_command(cli.app), command[3:]
    while hasattr(found, "commands"):
        found, rest = found.commands[rest[0]], rest[1:]
    return found.make_context("stage", rest).params


def test_the_stages_of_the_sample(tmp_path: Path):
    path = recipe_path("sample")
    stages = demo_stages(tmp_path, path, load_recipe(path))
    names = ["fetch smollm2-135m", "fetch all-minilm-l6-v2", "validate", "prepare", "fine-tune", "evaluate"]
    assert [stage.name for stage in stages] == names
    options = [parsed(list(stage.command)) for stage in stages]
    assert [each["name"] for each in options[:2]] == ["smollm2-135m", "all-minilm-l6-v2"]
    assert options[2]["data"] == options[3]["data"] == sample_yaml()
    assert options[3]["out"] == tmp_path / "data"
    assert (options[4]["data"], options[4]["out"]) == (str(tmp_path / "data"), str(tmp_path / "bundle"))
    assert (options[5]["bundle"], options[5]["out"]) == (tmp_path / "bundle", tmp_path / "evaluation")
    made = {output for stage in stages for output in stage.outputs}
    for stage in stages:
        assert all(path in made or path.exists() for path in stage.inputs)


def test_only_what_a_recipe_needs_is_a_stage(slice_of_sample: Prepared, tmp_path: Path):
    path = write_recipe(tmp_path / "r.yaml", recipe_values(slice_of_sample.directory, "unused", "some/model"))
    stages = demo_stages(tmp_path, path, load_recipe(path))
    assert [stage.name for stage in stages] == ["fine-tune", "evaluate"]
    assert parsed(list(stages[0].command))["data"] == str(slice_of_sample.directory)


def test_a_recipe_that_does_not_come_with_llmrec():
    with pytest.raises(LlmrecError, match="no recipe 'zoo'"):
        recipe_path("zoo")


def test_the_customers_wishes_leave_enough_to_choose_from(sample: Prepared):
    """Each wish is understood, limits the list, and leaves more items than the demo shows."""
    assert customers(sample.histories) == list(CUSTOMERS)
    index, lexicon = FilterIndex(sample.catalog), Lexicon(sample.catalog)
    for user, wish in CUSTOMERS:
        history = sample.histories.history(sample.histories.index(user))
        read = parse(wish, lexicon)
        allowed = index.mask(merge(NOTHING_SEEN, from_objective(read)), history)
        assert not read.rest, wish
        assert 5 <= allowed.sum() < index.mask(NOTHING_SEEN, history).sum(), (wish, read, allowed.sum())


def test_customers_of_other_data_are_its_first_users(slice_of_sample: Prepared):
    users = slice_of_sample.histories.users
    known = {user for user, _ in CUSTOMERS} & set(users)
    assert [user for user, _ in customers(slice_of_sample.histories)] == sorted(known or users[:3])
    assert OTHER_WISH


def test_from_end_to_end_and_again(
    run: Run, slice_of_sample: Prepared, checkpoints: dict[str, Path], tmp_path: Path
):
    data = slice_of_sample.directory.parent / "data.yaml"
    values = recipe_values(
        data, "unused", checkpoints["llama"], prompt={"queries": 2, "max_events": 8, "gaps": False}
    )
    recipe, place = write_recipe(tmp_path / "recipe.yaml", values), tmp_path / "demo"
    code, shown, err = run("demo", "--directory", place, "--recipe", recipe)
    assert code == 0, err
    for number, name in enumerate(("validate", "prepare", "fine-tune", "evaluate"), 1):
        assert f"[{number}/4] {name}: done in" in err
    report = read_report(place / "report.json")
    assert set(report["environment"]["stages"]) == {"validate", "prepare", "fine-tune", "evaluate"}
    assert 0.05 < report["environment"]["peak_memory_gib"] < 4
    assert (place / "report.md").read_text().count("sasrec") > 2
    asked = customers(slice_of_sample.histories)
    for user, wish in asked:
        assert f"For customer {user}\n" in shown
        assert f'For customer {user}: "{wish}"' in " ".join(shown.split())
    assert shown.count("weighed most: fall of log-probability") > len(asked)
    ask = shlex.split(shown.splitlines()[-1])
    assert ask[0] in (sys.executable, str(Path(sys.executable).parent / "llmrec"))
    code, answer, _ = run(*ask[ask.index("recommend") :], "--json")
    assert code == 0 and json.loads(answer)["items"]

    code, again, err = run("demo", "--directory", place, "--recipe", recipe)
    assert code == 0 and err.count("finished before") == 4 and "done in" not in err
    assert again == shown
