"""Imports go one way, heavy packages have homes, and the checker itself catches planted violations."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module imports only its own stage and earlier ones.
ORDER = [
    "errors", "files", "progress", "quiet", "device", "stages", "unique_keys", "data", "verbalize",
    "items", "model", "tune", "decode", "retrieve", "engines", "tasks", "baselines", "evaluate",
    "config", "versions", "bundle", "fit", "make_ids", "report_ids", "index_bundle",
    "language_recommender", "codes", "change_items", "export", "open_engine", "text", "readouts", "finetune",
    "recommend", "measure", "show", "serving", "demo", "doctor", "cli_engines", "cli_ids", "cli_items",
    "cli_ray", "cli_recommend", "cli_serve", "cli",
]  # fmt: skip

# The only places that import a package; a name stands for the module and all below it.
HOMES: dict[str, tuple[str, ...]] = {
    "torch": (
        "device",
        "model",
        "tune",
        "engines",
        "items",
        "baselines.sasrec",
        "baselines.sasrec_training",
        "fit",
        "codes.fitting",
    ),
    "transformers": ("quiet", "model", "tune", "engines", "items"),
    "peft": ("model", "tune"),
    "accelerate": ("tune", "fit", "codes.fitting"),
    "datasets": ("data.sources", "tune"),
    "gguf": ("model",),
    "duckdb": ("data",),
    "faiss": ("items.quantise", "retrieve"),
    "implicit": ("baselines",),
    "bm25s": ("retrieve",),
    "matplotlib": ("evaluate",),
    "vllm": ("engines.vllm",),
    "ray": ("serving.on_ray",),
    "fastapi": ("serving",),
    "uvicorn": ("serving",),
    "starlette": ("serving",),
    "httpx": ("serving.client",),
    "prometheus_client": ("serving",),
    "redis": ("serving.store.redis",),
    "psycopg": ("serving.store.postgres",),
    "pickle": (),
    "marshal": (),
    "shelve": (),
}
SCRIPTS = ("finetune", "serve", "benchmarks")  # these import llmrec and never each other
OUTSIDE = (*SCRIPTS, "tests")
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "base", "core"}
BASE_INSTALL = ("pyarrow", "duckdb", "numpy", "pydantic", "jinja2", "yaml")


def imported_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import at any depth; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def module_name(path: Path, root: Path) -> str:
    """`llmrec/data/catalog.py` is data.catalog, `llmrec/data/__init__.py` is data, the root is empty."""
    parts = path.relative_to(root / "llmrec").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def library_fault(module: str, name: str) -> str | None:
    """What is wrong with `module` of the library importing the dotted `name`; None when nothing is."""
    package, _, rest = name.partition(".")
    if name.startswith("."):
        return "relative import"
    if package in OUTSIDE:
        return f"the library imports {package}"
    if package in HOMES and not any(f"{module}.".startswith(f"{home}.") for home in HOMES[package]):
        return f"{package} is imported outside {HOMES[package] or 'every place'}"
    if package != "llmrec" or not module or rest == "__version__":
        return None
    source, target = module.partition(".")[0], rest.partition(".")[0]
    if source not in ORDER:
        return None  # reported once for the file
    if target not in ORDER:
        return f"imports {name}, which is no stage"
    if ORDER.index(target) > ORDER.index(source):
        return f"{source} imports the later stage {target}"
    return None


def script_fault(folder: str, name: str) -> str | None:
    """What is wrong with a script of `folder` importing the dotted `name`."""
    package = name.partition(".")[0]
    if name.startswith("."):
        return "relative import"
    if package in OUTSIDE and package != folder:
        return f"{folder} imports {package}"
    return None


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, empty when none do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def violations(root: Path) -> list[str]:
    """Every breach of the import rules below `root`, one line each."""
    found = []
    graph: dict[str, set[str]] = {}
    for path in sorted((root / "llmrec").rglob("*.py")):
        where, module = path.relative_to(root), module_name(path, root)
        if module and module.partition(".")[0] not in ORDER:
            found.append(f"{where}: not in the order of stages")
        if VAGUE & set(module.split(".")):
            found.append(f"{where}: a name that says nothing")
        names = list(imported_names(ast.parse(path.read_text(encoding="utf-8"))))
        found += [
            f"{where}:{line}: {fault}" for line, name in names if (fault := library_fault(module, name))
        ]
        graph[module] = {name.removeprefix("llmrec.") for _, name in names if name.startswith("llmrec.")}
    rings = {module: {owner(name, graph) for name in names} - {module, ""} for module, names in graph.items()}
    if ring := cycle(rings):
        found.append(f"a ring of imports: {' -> '.join(ring)}")
    for folder in SCRIPTS:
        for path in sorted((root / folder).rglob("*.py")):
            names = imported_names(ast.parse(path.read_text(encoding="utf-8")))
            found += [
                f"{path.relative_to(root)}:{line}: {fault}"
                for line, name in names
                if (fault := script_fault(folder, name))
            ]
    return found


def owner(name: str, modules: dict[str, set[str]]) -> str:
    """The module that the dotted `name` is or belongs to."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def test_imports_go_one_way():
    assert violations(ROOT) == []


def plant(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return violations(root)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("llmrec/data/catalog.py", "from llmrec.model import tuned", "data imports the later stage model"),
        ("llmrec/data/catalog.py", "def f():\n    import llmrec.cli", "data imports the later stage cli"),
        ("llmrec/decode/trie.py", "from llmrec import engines", "decode imports the later stage engines"),
        ("llmrec/data/catalog.py", "from . import events", "relative import"),
        ("llmrec/data/catalog.py", "from ..files import write_text", "relative import"),
        ("llmrec/evaluate/report.py", "def f():\n    import torch.nn", "torch is imported outside"),
        ("llmrec/baselines/ease.py", "import torch", "torch is imported outside"),
        ("llmrec/baselines/sasrecent.py", "import torch", "torch is imported outside"),
        ("llmrec/verbalize/render.py", "from transformers import AutoTokenizer", "transformers is imported"),
        ("llmrec/engines/local.py", "from vllm import LLM", "vllm is imported outside"),
        ("llmrec/serving/run.py", "from ray import serve", "ray is imported outside"),
        ("llmrec/cli.py", "import fastapi", "fastapi is imported outside"),
        ("llmrec/bundle.py", "import pickle", "pickle is imported outside"),
        ("llmrec/model/tuned.py", "import finetune.retrieval", "the library imports finetune"),
        ("llmrec/model/tuned.py", "from tests import world", "the library imports tests"),
        ("llmrec/model/tuned.py", "import llmrec", "which is no stage"),
        ("llmrec/model/tuned.py", "from llmrec import Recommender", "which is no stage"),
        ("llmrec/model/utils.py", "", "a name that says nothing"),
        ("llmrec/core/thing.py", "", "a name that says nothing"),
        ("llmrec/extra.py", "", "not in the order of stages"),
        ("finetune/retrieval.py", "import tests.world", "finetune imports tests"),
        ("finetune/retrieval.py", "from .losses import x", "relative import"),
        ("benchmarks/scale.py", "import finetune", "benchmarks imports finetune"),
        ("serve/app.py", "from finetune import retrieval", "serve imports finetune"),
    ],
)
def test_planted_violation_is_found(tmp_path, name, text, fault):
    found = plant(tmp_path, {name: text})
    assert any(line.startswith(name) and fault in line for line in found)


def test_planted_ring_is_found(tmp_path):
    files = {
        "llmrec/data/a.py": "from llmrec.data.b import x",
        "llmrec/data/b.py": "def f():\n    from llmrec.data import a",
    }
    assert any("a ring of imports" in line for line in plant(tmp_path, files))


def test_what_is_allowed_is_not_reported(tmp_path):
    files = {
        "llmrec/__init__.py": "from llmrec.recommend import Recommender",
        "llmrec/data/__init__.py": "",
        "llmrec/data/catalog.py": "import json\nfrom llmrec.errors import DataError\nimport duckdb",
        "llmrec/engines/vllm.py": "import torch, vllm",
        "llmrec/baselines/sasrec.py": "import torch",
        "llmrec/bundle.py": "from llmrec import __version__",
        "llmrec/cli.py": "from llmrec.data import catalog\nfrom llmrec.data.catalog import Catalog",
        "finetune/retrieval.py": "import accelerate\nfrom llmrec.tune import losses",
    }
    assert plant(tmp_path, files) == []


@pytest.mark.parametrize(
    "code", ["import llmrec", "import sys; sys.argv[1:] = ['--help']; import llmrec.cli as c; c.main()"]
)
def test_import_and_help_are_light(code):
    """Neither `import llmrec` nor the help loads a package beyond those of the command line itself."""
    listing = f"import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n{code}"
    result = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    loaded = {name.partition(".")[0] for name in result.stderr.split()}
    assert "llmrec" in loaded
    assert not loaded & ({*HOMES, *BASE_INSTALL} - {"pickle", "marshal", "shelve"})
