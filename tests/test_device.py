"""Where a model runs that nobody has placed."""

import pytest
import torch

from llmrec.device import device_of
from llmrec.errors import LlmrecError


def with_gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("gpus", "found"), [(2, "cuda"), (0, "cpu")])
def test_the_gpu_is_taken_where_there_is_one(gpus: int, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(gpus, monkeypatch)
    assert device_of() == device_of("auto") == found
    assert device_of("cpu") == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(0, monkeypatch)
    with pytest.raises(LlmrecError, match="no device cuda, torch sees no GPU here: say cpu$"):
        device_of("cuda")
    with_gpus(2, monkeypatch)
    assert device_of("cuda") == "cuda" and device_of("cuda:1") == "cuda:1"
    with pytest.raises(LlmrecError, match="no device cuda:2, this machine has 2 GPUs: say cpu or a lower"):
        device_of("cuda:2")
    with pytest.raises(LlmrecError, match="'gpu' is no device: say cpu, cuda or cuda:NUMBER"):
        device_of("gpu")
