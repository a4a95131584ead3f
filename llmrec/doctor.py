"""What is installed here, what models run on, which engine will run and why the other does not."""

from __future__ import annotations

import os
import platform

from llmrec import __version__
from llmrec.engines.choice import choose_engine, devices, find_transformers, find_vllm


def diagnosis() -> list[tuple[str, str]]:
    """Lines of two cells: what, and what was found. Imports torch, where it is installed, for the devices."""
    engines = [find_transformers(), find_vllm()]
    versions = {name: version for engine in engines for name, version in engine.versions.items()}
    usable = [engine.name for engine in engines if engine.fault is None]
    lines = [("python", platform.python_version()), ("llmrec", __version__), *sorted(versions.items())]
    lines += [("device", f"{each}, {os.cpu_count()} cores" if each == "cpu" else each) for each in devices()]
    lines += [(f"engine {engine.name}", engine.fault or "can run") for engine in engines]
    served = choose_engine() if usable else "none can run"
    asked = choose_engine(lasting=False) if "transformers" in usable else "none can run"
    why = " (vllm takes longer to start than one answer takes)" if served != asked else ""
    return [*lines, ("a server uses", served), ("`llmrec recommend` uses", asked + why)]
