"""docs/asking.md holds: commands and Python run, tables name all options and all of the output."""

import dataclasses
import json
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from llmrec import cli
from llmrec.decode.why import MOST_ITEMS, Cause
from llmrec.recommend import Answer, Answers, Shop
from llmrec.verbalize.parse import WISH_LIMIT as READ_LIMIT
from llmrec.verbalize.render import WISH_LIMIT as HEARD_LIMIT

TEXT = (Path(__file__).parents[1] / "docs" / "asking.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (llmrec recommend .+)$", TEXT, re.MULTILINE)
ENFORCED = [
    ("jam under 3 pounds", True),
    ("between 1 and 3 pounds", True),
    ("bags", True),
    ("not pink", True),
    ("in Baking", True),
    ("nothing from Baking", True),
    ("colour Red", True),
    ("not colour Red", True),
    ("cheap", True),
    ("high-end", True),
    ("something new for me", True),
    ("something I had before", True),
    ("from a category new to me", True),
    ("hidden gems", True),
    ("newly added", True),
    ("a varied list", True),
    ("like the Popcorn Holder", False),
    ("for Christmas", False),
    ("that I will event", False),
    ("that I will rate 4 or more", False),
    ("cheerful", False),
]


def test_there_are_examples():
    assert len(COMMANDS) == 7


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(run: Callable[..., tuple[int, str, str]], tiny_bundle: Path, command: str):
    arguments = [str(tiny_bundle) if word == "BUNDLE" else word for word in shlex.split(command)[1:]]
    code, out, err = run(*arguments)
    assert code == 0, err
    if "--json" in arguments:
        assert set(json.loads(out)) == {field.name for field in dataclasses.fields(Answers)}
    else:
        assert all(word in out for word in ("item", "title", "price", "score"))


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_python_runs(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str):
    script = tmp_path / "script.py"
    script.write_text(code.replace('"BUNDLE"', repr(str(tiny_bundle))))
    runpy.run_path(str(script))
    assert len(capsys.readouterr().out.splitlines()) > 0


def test_every_option_is_explained():
    options = {
        name
        for parameter in typer.main.get_command(cli.app).commands["recommend"].params
        for name in parameter.opts
        if name.startswith("--")
    }
    named = set(re.findall(r"--[a-z-]+", TEXT))
    switched = {f"--{name.removeprefix('--no-')}" for name in named if name.startswith("--no-")}
    assert options - named - switched == {"--k"} & options


def test_the_output_is_explained():
    for kind in (Answer, Cause):
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in TEXT, field.name
    for field in dataclasses.fields(Answers):
        assert f"`{field.name}`" in TEXT, field.name
    assert f"each of the {MOST_ITEMS} newest" in TEXT
    assert f"first {HEARD_LIMIT} characters" in TEXT and f"first {READ_LIMIT}" in TEXT


def test_the_table_names_what_is_tried():
    tried = {say for say, _ in ENFORCED}
    assert (
        len(set(re.findall(r'"([^"]+)"', TEXT.partition("| part |")[2].partition("Names are")[0])) & tried)
        > 15
    )


@pytest.mark.parametrize(("say", "enforced"), ENFORCED)
def test_the_table_of_what_is_enforced(tiny_bundle: Path, say: str, enforced: bool):
    answers = Shop.open(tiny_bundle).ask(history=["22423"], say=say)
    from_wish = set(answers.enforced) - {"nothing that is in the history"}
    assert bool(from_wish or say == "something new for me") == enforced
    assert bool(answers.left) != enforced
