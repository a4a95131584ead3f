"""From a recipe to a bundle: one process and two, resumed, refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_bundles import recipe_values, tiny_recipe, write_recipe
from tiny_models import save_checkpoint, tiny_prepared

from llmrec.bundle import Bundle
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.files import only_writer
from llmrec.fit import fit, text_vectors
from llmrec.items.newcomers import stand_in

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "finetune" / "retrieval.py"
BOTH = """
import sys, runpy
from pathlib import Path
from safetensors.torch import save_file
from llmrec.tune.retrieval import RetrievalTrainer
from llmrec.tune.checkpoint import trainable

run = RetrievalTrainer.run
def run_and_keep(self, *arguments):
    state = run(self, *arguments)
    values = {name: value.detach().contiguous() for name, value in trainable(self.model).items()}
    save_file(values, Path(KEEP) / f"process{self.accelerator.process_index}.safetensors")
    return state
RetrievalTrainer.run = run_and_keep
sys.argv = [SCRIPT, "--config", CONFIG]
runpy.run_path(SCRIPT, run_name="__main__")
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return tiny_prepared(tmp_path_factory.mktemp("shop"), users=32)


def child(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def test_two_processes_train_one_model(shop: Prepared, checkpoints, tmp_path: Path) -> None:
    """Two processes with a batch each are one process that accumulates two."""
    # Six batches an epoch: with an odd number, two processes would see one of them twice.
    train = {"epochs": 2, "batch": 5, "dropout": 0.0, "precision": "no", "learning_rate": 0.01}
    common = {"adapter": {"kind": "full"}, "loss": {"query_weight": 0.5}}
    values = recipe_values(shop.directory, tmp_path / "two", checkpoints["llama"], train=train, **common)
    config = write_recipe(tmp_path / "two.yaml", values)
    script = tmp_path / "both.py"
    names = {"KEEP": str(tmp_path), "CONFIG": str(config), "SCRIPT": str(SCRIPT)}
    script.write_text("".join(f"{name} = {value!r}\n" for name, value in names.items()) + BOTH)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    done = child([*launch, "--main_process_port", "0", str(script)], PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the bundle is") == 2
    assert "fine-tune: 6/6" in done.stderr
    first, second = (load_file(tmp_path / f"process{number}.safetensors") for number in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)

    bundle = Bundle(tmp_path / "two")
    alone = fit(
        tiny_recipe(
            shop.directory,
            tmp_path / "one",
            checkpoints["llama"],
            train={**train, "accumulate": 2},
            **common,
        )
    )
    assert bundle.manifest["training"]["updates"] == alone.manifest["training"]["updates"] == 6
    np.testing.assert_allclose(bundle.item_matrix(), alone.item_matrix(), atol=1e-4)
    ours, theirs = bundle.model(), alone.model()
    for (name, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3, msg=name)
    assert bundle.manifest["training"]["validation_ndcg@10"] == pytest.approx(
        alone.manifest["training"]["validation_ndcg@10"], abs=1e-6
    )


def test_the_script_makes_a_bundle_and_says_where(shop: Prepared, checkpoints, tmp_path: Path) -> None:
    values = recipe_values(shop.directory, tmp_path / "unused", checkpoints["gpt2"])
    config = write_recipe(tmp_path / "recipe.yaml", values)
    out = tmp_path / "bundle"
    done = child([sys.executable, str(SCRIPT), "--config", str(config), "--out", str(out), "--seed", "3"])
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"the bundle is {out}"
    bundle = Bundle(out)
    assert bundle.recipe.train.seed == 3 and bundle.recipe.out == str(out)
    assert not (tmp_path / "unused").exists()
    training = bundle.manifest["training"]
    assert training["epochs"] == 1 and 0 <= training["validation_ndcg@10"] <= 1
    assert list((tmp_path / "bundle.work" / "run" / "log").glob("events.*"))


@pytest.mark.parametrize("arguments", [["--config", "none.yaml"], ["--config", "bad.yaml"]])
def test_a_mistake_is_one_line_of_the_script(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text("data: sample\nout: x\nmodel: y\nlayers: two\n")
    done = child([sys.executable, str(SCRIPT), arguments[0], str(tmp_path / arguments[1])])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("retrieval.py: ") and arguments[1] in line


def test_an_interrupted_fit_goes_on_and_ends_the_same(
    shop: Prepared, checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"epochs": 2, "batch": 4, "precision": "no", "checkpoint_minutes": 0.0}
    recipe = tiny_recipe(shop.directory, tmp_path / "one", checkpoints["qwen3"], train=train)
    whole = fit(recipe)
    again = replace(recipe, out=str(tmp_path / "two"))

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr("llmrec.fit.write_bundle", interrupt)  # after training, before the bundle
        fit(again)
    table = tmp_path / "two.work" / "examples" / "settings.json"
    made = table.stat().st_mtime_ns
    resumed = fit(again)
    assert table.stat().st_mtime_ns == made
    for part in ("new_parts.safetensors", "adapter/adapter_model.safetensors", "item_matrix.npy"):
        assert (whole.directory / part).read_bytes() == (resumed.directory / part).read_bytes()


def test_a_workspace_belongs_to_one_recipe_and_one_state_of_the_data(checkpoints, tmp_path: Path) -> None:
    shop = tiny_prepared(tmp_path / "shop", users=8)
    recipe = tiny_recipe(shop.directory, tmp_path / "out", checkpoints["gpt2"])
    fit(recipe)
    with pytest.raises(LlmrecError, match=r"out\.work belongs to another recipe: remove it"):
        fit(replace(recipe, layers=1))
    manifest = shop.directory / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "name": "other"}))
    with pytest.raises(LlmrecError, match=r"out\.work was begun with other data"):
        fit(recipe)


@pytest.mark.parametrize("wrong", [{"data": "nowhere.yaml"}, {"model": "no/model"}, {"split": "by-moon"}])
def test_a_corrected_recipe_does_not_meet_its_own_mistake(
    shop: Prepared, checkpoints, tmp_path: Path, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    values = recipe_values(shop.directory, tmp_path / "out", checkpoints["gpt2"])
    with pytest.raises(LlmrecError) as error:
        fit(tiny_recipe(**{**_paths(values), **wrong}))
    assert next(iter(wrong.values())) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    fit(tiny_recipe(**_paths(values)))


def _paths(values: dict[str, object]) -> dict[str, object]:
    return {name: values[name] for name in ("data", "out", "model")}


def test_newcomers_end_as_items_that_are_added(checkpoints, tmp_path: Path) -> None:
    shop = tiny_prepared(tmp_path / "shop", users=2)
    new = np.bincount(shop.train("leave-last-out").items, minlength=len(shop.catalog)) == 0
    assert 0 < new.sum() < len(new)
    items = {"inner": 16, "text_encoder": "hash", "newcomers": True}
    bundle = fit(tiny_recipe(shop.directory, tmp_path / "out", checkpoints["gpt2"], items=items))
    texts = text_vectors(shop, "hash", tmp_path / "work")
    ids = load_file(bundle.directory / "new_parts.safetensors")["items.id_part"].numpy()
    np.testing.assert_allclose(
        ids[new], stand_in(texts[new], texts[~new], ids[~new], "neighbours"), atol=1e-6
    )
    assert not np.allclose(ids[new], ids[~new].mean(0))


def test_two_runs_into_one_bundle_are_refused(shop: Prepared, checkpoints, tmp_path: Path) -> None:
    recipe = tiny_recipe(shop.directory, tmp_path / "out", checkpoints["gpt2"])
    with only_writer(tmp_path / "out.work"), pytest.raises(LlmrecError, match="another run is writing"):
        fit(recipe)
    assert not (tmp_path / "out").exists()


def test_a_data_yaml_is_prepared_first(checkpoints, tmp_path: Path) -> None:
    tiny_prepared(tmp_path / "shop", users=6)
    bundle = fit(tiny_recipe(tmp_path / "shop" / "data.yaml", tmp_path / "out", checkpoints["gpt2"]))
    assert bundle.prepared.name == "small" and len(bundle.catalog) == 24
    assert (tmp_path / "out.work" / "data" / "manifest.json").is_file()


def test_texts_become_vectors_without_a_model(shop: Prepared, tmp_path: Path) -> None:
    vectors = text_vectors(shop, "hash", tmp_path)
    assert vectors.shape == (24, 384)
    alike = vectors @ vectors.T
    red_mug, blue_mug, green_clock = shop.catalog.indices(["i0", "i1", "i22"])
    assert alike[red_mug, blue_mug] > 0.3 > alike[red_mug, green_clock]


def test_another_model_of_that_name_is_noticed(shop: Prepared, tmp_path: Path) -> None:
    base = save_checkpoint("llama", tmp_path / "base", seed=1)
    bundle = fit(tiny_recipe(shop.directory, tmp_path / "out", base))
    bundle.model()
    save_checkpoint("llama", tmp_path / "base", seed=2)
    with pytest.raises(LlmrecError, match="trained on another .* than the one found here"):
        Bundle(tmp_path / "out").model()
