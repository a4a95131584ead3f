"""The wheel, installed with nothing but its base dependencies: help, a prompt, and what extras are for.

The one test that asks a package index, the one that pip is set up with.
"""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from llmrec import __version__
from llmrec.errors import explain_missing

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq"]

PROMPT = """
import sys
from pathlib import Path
from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

out = Path(sys.argv[1])
prepare(load_description(sample_yaml()), out)
data = Prepared(out)
verbalizer = Verbalizer(data.catalog, PromptSettings(), data.manifest["event_types"], Templates.load())
history = data.histories.history(data.histories.index("12583"))
print(verbalizer.display(verbalizer.prompt(history, "something for the garden")))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True, timeout=300)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> str:
    """The interpreter of an environment that has the wheel and its base dependencies only."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    interpreter = str(folder / "bin" / "python")
    subprocess.run([*PIP, "--python", interpreter, "install", str(wheel)], check=True, timeout=300)
    return interpreter


def run(python: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run in `folder`, so that the checkout is not importable."""
    command = [python, "-I", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_wheel_holds_templates_and_sample_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, target in (("prompts", "llmrec/prompts"), ("llmrec", "llmrec")):
        files = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        )
        shipped = {target + path.removeprefix(folder) for path in files.stdout.split()}
        assert shipped <= names
    assert {"llmrec/prompts/retrieve.jinja", "llmrec/data/sample/data.yaml"} <= names
    outside = {name for name in names if not re.match(r"llmrec(-[^/]+\.dist-info)?/", name)}
    assert outside == set()
    assert zipfile.ZipFile(wheel).testzip() is None
    assert sum(info.file_size for info in zipfile.ZipFile(wheel).infolist()) < 5_000_000


def test_base_install_has_no_heavy_package(python, tmp_path):
    probe = (
        "import importlib.util as u; print([n for n in ('torch', 'transformers', 'vllm') if u.find_spec(n)])"
    )
    assert run(python, tmp_path, "-c", probe).stdout == "[]\n"


def test_command_works_when_installed(python, tmp_path):
    command = Path(python).with_name("llmrec")
    result = subprocess.run([command, "version"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{__version__}\n", "")
    result = run(python, tmp_path, "-m", "llmrec.cli", "--help")
    assert result.returncode == 0
    assert "Usage: llmrec" in result.stdout


def test_prompt_renders_from_what_is_packaged(python, tmp_path):
    result = run(python, tmp_path, "-c", PROMPT, str(tmp_path / "prepared"))
    assert result.returncode == 0, result.stderr
    assert "something for the garden" in result.stdout
    assert re.search(r'<item \w+ "[^"]+">', result.stdout)
    assert "<query 0>" in result.stdout


def test_missing_extra_is_named(python, tmp_path):
    result = run(python, tmp_path, "-m", "llmrec.cli", "models", "pull", "smollm2-135m")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "pip install 'llmrec[train]'" in result.stderr


def test_every_package_of_an_extra_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in ("train", "serve"):
        for requirement in project["optional-dependencies"][extra]:
            package = re.match(r"[\w-]+", requirement)[0].removesuffix("-cpu").replace("-", "_")
            error = explain_missing(ModuleNotFoundError(name=package))
            assert error and f"llmrec[{extra}]" in str(error), package
    assert explain_missing(ModuleNotFoundError(name="numpy")) is None
