"""The example of docs/search.md runs, and what the page says of settings is so."""

import dataclasses
import re
import runpy
from pathlib import Path

import pytest

from llmrec.retrieve.settings import SearchSettings

PAGE = (Path(__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    names = runpy.run_path("example.py")
    assert names["items"].shape == names["scores"].shape == (3, 10)
    assert (tmp_path / "INDEX" / "index.json").is_file()


def test_every_setting_is_there_with_its_default():
    said = dict(re.findall(r"^\| `(\w+)` \| `?(\w+)`? \|", PAGE, re.MULTILINE))
    assert said == {field.name: str(field.default) for field in dataclasses.fields(SearchSettings)}
