"""Files and directories that are replaced as a whole, wherever an interrupt hits."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from llmrec.files import replace_directory, replace_file


def interrupted_at(number: int, action: Callable[[], None]) -> bool:
    """Do `action` with Ctrl-C at the `number`th line that it runs; False when it has fewer lines."""
    lines = 0

    def trace(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == number:
                signal.raise_signal(signal.SIGINT)
        return trace

    usual = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(usual)
    return lines >= number


def write_directory(path: Path, text: str) -> None:
    with replace_directory(path) as temporary:
        (temporary / "text").write_text(text)


def write_file(path: Path, text: str) -> None:
    with replace_file(path / "text") as temporary:
        temporary.write_text(text)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files cut off in write_text
@pytest.mark.parametrize("write", [write_directory, write_file])
def test_an_interrupt_at_any_line_leaves_old_or_new_and_nothing_else(
    tmp_path: Path, write: Callable[[Path, str], None]
):
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    place = tmp_path / "place"
    number = 0
    went_on = True
    while went_on:
        number += 1
        write_directory(place, "old")
        went_on = interrupted_at(number, lambda: write(place, "new"))
        assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
            "place",
            "place/text",
        ], f"line {number}"
        assert (place / "text").read_text() in ("old", "new")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert number > 50 and (place / "text").read_text() == "new"


@pytest.mark.parametrize("replace", [replace_directory, replace_file])
def test_the_first_directory_interrupted_leaves_nothing(
    tmp_path: Path, replace: Callable[[Path], AbstractContextManager[Path]]
):
    with pytest.raises(KeyboardInterrupt), replace(tmp_path / "new"):
        signal.raise_signal(signal.SIGINT)
    assert not list(tmp_path.iterdir())


def test_everyone_may_read_who_may_read_new_files(tmp_path: Path):
    """Also what a library wrote for its owner alone: bundles are served by other users than who trains."""
    with replace_directory(tmp_path / "made") as temporary:
        (temporary / "inner").mkdir(mode=0o700)
        save_file({"a": np.zeros(1)}, temporary / "inner" / "a.safetensors")
        (temporary / "own").touch(mode=0o600)
        (temporary / "tool").touch(mode=0o755)
    with replace_file(tmp_path / "file") as temporary:
        save_file({"a": np.zeros(1)}, temporary)
    umask = os.umask(0)
    os.umask(umask)
    modes = {
        path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")
    }
    assert modes == {
        "made": 0o777 & ~umask,
        "made/inner": 0o777 & ~umask,
        "made/inner/a.safetensors": 0o666 & ~umask,
        "made/own": 0o666 & ~umask,
        "made/tool": 0o755 | 0o666 & ~umask,
        "file": 0o666 & ~umask,
    }
