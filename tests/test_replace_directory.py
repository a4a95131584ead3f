"""Directories that are replaced as a whole, whatever ends the block."""

import shutil
from pathlib import Path

import pytest

from llmrec.files import replace_directory


def test_an_interrupt_that_hits_the_clearing_away_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, hits = shutil.rmtree, iter([KeyboardInterrupt()])

    def rmtree(path: Path, ignore_errors: bool = False) -> None:
        for interrupt in hits:
            raise interrupt
        real(path, ignore_errors=ignore_errors)

    (tmp_path / "kept").mkdir()
    monkeypatch.setattr("llmrec.files.shutil.rmtree", rmtree)
    with pytest.raises(KeyboardInterrupt), replace_directory(tmp_path / "kept") as temporary:
        (temporary / "new").touch()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "kept",
        "kept/new",
    ]
