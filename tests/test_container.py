"""The container and compose files pass their linters, and name options that there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from llmrec import cli

SERVE = Path(__file__).parents[1] / "serve"
COMPOSE = yaml.safe_load((SERVE / "compose.yaml").read_text(encoding="utf-8"))
CONTAINER = (SERVE / "Containerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", SERVE / "Containerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", SERVE / "compose.yaml"),
    ],
)
def test_linters_find_nothing(command: tuple[str | Path, ...]):
    name, *arguments = command
    found = subprocess.run(
        [Path(sys.executable).with_name(str(name)), *arguments], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_service_is_started_with_options_that_there_are():
    (line,) = [line for line in CONTAINER.splitlines() if line.startswith("CMD [")]
    serve = typer.main.get_command(cli.app).commands["serve"]
    for words in (yaml.safe_load(line.removeprefix("CMD ")), COMPOSE["services"]["service"]["command"]):
        assert words[0] == "serve"
        assert serve.make_context("serve", list(words[1:])).params["host"] == "0.0.0.0"


def test_redis_is_set_as_a_store_must_be():
    words = COMPOSE["services"]["redis"]["command"].split()
    settings = dict(zip(words[1::2], words[2::2], strict=True))
    assert (settings["--appendonly"], settings["--appendfsync"]) == ("yes", "always")
    assert settings["--maxmemory-policy"] == "noeviction"


def test_every_service_is_bounded_and_watched():
    for each in COMPOSE["services"].values():
        assert {"cpus", "memory"} == set(each["deploy"]["resources"]["limits"])
        assert each["healthcheck"]["test"] and each["cap_drop"] == ["ALL"] and "volumes" in each
        assert each["user"] != "root"


def test_the_image_has_no_root_and_what_is_copied_is_there():
    lines = CONTAINER.splitlines()
    assert "USER 10001" in lines
    ignored = (SERVE / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (SERVE.parent / name).exists() and f"!{name}" in ignored
