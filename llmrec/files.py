"""Files that are whole or absent: temporary name first, then rename; hashes; one writer at a time."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmrec.errors import LlmrecError

_SPACE = {errno.ENOSPC, errno.EDQUOT}


_RUST = re.compile(r"\(os error (\d+)\)")


def _refusal(error: Exception) -> OSError | None:
    """The system's refusal to write behind `error`, whichever library reports it; None for any other."""
    if (found := _RUST.search(str(error))) and not isinstance(error, LlmrecError):  # safetensors, tokenizers
        return OSError(int(found[1]), os.strerror(int(found[1])))
    if not isinstance(error, OSError):
        return None
    if error.errno is None and re.search(r"\d+ requested and \d+ written", str(error)):  # numpy
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return error


def _explain(error: OSError, path: Path) -> LlmrecError:
    if error.errno in _SPACE:
        return LlmrecError(f"no space left while writing {path}: free some space and run again")
    return LlmrecError(f"cannot write {path}: {error.strerror or error}")


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended; only the main thread is ever interrupted by it."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    held: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda *hit: held.append(hit))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if held:
            usual(*held[0])


@contextlib.contextmanager
def _temporary(make: Callable[[], Path], remove: Callable[[Path], None]) -> Iterator[Path]:
    """Yield what `make` made and remove it, wherever between the two an interrupt hits."""
    made: list[Path] = []
    try:
        try:
            with _interrupts_wait():
                made.append(make())
            yield made[0]
        finally:
            with _interrupts_wait():
                _each(remove, made)
    except KeyboardInterrupt:  # it may have hit on the way to removing; removing twice does no harm
        with _interrupts_wait():
            _each(remove, made)
        raise


def _each(function: Callable[[Path], None], paths: list[Path]) -> None:
    for path in paths:
        function(path)


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` only when the block ends well."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(lambda: _empty_file(path), lambda made: made.unlink(missing_ok=True)) as temporary:
            yield temporary
            _open_up(temporary)
            temporary.replace(path)
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise _explain(refusal, path) from error


def _empty_file(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def replace_directory(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; it takes the name `path` when the block ends well.

    An existing directory is replaced when `overwrite`, otherwise it is an error. Where the system can
    exchange two names there is no moment without a directory `path`, whatever ends the program.
    """
    path = Path(path)
    if path.exists() and not (overwrite and path.is_dir()):
        raise LlmrecError(f"{path} exists already: choose another name or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(lambda: _empty_directory(path), lambda made: _clear(made, path)) as temporary:
            yield temporary
            _open_up(temporary)
            if not (path.exists() and _exchange(temporary, path)):
                if path.exists():
                    path.rename(_aside(temporary))
                temporary.rename(path)
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise _explain(refusal, path) from error


def _open_up(made: Path) -> None:
    """Give what was made, and all in it, at least the modes that new files and directories usually get.

    Temporary names are made for their owner alone, and so are the files of safetensors.
    """
    umask = os.umask(0)
    os.umask(umask)
    for path in (made, *(made.rglob("*") if made.is_dir() else ())):
        if not path.is_symlink():
            usual = (0o777 if path.is_dir() else 0o666) & ~umask
            mode = path.stat().st_mode & 0o7777
            if mode | usual != mode:
                with contextlib.suppress(PermissionError):  # a link to what is another user's
                    path.chmod(mode | usual)


def _empty_directory(path: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))


def _aside(temporary: Path) -> Path:
    """Where the old directory waits while the new one takes its name."""
    return temporary.with_suffix(".old")


def _clear(temporary: Path, path: Path) -> None:
    """Remove what is left beside `path`; what it held before comes back when nothing took its place."""
    old = _aside(temporary)
    if old.exists() and not path.exists():
        old.rename(path)
    for each in (temporary, old):
        shutil.rmtree(each, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two names of one file system change places in one step; False where the system cannot."""
    system = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin":
        return hasattr(system, "renamex_np") and system.renamex_np(*names, 2) == 0  # RENAME_SWAP
    here = -100  # AT_FDCWD; 2 is RENAME_EXCHANGE
    return hasattr(system, "renameat2") and system.renameat2(here, names[0], here, names[1], 2) == 0


def check_replaceable(path: Path, mark: str) -> None:
    """Raise when the directory `path` holds something that llmrec did not write.

    It may be absent, empty, or have the file `mark`, which tells what was written there.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()) and not (path / mark).is_file():
        raise LlmrecError(f"{path} has other files in it (no {mark}): choose a new or empty directory")


@contextlib.contextmanager
def only_writer(path: Path, wait: bool = False) -> Iterator[int]:
    """Hold the lock of `path` (a file beside it), so that two runs never share it.

    When another run holds it: wait for that run with `wait`, otherwise raise `LlmrecError`.
    Yields the lock's file descriptor: a child process that inherits it keeps the lock until it ends.
    """
    path = Path(path)
    lock = path.parent / f".{path.name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        raise _explain(error, lock) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LlmrecError(
                f"another run is writing {path}: wait for it or choose another directory"
            ) from error
        yield handle.fileno()


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read the JSON file `path`; `what` names it in the error."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LlmrecError(f"{what}: {path} is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LlmrecError(f"{what}: {path} cannot be read as JSON ({error})") from error


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
