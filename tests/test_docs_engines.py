"""The example of docs/engines.md streams what `write` gives as a whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llmrec.decode.writing import write

PAGE = (Path(__file__).parents[1] / "docs" / "engines.md").read_text(encoding="utf-8")


def test_the_example_streams(checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]):
    (code,) = (each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "stream(" in each)
    names: dict[str, Any] = {}
    exec(code.replace("smollm2-135m", str(checkpoints["llama"])), names)
    engine, prompt, allowed, end = (names[name] for name in ("engine", "prompt", "allowed", "end"))
    assert [names["written"]] == write(engine, prompt, allowed, lambda row: row[-1] == end, 32)
    assert capsys.readouterr().out
