"""The benchmark of training steps runs on the workspace of any run."""

import importlib.util
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "training_speed.py"


def test_every_option_is_timed_on_the_same_tokens(tiny_bundle: Path, capsys, monkeypatch) -> None:
    spec = importlib.util.spec_from_file_location("training_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "training_speed", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    trainees: list[object] = []
    init = module.Trainee.__init__
    monkeypatch.setattr(
        module.Trainee, "__init__", lambda self, *given: trainees.append(self) or init(self, *given)
    )
    threads = torch.get_num_threads()
    module.main([f"{tiny_bundle}.work", "--steps", "2"])
    torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert len(trainees) == len(module.OPTIONS) and len({each.tokens for each in trainees}) == 1
    assert all(len(each.seconds) == 2 for each in trainees)
    places = {each.option.name: each.places for each in trainees}
    assert places["pack"] <= places["as it is"]
    assert [line.split(" | ")[0].strip("| ") for line in out.splitlines()[4:]] == list(places)
