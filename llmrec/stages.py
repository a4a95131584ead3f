"""Run named stages in order as child processes; a finished stage is not run again while it holds."""

import contextlib
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from llmrec.errors import LlmrecError
from llmrec.files import only_writer, read_json, sha256_of, write_json
from llmrec.progress import note

_FORMAT = 1
_GRACE_SECONDS = 5.0  # what an interrupted child gets to end by itself
_MAXRSS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere


class StageError(LlmrecError):
    """A stage failed; `exit_code` is the code of its process, 128 + N when signal N ended it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: a command line, what it reads and what it leaves behind.

    `command` is the whole argument list of the child process, see `llmrec_command`. `inputs` and
    `outputs` are files or directories; the outputs of earlier stages are given as inputs too.
    """

    name: str
    command: Sequence[str]
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A finished stage.

    `seconds` is wall-clock time. `peak_mib` is the largest resident memory of the child process or of
    one of its own children, in MiB; it is never below the memory of the process that started it.
    `outputs` maps each output path to the hashes of its files by relative path ("" for a plain file).
    """

    name: str
    command: tuple[str, ...]
    fingerprint: str
    seconds: float
    peak_mib: float
    outputs: dict[str, dict[str, str]]


def llmrec_command(*arguments: str) -> list[str]:
    """The argument list that runs `llmrec ARGUMENTS` with this interpreter."""
    return [sys.executable, "-m", "llmrec.cli", *arguments]


def read_records(state_file: Path) -> list[StageRecord]:
    """The finished stages that `state_file` lists; none when there is no such file."""
    if not state_file.exists():
        return []
    state = read_json(state_file, "finished stages")
    try:
        if state["version"] != _FORMAT:
            raise ValueError(f"version {state['version']} instead of {_FORMAT}")
        return [_record_from_json(entry) for entry in state["stages"]]
    except (KeyError, TypeError, ValueError) as error:
        raise LlmrecError(
            f"finished stages: {state_file} is not usable ({error}); remove it to run every stage again"
        ) from error


def _record_from_json(entry: dict[str, Any]) -> StageRecord:
    return StageRecord(**{**entry, "command": tuple(entry["command"])})


def run_stages(stages: Sequence[Stage], state_file: Path) -> list[StageRecord]:
    """Run `stages` in order and return a record for each, in the same order.

    A stage that `state_file` records as finished is skipped while its command, its inputs and its
    recorded outputs are unchanged. Files that a later stage adds to an output directory do not count.
    An interrupted or failed run resumes at its first unfinished stage.

    Raises `StageError` when a stage fails, `LlmrecError` when an input is missing, the state file is
    not usable or another run uses it.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"stage names must differ: {names}")
    with only_writer(state_file) as lock, _termination_raises():
        known = {record.name: record for record in read_records(state_file)}
        done: list[StageRecord] = []
        for number, stage in enumerate(stages, start=1):
            label = f"[{number}/{len(stages)}] {stage.name}"
            fingerprint = _fingerprint(stage, done)
            old = known.pop(stage.name, None)
            if old and old.fingerprint == fingerprint and _outputs_hold(stage, old):
                note(f"{label}: finished before ({old.seconds:.0f} s), skipped")
                done.append(old)
                continue
            later = [known[name] for name in names[number:] if name in known]
            if old:  # what it recorded is about to be overwritten
                _write_records(state_file, done + later)
            note(f"{label}: {_shown(stage)}")
            record = _run(stage, fingerprint, lock)
            done.append(record)
            _write_records(state_file, done + later)
            note(f"{label}: done in {record.seconds:.0f} s, peak memory {record.peak_mib:.0f} MiB")
        return done


def _write_records(state_file: Path, records: list[StageRecord]) -> None:
    stages = [asdict(record) for record in records]
    write_json(state_file, {"version": _FORMAT, "stages": stages})


def _shown(stage: Stage) -> str:
    """The command as a person repeats it."""
    command = list(stage.command)
    if command[:3] == llmrec_command():
        return shlex.join(["llmrec", *command[3:]])
    return shlex.join("python" if argument == sys.executable else argument for argument in command)


def _hashes(path: Path) -> dict[str, str]:
    """SHA-256 of every file at or below `path`, by path relative to it; compiled Python left out."""
    if not path.is_dir():
        return {"": sha256_of(path)}
    files = (found for found in sorted(path.rglob("*")) if found.is_file())
    return {
        found.relative_to(path).as_posix(): sha256_of(found)
        for found in files
        if "__pycache__" not in found.parts
    }


def _fingerprint(stage: Stage, earlier: list[StageRecord]) -> str:
    """Hash of the command as shown and of the inputs.

    An earlier stage's output counts as it was when that stage ended: this stage may write beside it.
    """
    made = {path: hashes for record in earlier for path, hashes in record.outputs.items()}
    inputs: dict[str, dict[str, str]] = {}
    for path in stage.inputs:
        if not path.exists():
            raise LlmrecError(f"stage {stage.name!r} needs {path}, which is missing")
        inputs[str(path)] = made[str(path)] if str(path) in made else _hashes(path)
    text = json.dumps([_shown(stage), inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _outputs_hold(stage: Stage, record: StageRecord) -> bool:
    """Whether every recorded file is there with its recorded content."""
    if [str(path) for path in stage.outputs] != list(record.outputs):
        return False
    files = [
        (Path(path, name) if name else Path(path), digest)
        for path, hashes in record.outputs.items()
        for name, digest in hashes.items()
    ]
    directories = [Path(path) for path, hashes in record.outputs.items() if "" not in hashes]
    return all(path.is_dir() for path in directories) and all(
        file.is_file() and sha256_of(file) == digest for file, digest in files
    )


def _run(stage: Stage, fingerprint: str, lock: int) -> StageRecord:
    start = time.monotonic()
    # The child inherits the lock: if this process is killed, no second run starts beside the orphan.
    try:
        child = subprocess.Popen(stage.command, stdin=subprocess.DEVNULL, pass_fds=(lock,))
    except OSError as error:
        raise StageError(
            f"stage {stage.name!r} cannot be started ({error.strerror}): {_shown(stage)}", exit_code=127
        ) from error
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except KeyboardInterrupt:
        _end(child, grace=_GRACE_SECONDS)  # Ctrl-C on a terminal has reached the child too
        raise
    except SystemExit:
        _end(child, grace=0.0)
        raise
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if child.returncode != 0:
        raise _failure(stage, child.returncode)
    missing = [str(path) for path in stage.outputs if not path.exists()]
    if missing:
        raise StageError(
            f"stage {stage.name!r} ended without writing {', '.join(missing)}; "
            f"repeat it with: {_shown(stage)}",
            exit_code=1,
        )
    return StageRecord(
        name=stage.name,
        command=tuple(stage.command),
        fingerprint=fingerprint,
        seconds=round(seconds, 3),
        peak_mib=round(usage.ru_maxrss / _MAXRSS_PER_MIB, 1),
        outputs={str(path): _hashes(path) for path in stage.outputs},
    )


def _failure(stage: Stage, code: int) -> StageError:
    how = f"failed with exit code {code}"
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (the system does this when memory runs out)"
        code = 128 - code
    return StageError(f"stage {stage.name!r} {how}; repeat it with: {_shown(stage)}", exit_code=code)


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    """End the child of an interrupted run: wait, then ask, then force; a second Ctrl-C forces at once."""
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=grace)
        if child.returncode is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=_GRACE_SECONDS)
    finally:
        child.kill()  # does nothing to a child that has ended
        child.wait()


@contextlib.contextmanager
def _termination_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception while the block runs, so that the child is ended too."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
