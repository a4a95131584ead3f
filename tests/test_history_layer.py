"""The layer that a model of codes starts from: nothing at first, then a sum of the codes that were read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from code_models import SIZES, shop_codes
from tiny_models import tiny_catalog
from torch.nn import functional

from llmrec.errors import LlmrecError
from llmrec.model.code_adapters import merged
from llmrec.model.code_model import CodeModel, new_code_model
from llmrec.model.code_tokens import CodeTokens, add_code_tokens
from llmrec.model.history_layer import HistoryLayer, append_history_layer
from llmrec.model.pretrained import load_backbone, load_tokenizer
from llmrec.model.settings import AdapterSettings, ModelSettings
from llmrec.tune.code_start import code_vectors, level_rows, level_shares, loss_of, start_from_events
from llmrec.tune.passages import CodeBatch, Passage, Run, collate_passages

IDS = torch.tensor([[5, 9, 260, 40, 7, 3]])


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_layer_that_was_just_added_changes_nothing_and_is_saved_with_the_model(
    checkpoints, tmp_path, name: str
) -> None:
    model = load_backbone(checkpoints[name])
    with torch.no_grad():
        wanted = model(input_ids=IDS).logits
        append_history_layer(model)
        found = model(input_ids=IDS).logits
        model.save_pretrained(tmp_path)
        again = load_backbone(tmp_path)
        read = again(input_ids=IDS).logits
    assert again.config.num_hidden_layers == 3 == len(again.get_decoder().layers)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(read, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_another_architecture_is_refused_by_name(checkpoints, name: str) -> None:
    with pytest.raises(LlmrecError, match=r"start: events .*llama.* this one is .*choose start: words"):
        append_history_layer(load_backbone(checkpoints[name]))


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_heads_sum_up_codes_alone_and_some_of_them_the_newest(checkpoints, name: str) -> None:
    model = load_backbone(checkpoints[name])
    append_history_layer(model)
    layer, hidden, length = HistoryLayer(model), 32, 12
    constant, is_code = torch.zeros(2, hidden)
    constant[0], is_code[1] = 1, 1
    torch.manual_seed(0)
    given = torch.randn(1, length, hidden)
    codes = torch.tensor([0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0])
    given[0, :, 0], given[0, :, 1] = 1, 2.0 * codes - 1
    values = torch.zeros(layer.width, hidden)
    values[:, 2 : 2 + layer.width] = torch.eye(layer.width)
    output = torch.zeros(hidden, layer.width)
    output[2 : 2 + layer.width] = torch.eye(layer.width)
    layer.write_looks(constant, is_code, 40, 2)
    layer.write_values(values)
    layer.write_output(output)
    frequencies = model.get_decoder().rotary_emb.inv_freq
    frequency = max(float(each) for each in frequencies[:-1] if float(each) * 40 <= math.pi)
    with torch.no_grad():
        places = torch.arange(length)[None]
        turned = model.get_decoder().rotary_emb(given, places)
        mask = torch.full((length, length), -torch.inf).triu(1)[None, None]
        found = layer.layer.self_attn(given, position_embeddings=turned, attention_mask=mask)[0][0, -1]
    distances = length - 1 - torch.arange(length).float()
    wanted = torch.zeros(layer.width)
    for look in (1 / (2 * frequency) ** 2, 0.0):  # two heads to a value: the newest event, and all
        shares = torch.softmax(4.0 * (2 * codes - 1) + look * torch.cos(frequency * distances), 0)
        wanted += shares @ given[0, :, 2 : 2 + layer.width]
    torch.testing.assert_close(found[2 : 2 + layer.width], wanted, atol=1e-3, rtol=1e-3)


def habits(tokens: CodeTokens, codes: np.ndarray, count: int, seed: int) -> tuple[CodeBatch, np.ndarray]:
    """Histories that keep to one thing, in all its colours, and the items in them."""
    rng, passages, taken = np.random.default_rng(seed), [], []
    things = len(codes) // 4
    for _ in range(count):
        items = 4 * rng.integers(things) + rng.permutation(4)
        taken.extend(items.tolist())
        written = tokens.sequences(codes[items]).ravel().tolist()
        tasks = [-1] * (3 + 3 * len(SIZES)) + [0] * len(SIZES)
        passages.append(Passage(Run(0, [5, 9, 40, *written], tasks), ()))
    return collate_passages(passages), np.array(taken)


def started(checkpoint, history_layer: bool) -> tuple[CodeModel, np.ndarray]:
    tokenizer = load_tokenizer(checkpoint)
    tokens = add_code_tokens(tokenizer, SIZES)
    codes = shop_codes(len(tiny_catalog()))
    texts = [[5 + item % 7] for item in range(len(codes))]
    torch.manual_seed(0)
    settings = ModelSettings(str(checkpoint), adapter=AdapterSettings("full"))
    return new_code_model(settings, tokens, texts, codes, 0.0, history_layer)[0].eval(), codes


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_levelled_codes_are_as_likely_as_they_were_taken(checkpoints, name: str) -> None:
    model, codes = started(checkpoints[name], False)
    batch, taken = habits(model.tokens, codes, 40, 1)
    shares = level_shares(codes, np.bincount(taken, minlength=len(codes)), SIZES)
    before = loss_of(model, batch)
    for _ in range(4):  # where one table serves both, states follow the rows a little
        level_rows(model, batch, shares)
    assert loss_of(model, batch) < before
    with torch.no_grad():
        states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1)[batch.rows]
        for level, start in enumerate(model.tokens.starts[:-1]):
            own = (batch.targets >= start) & (batch.targets < start + SIZES[level])
            mean = model.code_logits(states[own].mean(0, keepdim=True), level)[0]
            torch.testing.assert_close(
                functional.log_softmax(mean, 0), shares[level].log(), atol=1e-3, rtol=0
            )


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_what_is_taken_together_is_likely_before_any_training(checkpoints, name: str) -> None:
    model, codes = started(checkpoints[name], True)
    read, taken = habits(model.tokens, codes, 60, 1)
    asked, _ = habits(model.tokens, codes, 40, 2)
    shares = level_shares(codes, np.bincount(taken, minlength=len(codes)), SIZES)
    vectors = np.zeros((len(codes), 6), dtype=np.float32)
    vectors[np.arange(len(codes)), np.arange(len(codes)) // 4] = 1  # who takes one colour takes the others
    level_rows(model, read, shares)
    guessed = loss_of(model, asked)
    found = start_from_events(model, code_vectors(vectors, codes, SIZES), read, asked, shares)
    assert found == pytest.approx(loss_of(model, asked), abs=1e-5)
    assert found < 0.8 * guessed
    prompt = read.ids[:1]
    length = prompt.shape[1]
    visible = torch.ones(1, length, length, dtype=torch.bool).tril()
    with torch.no_grad():
        ours = model.code_logits(model(prompt, visible, torch.arange(length)[None])[0], 0)
        plain = merged(model.backbone)(input_ids=prompt).logits[0]
    wanted = plain[:, model.tokens.first : model.tokens.starts[1]]
    torch.testing.assert_close(ours, wanted, atol=1e-3, rtol=1e-3)


def test_vectors_of_codes_add_up_to_those_of_items() -> None:
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    vectors = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=np.float32)
    found = code_vectors(vectors, codes, (2, 3)).numpy()
    np.testing.assert_allclose(found, [[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]])
