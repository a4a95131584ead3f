"""The example of docs/decoding.md runs, and what the page says of settings is so."""

import dataclasses
import re
import runpy
from pathlib import Path

import pytest

from llmrec.decode.beam import BeamSettings
from llmrec.decode.conventions import SCORES

PAGE = (Path(__file__).parents[1] / "docs" / "decoding.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    names = runpy.run_path("example.py")
    assert names["items"].shape == names["scores"].shape == (2, 3)
    assert sorted(names["items"][0]) == [0, 1, 3]


def test_every_setting_is_there_with_its_default():
    said = dict(re.findall(r"^\| `(\w+)` \| `?([\w.]+)`? \|", PAGE, re.MULTILINE))
    assert said == {field.name: str(field.default) for field in dataclasses.fields(BeamSettings)}


def test_every_kind_of_scores_is_there():
    assert set(SCORES) <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
