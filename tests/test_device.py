"""Where a model runs that nobody has placed."""

import pytest
import torch

from llmrec.device import device_of


@pytest.mark.parametrize(("there", "found"), [(True, "cuda"), (False, "cpu")])
def test_the_gpu_is_taken_where_there_is_one(
    there: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_of() == device_of("auto") == found
    assert device_of("cpu") == "cpu" and device_of("cuda:1") == "cuda:1"
