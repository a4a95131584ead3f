"""Joins a cluster of Ray, or starts one on this machine."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

import ray

from llmrec.errors import LlmrecError

LOCAL = "local"
"""The address of no cluster: one of this machine is started, and ended with the program."""


@contextlib.contextmanager
def cluster(address: str, cpus: float) -> Iterator[None]:
    """A cluster for the block; where this program is in one already, that one.

    `cpus`: what a cluster of this machine says that it has. Raises `LlmrecError` where there is no cluster.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # reports nothing to Ray's makers
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # seconds; 60 are few on a busy machine
    own = {"num_cpus": max(1, math.ceil(cpus)), "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address, log_to_driver=False, **own)
    except Exception as error:  # Ray raises bare ones
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise LlmrecError(f"there is no cluster of Ray at {address}: {said}") from error
    try:
        yield
    finally:
        ray.shutdown()
