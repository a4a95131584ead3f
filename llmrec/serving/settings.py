"""What a service is told at its start."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from llmrec.errors import LlmrecError


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Settings of `llmrec serve`, see docs/serving.md.

    store: address of a store, "" for a SQLite file beside the bundle. keys: the file of API keys, None where
    anyone who reaches the port may ask. together: requests that one call of the model answers at most.
    waiting: requests that wait for the model at most; more are refused. deadline: seconds that a request may
    take. body: bytes of a request. page: whether `/` has the web page. engine: what runs the model, one of
    `engines.choice.ENGINES`.
    """

    bundle: Path
    host: str = "127.0.0.1"
    port: int = 8000
    store: str = ""
    keys: Path | None = None
    modes: tuple[str, ...] = ()
    together: int = 16
    waiting: int = 128
    deadline: float = 10.0
    body: int = 1 << 20
    page: bool = True
    engine: str = "auto"

    def __post_init__(self) -> None:
        for name in ("together", "waiting", "body"):
            if getattr(self, name) < 1:
                raise LlmrecError(f"serve: {name} is {getattr(self, name)}, it must be at least 1")
        if not 0 < self.deadline <= 600:
            raise LlmrecError(f"serve: the deadline is {self.deadline} s, it must be above 0 and at most 600")
        if not 0 <= self.port <= 65535:
            raise LlmrecError(f"serve: the port is {self.port}, it must be from 0 to 65535")
        if self.keys is None and not self.local:
            raise LlmrecError(
                f"serve: {self.host} can be reached from other machines: give --keys FILE (`llmrec keys add`)"
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def store_url(self) -> str:
        """The address of the store."""
        return self.store or f"sqlite:///{self.bundle.absolute()}.store.db"
