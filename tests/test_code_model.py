"""Models that write codes: what trains, that our forward is peft's, and that merging loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES
from torch import nn
from transformers import AutoModelForCausalLM

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.items.trie import Trie
from llmrec.model.code_adapters import adapt_for_codes, merged, tied, trained_rows
from llmrec.model.code_model import CodeModel, PlainView, new_code_model
from llmrec.model.code_tokens import CodeTokens, add_code_tokens
from llmrec.model.pretrained import load_backbone, load_tokenizer
from llmrec.model.settings import AdapterSettings, ModelSettings
from llmrec.quiet import quiet

SIZES, ITEMS = (6, 5), 24
KINDS = ("lora", "prompt", "full", "none")
CODES = np.stack(np.unravel_index(np.random.default_rng(0).permutation(30)[:ITEMS], SIZES), axis=1)


def made(checkpoint, kind: str = "lora", dropout: float = 0.0) -> tuple[CodeModel, CodeTokens]:
    adapter = AdapterSettings(kind, rank=2, tokens=3, dropout=dropout)
    tokenizer = load_tokenizer(checkpoint)
    tokens = add_code_tokens(tokenizer, SIZES, adapter.soft_prompt)
    texts = [tokenizer(f"item {item} mug", add_special_tokens=False)["input_ids"] for item in range(ITEMS)]
    torch.manual_seed(0)
    model, _ = new_code_model(ModelSettings(str(checkpoint), adapter=adapter), tokens, texts, CODES, 0.0)
    return model.eval(), tokens


def moved(model: CodeModel) -> CodeModel:
    """The model with everything that trains changed, as training would."""
    torch.manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    return model


def prompt_of(tokens: CodeTokens) -> torch.Tensor:
    written = tokens.sequences(CODES[[3, 7, 1]]).ravel().tolist()
    return torch.tensor([[*tokens.soft_prompt, 5, 9, *written, 260, 40]])


def states_of(model: CodeModel, ids: torch.Tensor) -> torch.Tensor:
    length = ids.shape[1]
    visible = torch.ones(1, length, length, dtype=torch.bool).tril()
    return model(ids, visible, torch.arange(length)[None])[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_our_forward_is_that_of_peft_and_of_the_merged_checkpoint(
    checkpoints, tmp_path, name: str, kind: str
) -> None:
    model, tokens = made(checkpoints[name], kind)
    moved(model)
    ids = prompt_of(tokens)
    with torch.no_grad():
        wanted = model.backbone(input_ids=ids).logits[0]
        states = states_of(model, ids)
        ours = [model.code_logits(states, level) for level in range(2)]
        words = torch.arange(tokens.first)
        spoken = model.word_logits(states, words)
    torch.testing.assert_close(
        torch.cat(ours, 1), wanted[:, tokens.first : tokens.starts[-1]], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(spoken, wanted[:, : tokens.first], atol=1e-4, rtol=0)
    one_table = tied(load_backbone(checkpoints[name]))
    plain = merged(model.backbone)
    assert tied(plain) == one_table
    with quiet():
        plain.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert tied(again) == one_table and again.config.vocab_size >= tokens.end
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits[0], wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_rows_of_new_tokens_train_and_words_do_not(checkpoints, name: str, kind: str) -> None:
    model, tokens = made(checkpoints[name], kind)
    names = [key for key, value in model.named_parameters() if value.requires_grad]
    rows = [key for key in names if "trainable_tokens_delta" in key]
    assert len(rows) == (1 if name == "gpt2" else 2)  # GPT-2 has one table
    others = set(names) - set(rows)
    assert (kind in ("lora", "full")) == bool(others)
    assert all(("lora_" in key) == (kind == "lora") for key in others)
    states = states_of(model, prompt_of(tokens))
    (model.code_logits(states, 0).logsumexp(1) + model.code_logits(states, 1).logsumexp(1)).sum().backward()
    for key, value in model.named_parameters():
        assert (value.grad is not None) == value.requires_grad, key
    assert model.rows.shape == (len(tokens.ids), 32) and model.rows.grad.abs().sum() > 0


def test_rows_start_as_the_words_of_the_items_in_both_tables(checkpoints) -> None:
    model, tokens = made(checkpoints["llama"])
    base = load_backbone(checkpoints["llama"])
    for table, module in (
        (base.get_input_embeddings(), model.language_model.get_input_embeddings()),
        (base.get_output_embeddings(), model.language_model.get_output_embeddings()),
    ):
        rows = trained_rows(module).detach()
        used = load_tokenizer(checkpoints["llama"])("item mug 1", add_special_tokens=False)["input_ids"]
        assert 0.2 < float(rows.std() / table.weight[used].detach().std()) < 1.0
        assert len(rows.unique(dim=0)) == len(tokens.ids)


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_engine_runs_a_model_in_training_as_it_will_run_it_merged(
    checkpoints, name: str, kind: str
) -> None:
    model, tokens = made(checkpoints[name], kind)
    moved(model)
    trie = Trie.build(tokens.sequences(CODES))
    prompts = [prompt_of(tokens)[0].tolist(), [5, 6], [7]]

    def lists(backbone) -> tuple[np.ndarray, np.ndarray]:
        search = BeamSearch(trie, TransformersEngine(backbone), BeamSettings(width=ITEMS), tokens.levels)
        return search.search(prompts, 10)

    rows = model.rows.detach().clone()
    before = lists(PlainView(model))
    assert torch.equal(model.rows, rows)
    after = lists(merged(model.backbone))
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_allclose(before[1], after[1], atol=1e-4)


def test_a_head_without_a_plain_table_is_refused(checkpoints) -> None:
    base = load_backbone(checkpoints["llama"])
    base.lm_head = nn.Sequential(base.lm_head)
    with pytest.raises(LlmrecError, match="no plain table of tokens at its output"):
        adapt_for_codes(base, AdapterSettings("lora"), CodeTokens(287, (2,)))
    base = load_backbone(checkpoints["gpt2"])
    base.config.logit_scale = 0.5
    adapted = adapt_for_codes(base, AdapterSettings("lora"), CodeTokens(287, (2,)))
    with pytest.raises(LlmrecError, match="scales its output"):
        CodeModel(adapted, CodeTokens(287, (2,)))
