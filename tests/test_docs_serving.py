"""docs/serving.md names every endpoint and option, and its Python runs against a service."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from served import Served

from llmrec import cli

BUYER = "12380"
"""A user of the slice of the sample whom no other test knows."""
PAGE = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_every_endpoint_is_named(service: Served):
    paths = {path.replace(":path", "") for path in service.http.get("/openapi.json").json()["paths"]}
    assert paths == set(re.findall(r"^\| `(?:GET|POST) (/[\w/{}]+)` \|", PAGE, re.MULTILINE))


def test_every_option_is_named():
    command = typer.main.get_command(cli.app).commands["serve"]
    options = {name for each in command.params for name in each.opts if name.startswith("--")}
    for name in options - {"--page", "--log"}:
        assert f"`{name}`" in PAGE, name


def test_the_example_runs(service: Served):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code.replace("http://127.0.0.1:8000", service.url).replace("12583", BUYER), {})
    assert service.http.get(f"/v1/users/{BUYER}").json()["in_store"] == 1
