"""Where figures were taken: versions, machine, stage times, peak memory."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

_PACKAGES = ("llmrec", "numpy", "torch", "transformers", "peft", "implicit")


def environment(stages: Mapping[str, float] | None = None, peak_bytes: int | None = None) -> dict[str, Any]:
    """The report's `environment`: `stages` are seconds by name, `peak_bytes` the most memory in use.

    Packages that are not installed are left out; none is imported.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "versions": _versions(),
    }
    if gpus := _gpus():
        found["gpus"] = gpus
    if stages:
        found["stages"] = {name: round(seconds, 3) for name, seconds in stages.items()}
    if peak_bytes is not None:
        found["peak_memory_gib"] = round(peak_bytes / 2**30, 3)
    return found


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _gpus() -> list[str]:
    """Names of the GPUs that a torch which is imported already can use."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
