"""Real servers of one's own: Redis and PostgreSQL in a temporary directory, on a Unix socket there."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

READY = "eady to accept connections"  # both say so
STARTING_SECONDS, STOPPING_SECONDS = 60, 10
ROOM = 1 << 28
REDIS = ("--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always")
# One MiB a segment: crash recovery has little to read, and the directory stays small.
INITDB = (
    "--auth=trust",
    "--username=llmrec",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--wal-segsize=1",
)
POSTGRES = (
    "shared_buffers=16MB",
    "max_wal_size=32MB",
    "min_wal_size=2MB",
    "listen_addresses=",
    "autovacuum=off",
    "dynamic_shared_memory_type=mmap",
    "recovery_init_sync_method=syncfs",  # not a thousand files one by one
)


class MissingServer(Exception):
    """A server's program is not installed; the message says what to install."""


class Server:
    """A server that can be started, killed and started again over the same data.

    `url` is its store; `folder` is the server's own and goes when it is stopped.
    """

    def __init__(
        self, folder: Path, url: str, command: Sequence[str | Path], user: str | None = None
    ) -> None:
        self.folder, self.url = folder, url
        self._command, self._user = [str(part) for part in command], user
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=20)
        self._listener: threading.Thread | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            user=self._user,
            start_new_session=True,  # a group of its own, to be killed whole
        )
        assert self._process.stdout is not None
        watch = threading.Timer(STARTING_SECONDS, self.kill)
        watch.start()
        try:
            for line in self._process.stdout:
                self._said.append(line)
                if READY in line:
                    break
            else:
                raise RuntimeError(f"{self._command[0]} did not start: {''.join(self._said)}")
        finally:
            watch.cancel()
        self._listener = threading.Thread(target=self._listen, args=[self._process.stdout], daemon=True)
        self._listener.start()

    def _listen(self, output: TextIO) -> None:
        """Take what the server says, so that it never waits for a reader."""
        with output:
            self._said.extend(output)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            if self._listener is not None:
                self._listener.join()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait(self) -> None:
        """Until it has ended by itself."""
        assert self._process is not None
        self._process.wait(timeout=STARTING_SECONDS)
        self.kill()

    def limit_files(self, size: int | None) -> None:
        """Let no file of it grow beyond `size` bytes, as on a full disk; None: as large as it likes."""
        assert self._process is not None
        limit = resource.RLIM_INFINITY if size is None else size
        for pid in self._group():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def _group(self) -> list[int]:
        assert self._process is not None
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getpgid(int(path.name)) == self._process.pid:
                    found.append(int(path.name))
        return found

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=STOPPING_SECONDS)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def memory_or_disk() -> Path:
    """A directory for short names of sockets, in memory if it can be: `kill -9` loses no file there."""
    memory = Path("/dev/shm")
    room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    return memory if room else Path("/tmp")


def redis_server(where: Path) -> Server:
    """A Redis that writes every command to its disk; not started yet. Raises `MissingServer`.

    Its own directory is made in the directory `where`.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise MissingServer("redis-server is not installed: apt-get install redis-server")
    folder = Path(tempfile.mkdtemp(prefix="redis-", dir=where))
    command = [program, "--dir", folder, "--unixsocket", folder / "socket", *REDIS]
    return Server(folder, f"unix://{folder}/socket?db=0", command)


def postgres_server(where: Path) -> Server:
    """A PostgreSQL, its database made and not started yet; as `redis_server`."""
    found = shutil.which("initdb") or max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if found is None:
        raise MissingServer("PostgreSQL's server is not installed: apt-get install postgresql")
    programs = Path(found).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=where))
    user = None
    if os.geteuid() == 0:  # it refuses to run as root
        user = _other_user()
        shutil.chown(folder, user)
    data = folder / "data"
    command = [programs / "initdb", "--pgdata", data, *INITDB]
    made = subprocess.run(command, capture_output=True, text=True, user=user, cwd=folder, check=False)
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"initdb failed: {made.stderr}")
    settings = [
        part for setting in (*POSTGRES, f"unix_socket_directories={folder}") for part in ("-c", setting)
    ]
    url = f"postgresql://llmrec@/postgres?host={folder}"
    return Server(folder, url, [programs / "postgres", "-D", data, *settings], user)


def _other_user() -> str:
    """A user of this machine that is not root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
