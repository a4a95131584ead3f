"""Progress lines: how often, what they say, and the bar on a real terminal."""

import io
import os
import pty
import subprocess
import sys

import pytest

from llmrec.progress import PlainProgress, note, track


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run_plain(steps: int, total: int | None, seconds_a_step: float) -> list[str]:
    clock, stream = Clock(), io.StringIO()
    progress = PlainProgress("fine-tune", total, stream, clock)
    for step in range(steps):
        clock.now += seconds_a_step
        progress.advance(loss=10 - step / 100)
    progress.finish()
    return stream.getvalue().splitlines()


def test_slow_steps_write_a_line_every_ten_seconds():
    lines = run_plain(steps=100, total=1000, seconds_a_step=1.0)
    assert lines[0] == "fine-tune: 10/1000, loss 9.91, 16:30 left"
    assert len(lines) == 100 / 10 + 1
    assert lines[-1] == "fine-tune: 100/1000, loss 9.01, took 1:40"


def test_middling_steps_write_a_line_every_tenth():
    lines = run_plain(steps=40, total=40, seconds_a_step=1.0)
    assert [line.split(",")[0] for line in lines[:-1]] == [f"fine-tune: {n}/40" for n in range(4, 41, 4)]


def test_quick_steps_write_one_line():
    assert run_plain(steps=1000, total=1000, seconds_a_step=0.0) == [
        "fine-tune: 1000/1000, loss 0.01, took 0:00"
    ]


def test_unknown_total():
    lines = run_plain(steps=3700, total=None, seconds_a_step=1.0)
    assert lines[-2] == "fine-tune: 3700, loss -26.99, 1:01:40 so far"


def test_track_writes_to_stderr(capsys):
    with track("read", total=3) as progress:
        progress.advance(2)
        progress.advance()
    note("now the next")
    captured = capsys.readouterr()
    assert captured.err == "read: 3/3, took 0:00\nnow the next\n"
    assert captured.out == ""


def test_no_last_line_after_a_failure(capsys):
    with pytest.raises(ZeroDivisionError), track("read", total=3) as progress:
        progress.advance(1 // 0)
    assert capsys.readouterr().err == ""


def test_hidden_process_writes_nothing(capsys):
    with track("read", total=1, show=False) as progress:
        progress.advance(loss=1.0)
    assert capsys.readouterr().err == ""


def test_terminal_gets_a_bar():
    code = (
        "from llmrec.progress import track\nwith track('[tune]', total=4) as p:\n    p.advance(3, loss=2.5)"
    )
    terminal, child_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    result = subprocess.run([sys.executable, "-c", code], stderr=child_end, env=environment, timeout=60)
    os.close(child_end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert result.returncode == 0
    for part in ("[tune]", "3/4", "loss 2.5", "left"):
        assert part in shown
