"""What the machine does to a run: Ctrl-C, a second run, a full disk, packages that are not installed."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bundles import recipe_values, write_recipe

from llmrec.bundle import Bundle
from llmrec.data.prepared import Prepared

IN_ONE_PROCESS = """
import io, json, os, resource, shutil, sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

def call(arguments):
    from llmrec import cli
    sys.argv = ["llmrec", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
    return [code or 0, err.getvalue()]
"""


def child(code: str, *arguments: str) -> Any:
    """Run Python code in a child; what it prints last is JSON."""
    command = [sys.executable, "-c", IN_ONE_PROCESS + code, *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def recipe(slice_of_sample: Prepared, checkpoints: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe for the slice, with some keys changed."""

    def write(**changes: Any) -> Path:
        values = recipe_values(slice_of_sample.directory, tmp_path / "bundle", checkpoints["llama"])
        prompt = {"queries": 2, "max_events": 8, "gaps": False}
        return write_recipe(tmp_path / "recipe.yaml", {**values, "prompt": prompt, **changes})

    return write


def finetune(recipe: Path) -> list[str]:
    return [sys.executable, "-u", "-m", "llmrec.cli", "finetune", str(recipe)]


def test_ctrl_c_and_a_second_run(
    run: Callable[..., tuple[int, str, str]], recipe: Callable[..., Path], tmp_path: Path
):
    """One run is going, a second is refused, the first is interrupted, a third ends what it began."""
    train = {"epochs": 12, "batch": 16, "patience": 0, "precision": "no"}
    path = recipe(train=train)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(finetune(path), stderr=subprocess.PIPE, text=True, env=environment) as first:
        lines = iter(first.stderr.readline, "")
        assert any("epoch 2, validation" in line for line in lines)
        first.send_signal(signal.SIGSTOP)  # it must not end before the second is refused
        second = run("finetune", path)
        first.send_signal(signal.SIGINT)
        first.send_signal(signal.SIGCONT)
        rest = "".join(lines)
    place = f"{tmp_path}/bundle.work"
    assert second == (
        2,
        "",
        f"llmrec: another run is writing {place}: wait for it or choose another directory\n",
    )
    assert first.returncode == 130 and rest.endswith("llmrec: interrupted\n") and "Traceback" not in rest
    assert not (tmp_path / "bundle").exists() and not list(tmp_path.rglob("*.part"))
    code, _, err = run("finetune", path)
    assert code == 0 and "going on from epoch" in err
    assert Bundle(tmp_path / "bundle").manifest["training"]["epochs"] == 12


FULL_DISK = """
import tempfile
import peft, transformers, llmrec.tune.retrieval  # what an import writes is not the test's business
tempfile.gettempdir()
found = {}
recipe, sizes, place = sys.argv[1:]
for kib in map(int, sizes.split(",")):
    folder = Path(place) / str(kib)
    folder.mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, resource.RLIM_INFINITY))
    code, err = call(["finetune", recipe, "--out", str(folder / "bundle")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    left = [path.name for path in folder.rglob("*") if path.name.endswith((".part", ".old"))]
    found[kib] = [code, err, (folder / "bundle").exists(), left]
print(json.dumps(found))
"""


def test_a_full_disk(recipe: Callable[..., Path], tmp_path: Path):
    """No file may grow beyond a few sizes: each stops the run elsewhere, always in one line."""
    train = {"epochs": 1, "batch": 32, "precision": "no"}
    path = recipe(adapter={"kind": "full"}, examples={"versions": 3, "cuts": 2}, train=train)
    places = {0: "vectors", 64: "vectors", 100: "examples"}
    found = child(FULL_DISK, str(path), ",".join(map(str, places)), str(tmp_path))
    for (kib, (code, err, written, left)), place in zip(found.items(), places.values(), strict=True):
        said = err.splitlines()[-1]
        assert code == 2 and said.startswith("llmrec: "), (kib, err)
        assert re.search(rf"(cannot write|no space left while writing) .*bundle\.work/.*{place}", said), (
            kib,
            err,
        )
        assert "Traceback" not in err and not written and left == [], (kib, err, left)


BLOCKED = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

names = sys.argv[1].split(",")
sys.meta_path.insert(0, Blocker())
sys.modules.update({name: None for name in names})
print(json.dumps([call(arguments) for arguments in json.loads(sys.argv[2])]))
"""


def test_packages_that_are_not_installed(tiny_bundle: Path, recipe: Callable[..., Path], tmp_path: Path):
    """Commands that need an extra name it; those that do not work without."""
    asked = ["--history", "85123A"]
    need = [
        ["recommend", str(tiny_bundle), *asked],
        ["prompt", str(tiny_bundle), *asked],
        ["prompt", str(tiny_bundle / "data"), *asked, "--model", "smollm2-135m"],
        ["evaluate", str(tiny_bundle), "--out", str(tmp_path / "report")],
        ["finetune", str(recipe())],
        ["demo", "--directory", str(tmp_path / "demo")],
        ["models", "pull", "smollm2-135m"],
    ]
    free = [["prompt", str(tiny_bundle / "data"), *asked], ["models", "list"]]
    packages = "torch,transformers,peft,datasets,accelerate,implicit,gguf,safetensors,tensorboard,scipy"
    found = child(BLOCKED, packages, json.dumps(need + free))
    for arguments, (code, err) in zip(need, found, strict=False):
        assert code == 2 and err.count("\n") == 1, (arguments, err)
        assert err.startswith("llmrec: ") and "pip install 'llmrec[train]'" in err, (arguments, err)
    assert [code for code, _ in found[len(need) :]] == [0, 0]
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")} == {"recipe.yaml"}
