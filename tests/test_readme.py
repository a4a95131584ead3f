"""The README holds: its tree, its commands and its Python."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from llmrec import cli

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)[1]


def tree() -> list[str]:
    """Paths of the tree, those two levels deep with their folder."""
    lines = re.findall(r"^    ( *)(\S+)", section("The tree"), re.MULTILINE)
    paths, folder = [], ""
    for indent, name in lines:
        paths.append(folder + name if indent else name)
        folder = folder if indent else name
    return paths


def tracked() -> list[str]:
    """Files of the checkout that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_tree_names_what_exists():
    files = tracked()
    missing = [path for path in tree() if not any(file == path or file.startswith(path) for file in files)]
    assert missing == []


def test_tree_names_every_stage():
    parts = [file.split("/") for file in tracked()]
    stages = {f"llmrec/{part[1]}" + "/" * (len(part) > 2) for part in parts if part[0] == "llmrec"}
    folders = {f"{part[0]}/" for part in parts if len(part) > 1 and not part[0].startswith(".")}
    assert (stages | folders) - {"llmrec/__init__.py"} <= set(tree())


def commands(program: str) -> list[list[str]]:
    """Arguments of the program's calls: those in backquotes and those that are indented code."""
    return [
        shlex.split(call, comments=True)
        for call in re.findall(rf"(?:`|^ {{4}}){program} ([^`\n]+)", TEXT, re.M)
    ]


def test_make_targets_and_variables_exist():
    makefile = (ROOT / "Makefile").read_text()
    calls = commands("make")
    assert ["demo"] in calls
    for argument in (argument for call in calls for argument in call):
        name, is_variable, _ = argument.partition("=")
        pattern = rf"^{name} \?=" if is_variable else rf"^{name}:"
        assert re.search(pattern, makefile, re.MULTILINE), argument


def test_llmrec_commands_exist():
    known = typer.main.get_command(cli.app).commands
    assert [call for call in commands("llmrec") if call[0] not in known] == []


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_python_runs(code, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
