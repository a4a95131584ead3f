"""Loading base models: names, pruned layers, and checkpoints that are not what they should be."""

from pathlib import Path

import pytest
import torch
from test_attention import configs
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmrec.errors import LlmrecError
from llmrec.model.checkpoints import resolve, source_of
from llmrec.model.pretrained import hidden_size, load_backbone, load_tokenizer

ARCHITECTURES = ["llama", "qwen3", "qwen3-sliding", "gemma3", "gpt2"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches and no hub."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each tiny architecture."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    for name in ARCHITECTURES:
        config = configs()[name]
        config.initializer_range = 0.3
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
    return {name: folder / name for name in ARCHITECTURES}


IDS = torch.arange(20).reshape(2, 10)


def last(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return model.get_decoder()(input_ids=IDS).last_hidden_state


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_pruning_keeps_the_first_layers_and_the_final_norm(
    name: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    full, pruned = load_backbone(saved[name]), load_backbone(saved[name], layers=2)
    after_second: list[torch.Tensor] = []
    decoder = full.get_decoder()
    layers = decoder.h if name == "gpt2" else decoder.layers
    layers[1].register_forward_hook(
        lambda module, args, out: after_second.append(out if torch.is_tensor(out) else out[0])
    )
    last(full)
    norm = decoder.ln_f if name == "gpt2" else decoder.norm
    with torch.inference_mode():
        torch.testing.assert_close(last(pruned), norm(after_second[0]))
    assert not pruned.training and hidden_size(pruned) == 32
    pruned.save_pretrained(tmp_path)
    again = load_backbone(tmp_path)
    torch.testing.assert_close(last(again), last(pruned))
    assert pruned.config.num_hidden_layers == again.config.num_hidden_layers == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_pruned_model_generates_with_its_cache_as_without(name: str, saved: dict[str, Path]) -> None:
    model = load_backbone(saved[name], layers=3)
    with torch.inference_mode():
        first = model(IDS[:, :8], use_cache=True)
        second = model(IDS[:, 8:], past_key_values=first.past_key_values, use_cache=True)
        whole = model(IDS, use_cache=False).logits
    torch.testing.assert_close(second.logits, whole[:, 8:], atol=1e-4, rtol=1e-4)


def test_random_weights_have_the_shape_and_follow_the_seed(saved: dict[str, Path]) -> None:
    torch.manual_seed(5)
    first = load_backbone(saved["llama"], layers=2, random=True)
    torch.manual_seed(5)
    second = load_backbone(saved["llama"], layers=2, random=True)
    trained = load_backbone(saved["llama"], layers=2)
    shapes = {key: value.shape for key, value in trained.state_dict().items()}
    assert {key: value.shape for key, value in first.state_dict().items()} == shapes
    torch.testing.assert_close(last(first), last(second))
    assert (last(first) - last(trained)).abs().max() > 0.1


def test_the_type_of_numbers_is_what_was_asked(saved: dict[str, Path]) -> None:
    assert load_backbone(saved["llama"]).dtype == torch.float32
    assert load_backbone(saved["llama"], layers=1, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("layers", [0, -1, 5])
def test_impossible_numbers_of_layers_are_refused(layers: int, saved: dict[str, Path]) -> None:
    with pytest.raises(LlmrecError, match="the model has 4, choose from 1 to 4"):
        load_backbone(saved["llama"], layers=layers)


def test_a_checkpoint_that_lacks_weights_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    model = load_backbone(saved["llama"])
    kept = {key: value for key, value in model.state_dict().items() if "layers.3.mlp" not in key}
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(LlmrecError, match="lacks 3 of the model's weights"):
        load_backbone(tmp_path)
    assert load_backbone(tmp_path, layers=3).config.num_hidden_layers == 3  # what it lacks is not needed


@pytest.mark.parametrize("damage", ["cut", "absent", "text", "config"])
def test_a_damaged_checkpoint_is_one_clear_error(damage: str, saved: dict[str, Path], tmp_path: Path) -> None:
    for path in saved["llama"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "absent":
        weights.unlink()
    elif damage == "text":
        weights.write_text("not weights")
    else:
        (tmp_path / "config.json").write_text('{"model_type": "llama", ')
    with pytest.raises(LlmrecError) as error:
        load_backbone(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(LlmrecError, match="no usable tokenizer"):
        load_tokenizer(tmp_path)


def test_a_directory_goes_before_a_known_name(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").mkdir()
    with pytest.raises(LlmrecError, match="run `llmrec models pull smollm2-135m`"):
        resolve("smollm2-135m", pull=False)  # an empty directory of that name is no checkpoint
    (tmp_path / "smollm2-135m" / "config.json").write_text("{}")
    assert resolve("smollm2-135m") == Path("smollm2-135m")
    assert source_of(saved["llama"]) == f"directory {saved['llama']}"


def test_a_model_in_the_hub_cache_needs_no_network(tmp_path: Path) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--small"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(LlmrecError, match="did not give it"):
        resolve("someone/small", say=str)  # half downloaded
    (snapshot / "model.safetensors").write_text("")
    assert resolve("someone/small", pull=False) == snapshot
    assert source_of(snapshot) == f"hub someone/small revision {revision}"


@pytest.mark.parametrize(
    "name", ["no-such-model", "nobody/no-such-model", "a/b/c", "../x", "", "x\0y", "ü ü"]
)
def test_an_unknown_name_is_one_clear_error(name: str) -> None:
    with pytest.raises(LlmrecError) as error:
        resolve(name, say=str)
    assert "smollm2-135m" in str(error.value) and "\n" not in str(error.value)


def test_a_directory_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(LlmrecError, match="it has no config.json"):
        resolve(str(tmp_path))
