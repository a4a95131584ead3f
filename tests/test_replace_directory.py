"""Files and directories that are replaced as a whole, wherever an interrupt hits."""

import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

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
