"""Fixtures that several test files share."""

import importlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmrec import cli
from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml

# A shell that runs the tests in the background lets them ignore Ctrl-C, and whatever they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before torch is imported: on tiny models threads only wait for each other, on busy machines for seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """vLLM changes its process and Ray is seldom installed: their tests run alone, when they are named."""
    alone = next((each for each in ("test_vllm_", "test_ray") if collection_path.name.startswith(each)), None)
    return True if alone and not any(alone in name for name in config.args) else None


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The bundled sample, prepared once a session; read only."""
    directory = tmp_path_factory.mktemp("sample") / "prepared"
    prepare(load_description(sample_yaml()), directory)
    return Prepared(directory)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random base model of each architecture, by name; read only."""
    from tiny_models import ARCHITECTURES, save_checkpoint

    folder = tmp_path_factory.mktemp("base")
    return {name: save_checkpoint(name, folder / name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def slice_of_sample(sample: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Sixty items and as many users of the sample, with categories; read only."""
    from sample_slice import prepared_slice

    return prepared_slice(sample, tmp_path_factory.mktemp("slice"))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A shop of views and purchases in two countries, for goals; read only."""
    from goal_shop import prepared_shop

    return prepared_shop(tmp_path_factory.mktemp("goals"))


@pytest.fixture(scope="session")
def tiny_bundle(slice_of_sample: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of that slice with a tiny random base, trained for one epoch; read only."""
    from sample_slice import save_roomy_checkpoint
    from tiny_bundles import tiny_recipe

    from llmrec.fit import fit

    folder = tmp_path_factory.mktemp("bundle")
    model = save_roomy_checkpoint(folder / "base")
    train = {"epochs": 1, "batch": 8, "learning_rate": 0.01, "precision": "no"}
    prompt = {"queries": 2, "max_events": 16, "gaps": False}
    recipe = tiny_recipe(slice_of_sample.directory, folder / "bundle", model, train=train, prompt=prompt)
    return fit(recipe).directory


@pytest.fixture(scope="session")
def code_bundle(slice_of_sample: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of that slice whose model, a tiny random base, writes codes; read only."""
    from sample_slice import save_roomy_checkpoint
    from tiny_bundles import code_recipe

    from llmrec.codes.fitting import fit_codes

    folder = tmp_path_factory.mktemp("codes")
    model = save_roomy_checkpoint(folder / "base")
    train = {"epochs": 1, "batch": 8, "learning_rate": 0.01, "precision": "no"}
    return fit_codes(code_recipe(slice_of_sample.directory, folder / "bundle", model, train=train)).directory


@pytest.fixture(scope="session")
def service(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running service of the tiny bundle, open to this machine; its bundle and items stay as they are."""
    from served import copied, served

    folder = tmp_path_factory.mktemp("service")
    with served(copied(tiny_bundle, folder)) as running:
        yield running


@pytest.fixture(scope="session")
def server_of() -> Iterator[Callable[[str], Any]]:
    """A running server of one's own by name, "redis" or "postgresql", started when first asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        servers = importlib.import_module("private_servers")
    make = {"redis": servers.redis_server, "postgresql": servers.postgres_server}
    folder = Path(tempfile.mkdtemp(prefix="servers-", dir=servers.memory_or_disk()))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    made: dict[str, Any] = {}

    def running(name: str) -> Any:
        try:
            server = made.setdefault(name, None) or make[name](folder)
        except servers.MissingServer as error:
            pytest.fail(str(error), pytrace=False)
        made[name] = server
        if not server.running:
            server.kill()
            server.start()
        return server

    yield running
    for server in made.values():
        if server is not None:
            server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def script_of() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script of benchmarks/ by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module


@pytest.fixture
def own_threads() -> Iterator[None]:
    """For scripts that say how many threads torch has: afterwards it has as many as before."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `llmrec ARGUMENTS` in this process, without a hub: exit code, stdout, stderr."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llmrec", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            cli.main()
        captured = capsys.readouterr()
        return raised.value.code or 0, captured.out, captured.err

    return call
