"""The benchmarks of engines and of the service run on tiny bundles, and print what they promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pages import table_after
from served import copied, served

Script = Callable[[str], ModuleType]

pytestmark = pytest.mark.usefixtures("own_threads")


def test_nothing_fails_while_bundles_are_loaded(
    script_of: Script, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with served(copied(tiny_bundle, tmp_path)) as running:
        users = running.own.bundles.current.prepared.histories.users
        assert script_of("serving").reloads(users, running.url, 2, 3)
    said = capsys.readouterr().out
    assert "{200: " in said and "2 of change" in said and "version 3 answers at the end" in said


def test_a_service_that_is_killed_loses_nothing(
    script_of: Script, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
):
    """One kill of a real process; the benchmark does fifty."""
    with pytest.raises(SystemExit) as ended:
        script_of("service_kills").main([str(tiny_bundle), "--kills", "1"])
    assert not ended.value.code
    ((kills, again, events, _, *wrong, done),) = table_after(capsys.readouterr().out, "| kills |")
    assert (kills, again, wrong) == ("1", "1", ["0"] * 4)
    assert int(events.replace(",", "")) > 0 and int(done) <= 5


def test_beams_on_the_engines_that_are_there(
    script_of: Script, checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    """Without vLLM: ours on transformers beside `generate`, for each width and batch."""
    words = ["--model", str(next(iter(checkpoints.values()))), "--items", "300", "--levels", "3"]
    words += [
        "--prompt",
        "20",
        "--beams",
        "2",
        "4",
        "--batches",
        "1",
        "2",
        "--generate",
        "1",
        "--rounds",
        "1",
    ]
    script_of("engines").main(words)
    rows = table_after(capsys.readouterr().out, "| beams |")
    assert [row[:2] for row in rows if "raw" in row[2]] == [["2", "1"], ["2", "2"], ["4", "1"], ["4", "2"]]
    assert sum("`generate`" in row[2] for row in rows) == 2 and len(rows) == 10
