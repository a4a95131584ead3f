"""Fixtures that several test files share."""

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
