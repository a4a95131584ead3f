"""Fixtures that several test files share."""

from pathlib import Path

import pytest

from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml


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
