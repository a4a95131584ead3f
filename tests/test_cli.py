"""The command line: help, one line for a mistake, exit codes, interruption, a closed pipe."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from llmrec import __version__, cli
from llmrec.errors import DataError, LlmrecError, MissingExtraError

ROOT = Path(__file__).parents[1]


def llmrec(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmrec.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def run_main(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["llmrec", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return exit_info.value.code


@pytest.fixture
def probe(monkeypatch):
    """A command line with one more command, `probe`, that calls the function it is given."""

    def install(action):
        app = typer.Typer(pretty_exceptions_enable=False)
        app.callback()(lambda: None)
        app.command("probe")(action)
        monkeypatch.setattr(cli, "app", app)

    return install


def test_help_lists_every_command():
    result = llmrec("--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for info in cli.app.registered_commands:
        name = info.name or info.callback.__name__.replace("_", "-")
        assert f" {name} " in result.stdout
    assert llmrec().stdout == result.stdout


def test_every_command_has_help():
    commands = typer.main.get_command(cli.app).commands
    assert "version" in commands
    for name, command in commands.items():
        assert command.help or command.commands, name


def test_version():
    assert llmrec("version").stdout == f"{__version__}\n"


@pytest.mark.parametrize("arguments", [("recomend",), ("version", "--nonsense"), ("version", "surplus")])
def test_usage_error_is_one_line(arguments):
    result = llmrec(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("llmrec: ")
    assert result.stderr.count("\n") == 1


def test_explained_error_is_one_line(monkeypatch, capsys, probe):
    def fail() -> None:
        raise DataError("items.csv, row 3:\n no title \x1b[31m\u202e; add one")

    probe(fail)
    assert run_main(monkeypatch, "probe") == 2
    captured = capsys.readouterr()
    assert captured.err == "llmrec: items.csv, row 3: no title ?[31m?; add one\n"
    assert captured.out == ""


def test_error_chooses_its_exit_code(monkeypatch, capsys, probe):
    class FailedElsewhere(LlmrecError):
        exit_code = 7

    def fail() -> None:
        raise FailedElsewhere("a child failed")

    probe(fail)
    assert run_main(monkeypatch, "probe") == 7
    assert capsys.readouterr().err == "llmrec: a child failed\n"


@pytest.mark.parametrize(("code", "seen"), [(1, 1), (0, 0), (None, 0)])
def test_exit_code_of_a_command(monkeypatch, probe, code, seen):
    def leave() -> None:
        if code is not None:
            raise typer.Exit(code)

    probe(leave)
    assert run_main(monkeypatch, "probe") == seen


def test_missing_package_names_its_extra(monkeypatch, capsys, probe):
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    probe(fail)
    assert run_main(monkeypatch, "probe") == MissingExtraError.exit_code
    assert "pip install 'llmrec[train]'" in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(monkeypatch, probe):
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'llmrec.absent'", name="llmrec.absent")

    probe(fail)
    monkeypatch.setattr(sys, "argv", ["llmrec", "probe"])
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_interruption(monkeypatch, capsys, probe):
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    probe(interrupted)
    assert run_main(monkeypatch, "probe") == 130
    assert capsys.readouterr().err == "llmrec: interrupted\n"


def test_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "llmrec.cli", "--help"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert result.returncode not in (0, 2)
    assert result.stderr == ""


def test_closed_pipe_after_the_command_is_quiet():
    """A short output is only written when the program ends."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "llmrec.cli", "version"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert result.stderr == ""
