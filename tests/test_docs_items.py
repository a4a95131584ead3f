"""docs/items.md holds, and a changed bundle is asked and measured like any other."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.bundle import Bundle
from llmrec.data.item_rows import FIELDS

Run = Callable[..., tuple[int, str, str]]


def test_asking_and_measuring_at_once(run: Run, tiny_bundle: Path, tmp_path: Path):
    """A new item is found by its words and liked by its title; a changed bundle is measured."""
    directory = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    new = {"id": "new-1", "title": "Zebra Umbrella", "price": 2.5, "attributes": {"colour": "Pink"}}
    (tmp_path / "new.jsonl").write_text(json.dumps(new))
    assert run("items", "add", directory, tmp_path / "new.jsonl")[0] == 0
    asked = ("recommend", directory, "--history", "", "--json", "--no-why")
    code, out, err = run(*asked, "--say", "a zebra")
    assert code == 0 and [a["item"] for a in json.loads(out)["items"]] == ["new-1"], err
    code, out, _ = run(*asked, "--say", "like the Zebra Umbrella")
    assert code == 0 and any("Zebra Umbrella" in part for part in json.loads(out)["left"])
    code, out, _ = run(*asked, "--attribute", "colour=pink", "--max-price", "2.5", "-k", "60")
    assert "new-1" in [a["item"] for a in json.loads(out)["items"]]
    assert run("recommend", directory, "--history", "new-1,85123A", "--no-why")[0] == 0

    prepared = Bundle(directory).prepared
    cases = prepared.cases("leave-last-out", "test")
    targets = [prepared.catalog[case.target].id for case in cases]
    gone = tmp_path / "gone.txt"
    gone.write_text(targets[0])
    assert run("items", "retire", directory, gone)[0] == 0
    code, out, err = run("evaluate", directory, "--baselines", "popularity,ease", "--wish-questions", "2")
    assert code == 0, err
    report = json.loads((tmp_path / "bundle.report" / "report.json").read_text())
    users = {row["users"] for row in report["rows"] if row["objective"] == "next-item"}
    assert users == {len(cases) - targets.count(targets[0])}


def test_the_page_holds(run: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """docs/items.md: its lines are a file that can be added, its commands run in their order."""
    page = (Path(__file__).parents[1] / "docs" / "items.md").read_text(encoding="utf-8")
    shutil.copytree(tiny_bundle, tmp_path / "BUNDLE")
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    (\{.*\})$", page, re.MULTILINE)
    (tmp_path / "new.jsonl").write_text("\n".join(lines))
    (tmp_path / "changed.jsonl").write_text(lines[0].replace("Zebra", "Okapi"))
    (tmp_path / "gone.txt").write_text("24002\n")
    commands = re.findall(r"^    llmrec (items .*)$", page, re.MULTILINE)
    assert len(commands) == 5 and len(lines) == 2
    for command in commands:
        code, out, err = run(*command.split())
        assert (code, err) == (0, ""), (command, err)
    assert [line.split()[0] for line in run("items", "versions", "BUNDLE")[1].splitlines()] == list("12345")
    for name in ("neighbours", "mean", "zero", *FIELDS):
        assert f"| `{name}`" in page
    shutil.rmtree(tmp_path / "BUNDLE.versions")
    shutil.rmtree(tmp_path / "BUNDLE")
    shutil.copytree(tiny_bundle, tmp_path / "BUNDLE")
    (tmp_path / "script.py").write_text(*re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    runpy.run_path(str(tmp_path / "script.py"))
    assert len(Bundle(tmp_path / "BUNDLE").catalog) == 63
