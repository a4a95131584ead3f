"""Bundles whose model writes codes: what was trained is what is written, read, and refused when altered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_bundles import code_recipe, code_values, write_recipe
from tiny_models import save_checkpoint, tiny_prepared

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle, open_bundle
from llmrec.codes.fitting import fit_codes
from llmrec.codes.recommender import CodeRecommender
from llmrec.codes.starting import check_start
from llmrec.config import Recipe
from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Request
from llmrec.errors import BundleError, LlmrecError
from llmrec.files import read_json, write_json
from llmrec.finetune import finetune
from llmrec.items.id_files import load_ids, save_ids
from llmrec.items.quantise.settings import QuantiserSettings
from llmrec.make_ids import VectorSettings, make_ids
from llmrec.model.code_adapters import logits_of
from llmrec.model.code_model import new_code_model
from llmrec.model.pretrained import load_backbone
from llmrec.recommend import Shop
from llmrec.tune.checkpoint import load_trainable
from llmrec.versions import versions_of

Run = Callable[..., tuple[int, str, str]]
SCRIPT = Path(__file__).parents[1] / "finetune" / "codes.py"
LEVELS = {"levels": [4, 8], "beam": 5, "questions": 12}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return tiny_prepared(tmp_path_factory.mktemp("shop"), users=16)


@pytest.fixture
def copy(code_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of a test's own."""
    return Path(shutil.copytree(code_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("base", "adapter", "start"),
    [
        ("llama", {"kind": "lora", "rank": 2}, "words"),
        ("gpt2", {"kind": "lora", "rank": 2}, "words"),  # one table for the input and the output
        ("qwen3", {"kind": "prompt", "tokens": 3}, "words"),
        ("gemma3", {"kind": "full"}, "words"),
        ("llama", {"kind": "none"}, "words"),
        ("qwen3", {"kind": "full"}, "events"),
    ],
)
def test_the_checkpoint_that_is_written_is_the_model_that_was_trained(
    shop: Prepared,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    base: str,
    adapter: dict[str, object],
    start: str,
) -> None:
    train = {"epochs": 2, "batch": 8, "dropout": 0.1, "precision": "no", "learning_rate": 0.01}
    recipe = code_recipe(
        shop.directory,
        tmp_path / "out",
        checkpoints[base],
        adapter=adapter,
        codes={**LEVELS, "start": start, "vectors": "events"},
        train=train,
    )
    bundle = fit_codes(recipe)
    tokens, ids = bundle.tokens(), bundle.ids()
    texts = [[tokens.tokenizer.bos_token_id or 0]] * len(ids)
    more = start == "events"
    trained, _ = new_code_model(recipe.model_settings, tokens.tokens, texts, ids.codes, 0.0, more)
    untrained = logits_of(trained.eval().backbone, prompt := tokens.sequences[:5].ravel().tolist())
    load_trainable(trained, load_file(tmp_path / "out.work" / "run" / "best.safetensors"))
    wanted = logits_of(trained.backbone, prompt)
    found = logits_of(load_backbone(bundle.directory / "backbone"), prompt)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(wanted - untrained).max() > 1e-2
    assert not list(bundle.directory.rglob("adapter_*")) and bundle.manifest["training"]["epochs"] == 2


def test_transformers_alone_reads_the_checkpoint(code_bundle: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(code_bundle / "backbone").eval()
    tokenizer = AutoTokenizer.from_pretrained(code_bundle / "tokenizer")
    bundle = CodeBundle(code_bundle)
    tokens = bundle.tokens()
    prompt = tokens.sequences[:3].ravel().tolist()
    spelled = "".join(tokens.tokens.names[token - tokens.tokens.first] for token in prompt)
    assert tokenizer(spelled, add_special_tokens=False)["input_ids"] == prompt
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1].double()
    level = tokens.tokens.levels[0]
    wanted = torch.log_softmax(logits[level], 0).numpy()
    session = bundle.engine().begin([prompt])
    found = session.log_probabilities(np.array([0]), [np.array([], dtype=np.int64)], level, whole=False)[0]
    found = found - np.log(np.exp(found.astype(np.float64)).sum())
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_bundle_answers_the_same_wherever_it_lies(code_bundle: Path, copy: Path) -> None:
    first, second = CodeBundle(code_bundle), CodeBundle(copy)
    asked = [Request(first.prepared.histories.history(user), user=user) for user in range(4)]
    assert CodeRecommender(first).recommend(asked, 10) == CodeRecommender(second).recommend(asked, 10)


def test_every_part_that_is_missing_or_altered_is_named(copy: Path) -> None:
    parts = CodeBundle(copy).manifest["parts"]
    assert {"ids/ids.safetensors", "ids/quantiser.safetensors", "backbone/model.safetensors"} <= set(parts)
    for name in parts:
        path = copy / name
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError, match="is missing: make the bundle again: llmrec finetune") as error:
            CodeBundle(copy)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        for other in (content[:-1], content + b" ", b""):
            path.write_bytes(other)
            with pytest.raises(BundleError, match="was altered .*: make the bundle again"):
                CodeBundle(copy)
        path.write_bytes(content)
    manifest = read_json(copy / "manifest.json", "bundle")
    for name in CodeBundle.always:
        less = {part: digest for part, digest in parts.items() if part != name}
        write_json(copy / "manifest.json", {**manifest, "parts": less})
        with pytest.raises(BundleError, match=f"does not list {name}"):
            CodeBundle(copy)


def test_a_readout_is_opened_as_what_it_is(
    code_bundle: Path, tiny_bundle: Path, run: Run, tmp_path: Path
) -> None:
    assert isinstance(open_bundle(code_bundle), CodeBundle) and isinstance(open_bundle(tiny_bundle), Bundle)
    with pytest.raises(
        BundleError, match="made with readout: codes, this reads bundles of readout: retrieve"
    ):
        Bundle(code_bundle)
    with pytest.raises(BundleError, match="made with readout: retrieve"):
        CodeBundle(tiny_bundle)
    with pytest.raises(BundleError, match="is not a bundle"):
        open_bundle(tmp_path)
    for command in ("index", "queries"):
        code, out, err = run(command, code_bundle)
        assert (code, out) == (2, "") and "made with readout: codes" in err and len(err.splitlines()) == 1
    code, out, err = run("ids", "report", tiny_bundle)
    assert (code, out) == (2, "") and "has no item IDs" in err and len(err.splitlines()) == 1


def test_ids_that_the_recipe_names_are_the_bundles(
    shop: Prepared, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    where, vectors = tmp_path / "ids", VectorSettings("text+events", "hash")
    made = make_ids(shop, where, QuantiserSettings("kmeans", (4, 4)), vectors, "token")
    codes = {"ids": str(where), "beam": 5, "questions": 12}
    recipe = code_recipe(shop.directory, tmp_path / "out", checkpoints["llama"], codes=codes)
    bundle = fit_codes(recipe)
    np.testing.assert_array_equal(bundle.ids().codes, made.codes)
    assert read_json(bundle.directory / "ids" / "manifest.json", "IDs")["vectors"] == vectors.as_dict()
    assert not (tmp_path / "out.work" / "ids").exists()
    other = tmp_path / "other"
    save_ids(load_ids(where), other, [f"x{at}" for at in range(len(made))])
    with pytest.raises(LlmrecError, match="are of another catalogue"):
        fit_codes(replace(recipe, out=str(tmp_path / "no"), codes=replace(recipe.codes, ids=str(other))))
    assert not (tmp_path / "no").exists()


def test_ids_that_were_made_anew_are_another_run_and_another_generation(
    shop: Prepared, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """A workspace does not mix two; the bundle of the first stays whole as an older version."""
    where, vectors, out = tmp_path / "ids", VectorSettings("text", "hash"), tmp_path / "out"
    codes = {"ids": str(where), "beam": 5, "questions": 12}
    recipe = code_recipe(shop.directory, out, checkpoints["llama"], codes=codes)
    first = make_ids(shop, where, QuantiserSettings("kmeans", (4, 8)), vectors, "relocate")
    assert fit_codes(recipe).ids().digest == first.digest
    second = make_ids(shop, where, QuantiserSettings("lsh", (4, 8)), vectors, "relocate", seed=3)
    assert second.digest != first.digest and second.generation == 2
    with pytest.raises(LlmrecError, match="work was begun with other item IDs .*: remove it to start"):
        fit_codes(recipe)
    assert CodeBundle(out).ids().generation == 1
    shutil.rmtree(tmp_path / "out.work")
    assert fit_codes(recipe).ids().digest == second.digest
    older = CodeBundle(versions_of(out) / "1")
    assert older.ids().digest == first.digest and older.manifest["version"] == 1
    assert CodeBundle(out).manifest["version"] == 2
    assert Shop.open(versions_of(out) / "1").ask(user=shop.histories.users[0], k=3).items


def test_an_interrupted_fit_goes_on_and_ends_the_same(
    shop: Prepared, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"epochs": 2, "batch": 4, "precision": "no", "checkpoint_minutes": 0.0}
    recipe = code_recipe(shop.directory, tmp_path / "one", checkpoints["llama"], codes=LEVELS, train=train)
    whole = fit_codes(recipe)
    again = replace(recipe, out=str(tmp_path / "two"))

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr("llmrec.codes.fitting.write_code_bundle", interrupt)
        fit_codes(again)
    places = [tmp_path / "two.work" / name for name in ("examples/settings.json", "ids/manifest.json")]
    made = [place.stat().st_mtime_ns for place in places]
    resumed = fit_codes(again)
    assert [place.stat().st_mtime_ns for place in places] == made
    for part in ("backbone/model.safetensors", "ids/ids.safetensors", "ids/quantiser.safetensors"):
        assert (whole.directory / part).read_bytes() == (resumed.directory / part).read_bytes()


def test_the_script_and_the_command_make_a_bundle(
    shop: Prepared, checkpoints: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    values = code_values(shop.directory, tmp_path / "unused", checkpoints["gpt2"], codes=LEVELS)
    config = write_recipe(tmp_path / "recipe.yaml", values)
    out = tmp_path / "bundle"
    command = [sys.executable, str(SCRIPT), "--config", str(config), "--out", str(out), "--seed", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"the bundle is {out}"
    code, shown, err = run("finetune", config, "--out", tmp_path / "other", "--seed", "3")
    assert code == 0 and shown.endswith(f"wrote {tmp_path / 'other'}\n"), err
    for part in ("backbone/model.safetensors", "ids/ids.safetensors"):
        assert (out / part).read_bytes() == (tmp_path / "other" / part).read_bytes()


def test_a_base_that_has_codes_already_is_refused(shop: Prepared, code_bundle: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_checkpoint("llama", base)
    for name in ("backbone", "tokenizer"):
        shutil.copytree(code_bundle / name, base, dirs_exist_ok=True)
    with pytest.raises(LlmrecError, match="has tokens for codes already"):
        fit_codes(code_recipe(shop.directory, tmp_path / "out", base, codes=LEVELS))
    recipe = json.loads((code_bundle / "manifest.json").read_text())["recipe"]
    assert recipe["readout"] == "codes"


def test_a_model_that_starts_from_the_events_is_tuned_in_every_way(
    shop: Prepared, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """What is not trained of the layer that was added is in the checkpoint too."""
    train = {"epochs": 1, "batch": 8, "precision": "no"}
    codes = {**LEVELS, "start": "events", "vectors": "text+events"}
    for kind in ("lora", "prompt", "none"):
        out = tmp_path / kind
        recipe = code_recipe(
            shop.directory, out, checkpoints["llama"], adapter={"kind": kind}, codes=codes, train=train
        )
        bundle = fit_codes(recipe)
        layer = load_backbone(bundle.directory / "backbone").get_decoder().layers[2].self_attn
        assert layer.v_proj.weight.abs().max() > 0 and layer.o_proj.weight.abs().max() > 0
        found = CodeRecommender(bundle).recommend([Request(shop.histories.history(0), user=0)], 5)
        assert len({each.item for each in found[0]}) == 5


def test_a_base_that_cannot_start_from_the_events_is_refused(
    shop: Prepared, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    codes = {**LEVELS, "start": "events", "vectors": "events"}
    with pytest.raises(LlmrecError, match="choose start: words"):
        fit_codes(code_recipe(shop.directory, tmp_path / "out", checkpoints["gpt2"], codes=codes))
    with pytest.raises(LlmrecError, match="start is 'evnts', it must be one of: words, events"):
        code_recipe(shop.directory, tmp_path / "out", checkpoints["llama"], codes={"start": "evnts"})


def test_ids_of_texts_alone_cannot_start_from_the_events(
    code_bundle: Path, shop: Prepared, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing is made before that is said."""

    def recipe(**codes: object) -> Recipe:
        codes = {**LEVELS, "start": "events", **codes}
        return code_recipe(shop.directory, tmp_path / "out", checkpoints["llama"], codes=codes)

    with pytest.raises(LlmrecError, match="start: events needs .* from events: choose vectors: events, or"):
        finetune(recipe())
    with pytest.raises(
        LlmrecError, match=r"choose IDs of `llmrec ids build --vectors events`, .*/ids, or start: words"
    ):
        finetune(recipe(ids=str(code_bundle / "ids")))
    with pytest.raises(LlmrecError, match="item IDs: .*none/manifest.json is missing"):
        finetune(recipe(ids=str(tmp_path / "none")))
    assert not list(tmp_path.iterdir())
    manifest = json.loads((code_bundle / "ids" / "manifest.json").read_text())
    for source in ("events", "text+events", "vectors.npy"):
        manifest["vectors"] = {"source": source}
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        check_start(recipe(ids=str(tmp_path)))
        check_start(recipe(vectors=source))
