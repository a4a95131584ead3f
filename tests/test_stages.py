"""Stages run in order, are skipped while they hold, and resume after any kind of end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmrec.errors import LlmrecError
from llmrec.stages import Stage, StageError, llmrec_command, read_records, run_stages

COPY = """
import pathlib, sys
source, target, log = map(pathlib.Path, sys.argv[1:4])
with log.open("a") as handle:
    handle.write(target.name + " ")
target.write_text(source.read_text() + target.name)
"""


def copy(folder: Path, source: str, target: str) -> Stage:
    """A stage that writes `target` from `source` and logs that it ran."""
    command = [sys.executable, "-c", COPY, *(str(folder / name) for name in (source, target, "log"))]
    return Stage(target, command, outputs=(folder / target,), inputs=(folder / source,))


def python(name: str, code: str, *arguments: object, outputs: tuple[Path, ...] = ()) -> Stage:
    return Stage(name, [sys.executable, "-c", code, *map(str, arguments)], outputs)


@pytest.fixture
def chain(tmp_path):
    """Three stages, each reading what the one before wrote."""
    (tmp_path / "a").write_text("start ")
    return [copy(tmp_path, "a", "b"), copy(tmp_path, "b", "c"), copy(tmp_path, "c", "d")]


def ran(folder: Path) -> str:
    """What ran since the last call."""
    log = folder / "log"
    text = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    return text.strip()


def test_finished_stages_are_skipped_and_say_so(tmp_path, chain, capsys):
    state = tmp_path / "stages.json"
    first = run_stages(chain, state)
    assert ran(tmp_path) == "b c d"
    assert [record.name for record in first] == ["b", "c", "d"]
    assert all(record.seconds > 0 and record.peak_mib > 1 for record in first)
    capsys.readouterr()
    assert run_stages(chain, state) == first == read_records(state)
    assert ran(tmp_path) == ""
    assert capsys.readouterr().err.count("skipped") == 3


def test_changed_input_runs_what_depends_on_it(tmp_path, chain):
    state = tmp_path / "stages.json"
    run_stages(chain, state)
    ran(tmp_path)
    (tmp_path / "a").write_text("other ")
    run_stages(chain, state)
    assert ran(tmp_path) == "b c d"
    assert (tmp_path / "d").read_text() == "other bcd"


def test_changed_command_runs_again(tmp_path, chain):
    state = tmp_path / "stages.json"
    run_stages(chain, state)
    ran(tmp_path)
    changed = Stage("c", [*chain[1].command, "--more"], chain[1].outputs, chain[1].inputs)
    run_stages([chain[0], changed, chain[2]], state)
    assert ran(tmp_path) == "c"  # d holds: c came out the same


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("altered")])
def test_damaged_output_is_made_again(tmp_path, chain, damage):
    state = tmp_path / "stages.json"
    run_stages(chain, state)
    ran(tmp_path)
    damage(tmp_path / "c")
    run_stages(chain, state)
    assert ran(tmp_path) == "c"


def test_directory_outputs_may_gain_files_but_not_lose_them(tmp_path):
    bundle = tmp_path / "bundle"
    build = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); (p / 'sub').mkdir(parents=True, exist_ok=True)"
    )
    make = python("make", build + "; (p / 'sub' / 'part').write_text('x')", bundle, outputs=(bundle,))
    report = python("report", "open(__import__('sys').argv[1], 'a').write('x')", bundle / "report.json")
    report = Stage("report", report.command, outputs=(bundle / "report.json",), inputs=(bundle,))
    state = tmp_path / "stages.json"
    run_stages([make, report], state)
    run_stages([make, report], state)
    assert (bundle / "report.json").read_text() == "x"
    (bundle / "sub" / "part").unlink()
    run_stages([make, report], state)
    assert (bundle / "sub" / "part").read_text() == "x"


def test_failure_keeps_what_is_finished(tmp_path, chain):
    state = tmp_path / "stages.json"
    broken = python("broken", "raise SystemExit(3)")
    with pytest.raises(
        StageError, match=r"^stage 'broken' failed with exit code 3; repeat it with: python -c"
    ) as info:
        run_stages([chain[0], broken, *chain[1:]], state)
    assert info.value.exit_code == 3
    assert ran(tmp_path) == "b"
    run_stages(chain, state)
    assert ran(tmp_path) == "c d"


def test_failed_rerun_forgets_the_old_record(tmp_path):
    """The old record must not vouch for outputs that the failed run has half replaced."""
    out, state = tmp_path / "out", tmp_path / "stages.json"
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x'); sys.exit(int(sys.argv[2]))"
    run_stages([python("write", code, out, 0, outputs=(out,))], state)
    with pytest.raises(StageError):
        run_stages([python("write", code, out, 1, outputs=(out,))], state)
    assert read_records(state) == []


def test_killed_child_is_named_and_resumed(tmp_path, chain):
    state = tmp_path / "stages.json"
    killed = python("tune", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StageError, match="stage 'tune' was ended by SIGKILL") as info:
        run_stages([chain[0], killed], state)
    assert info.value.exit_code == 128 + 9
    run_stages(chain, state)
    assert ran(tmp_path) == "b c d"


def test_missing_output_is_an_error(tmp_path):
    silent = python("silent", "pass", outputs=(tmp_path / "absent",))
    with pytest.raises(StageError, match="ended without writing .*absent"):
        run_stages([silent], tmp_path / "stages.json")
    assert read_records(tmp_path / "stages.json") == []


def test_missing_input_is_an_error(tmp_path):
    with pytest.raises(LlmrecError, match="stage 'b' needs .*a, which is missing"):
        run_stages([copy(tmp_path, "a", "b")], tmp_path / "stages.json")


def test_command_that_does_not_exist(tmp_path):
    with pytest.raises(StageError, match="cannot be started") as info:
        run_stages([Stage("x", [str(tmp_path / "absent")], ())], tmp_path / "stages.json")
    assert info.value.exit_code == 127


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"version": 9, "stages": []}', '{"version": 1, "stages": [{}]}']
)
def test_unusable_state_is_explained(tmp_path, chain, text):
    state = tmp_path / "stages.json"
    state.write_text(text)
    with pytest.raises(LlmrecError, match="stages.json"):
        run_stages(chain, state)


def test_names_must_differ(tmp_path, chain):
    with pytest.raises(ValueError, match="must differ"):
        run_stages([chain[0], chain[0]], tmp_path / "stages.json")


def test_state_file_is_plain_json(tmp_path, chain):
    run_stages(chain, tmp_path / "stages.json")
    state = json.loads((tmp_path / "stages.json").read_text())
    assert set(state) == {"version", "stages"}
    assert not list(tmp_path.glob("*.part"))


def test_llmrec_command_runs_the_command_line():
    result = subprocess.run(llmrec_command("version"), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0


DRIVER = """
import sys
from pathlib import Path
from llmrec.errors import LlmrecError
from llmrec.stages import Stage, run_stages

folder = Path(sys.argv[1])
gate, two = folder / "gate", folder / "two"
wait = "import os, sys; print(os.getpid(), flush=True); open(sys.argv[1]).read(); open(sys.argv[2], 'w')"
first = "import sys; open(sys.argv[1], 'a').write('x'); memory = bytearray(b'x') * (120 << 20)"
stages = [
    Stage("first", [sys.executable, "-c", first, str(folder / "one")], (folder / "one",)),
    Stage("second", [sys.executable, "-c", wait, str(gate), str(two)], (two,)),
]
try:
    for record in run_stages(stages, folder / "stages.json"):
        print(record.name, record.peak_mib)
except LlmrecError as error:
    sys.exit(str(error))
"""


class Run:
    """A process that runs two stages, the second of which waits until the pipe `gate` is opened."""

    def __init__(self, folder: Path):
        command = [sys.executable, "-c", DRIVER, str(folder)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def until_second(self) -> int:
        """Wait until the second stage runs; returns its process id."""
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=30)
        return self.process.returncode, output, errors


@pytest.fixture
def folder(tmp_path):
    os.mkfifo(tmp_path / "gate")
    return tmp_path


def finish(folder: Path) -> str:
    """Run to the end with the gate open; returns what went to stderr."""
    run = Run(folder)
    run.until_second()
    (folder / "gate").write_text("go")
    code, output, errors = run.end()
    assert code == 0, errors
    assert (folder / "one").read_text() == "x"  # the first stage ran once in all
    assert (folder / "two").exists()
    peaks = dict(line.split() for line in output.splitlines())
    assert float(peaks["first"]) > 120 > float(peaks["second"]) > 5
    return errors


def test_peak_memory_is_that_of_each_child(folder):
    assert "skipped" not in finish(folder)


def test_resume_after_the_runner_is_killed(folder):
    run = Run(folder)
    orphan = run.until_second()
    run.process.kill()
    run.process.wait()
    again = Run(folder)  # the orphan still writes there
    code, _, errors = again.end()
    assert code != 0
    assert "another run is writing" in errors
    os.kill(orphan, signal.SIGKILL)
    run.end()  # its end of the pipe closes when the orphan is gone
    assert "first: finished before" in finish(folder)


def test_resume_after_the_child_is_killed(folder):
    run = Run(folder)
    os.kill(run.until_second(), signal.SIGKILL)
    code, _, errors = run.end()
    assert code == 1
    assert "stage 'second' was ended by SIGKILL" in errors
    assert "first: finished before" in finish(folder)


def test_resume_after_ctrl_c(folder):
    run = Run(folder)
    child = run.until_second()
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to the runner and its child
    code, _, _ = run.end()
    assert code != 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert "first: finished before" in finish(folder)


def test_resume_after_termination(folder):
    run = Run(folder)
    child = run.until_second()
    run.process.terminate()
    code, _, _ = run.end()
    assert code == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert "first: finished before" in finish(folder)


def test_two_runs_in_one_directory(folder):
    first = Run(folder)
    first.until_second()
    second = Run(folder)
    code, _, errors = second.end()
    assert code == 1
    assert "another run is writing" in errors.splitlines()[-1]
    (folder / "gate").write_text("go")
    assert first.end()[0] == 0
