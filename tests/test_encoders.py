"""Text encoders: unit vectors that do not depend on the batch; a cache that changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from llmrec.errors import LlmrecError
from llmrec.items.encoders import HashEncoder, TextEncoder, encode_cached

WORDS = ["red", "blue", "mug", "lamp", "garden", "tea", "light", "holder"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights and a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    plain.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


TEXTS = ["red mug", "blue lamp garden light holder tea", "", "red mug", "tea " * 300, "unheard words"]


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(checkpoint: Path) -> None:
    encoder = TextEncoder(checkpoint, batch_size=4)
    together = encoder.encode(TEXTS)
    assert together.shape == (6, 16) and together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_array_equal(together[0], together[3])
    assert encoder.encode([]).shape == (0, 16)


def test_the_vector_is_the_mean_of_the_states_over_the_tokens(checkpoint: Path) -> None:
    model = BertModel.from_pretrained(checkpoint).eval()
    ids = torch.tensor([[2, 4, 6, 3]])  # [CLS] red mug [SEP]
    with torch.inference_mode():
        mean = model(input_ids=ids).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(
        TextEncoder(checkpoint).encode(["red mug", "tea tea tea tea tea"])[0],
        mean / np.linalg.norm(mean),
        atol=1e-5,
    )


def test_only_the_first_tokens_count_and_progress_is_told(checkpoint: Path) -> None:
    told: list[tuple[int, int]] = []
    encoder = TextEncoder(
        checkpoint, max_tokens=6, batch_size=2, progress=lambda done, of: told.append((done, of))
    )
    vectors = encoder.encode(["red mug tea lamp", "red mug tea lamp blue blue blue", "red mug tea blue"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    assert abs(vectors[0] - vectors[2]).max() > 1e-3
    assert told == [(2, 3), (3, 3)]


def test_a_checkpoint_without_its_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(LlmrecError, match="cannot be loaded as a text encoder"):
        TextEncoder(tmp_path)
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = BertModel.from_pretrained(checkpoint)
    kept = {key: value for key, value in model.state_dict().items() if "layer.1." not in key}
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(LlmrecError, match="lacks weights"):
        TextEncoder(tmp_path)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8))
def test_hash_vectors_are_units_or_zero_and_the_same_again(texts: list[str]) -> None:
    vectors = HashEncoder(32).encode(texts)
    norms = np.linalg.norm(vectors, axis=1)
    assert np.all(np.isclose(norms, 1, atol=1e-4) | (norms == 0))
    np.testing.assert_array_equal(vectors, HashEncoder(32).encode(texts))


def test_hash_vectors_bring_texts_with_common_words_together() -> None:
    red, blue, lamp = HashEncoder().encode(["red tea mug", "blue tea mug", "garden lamp"])
    assert red @ blue > 0.5 > 0.2 > abs(red @ lamp)


def test_the_cache_returns_the_same_and_tells_encoders_and_texts_apart(tmp_path: Path) -> None:
    encoder = HashEncoder(16)
    first = encode_cached(encoder, ["a b", "c"], tmp_path)
    (file,) = tmp_path.iterdir()
    np.save(file, first + 1)  # proof that the second call reads and does not compute
    np.testing.assert_array_equal(encode_cached(encoder, ["a b", "c"], tmp_path), first + 1)
    np.testing.assert_array_equal(
        encode_cached(encoder, ["a", "b c"], tmp_path), encoder.encode(["a", "b c"])
    )
    assert encode_cached(HashEncoder(8), ["a b", "c"], tmp_path).shape == (2, 8)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_broken_cache_file_is_written_anew(tmp_path: Path) -> None:
    encoder = HashEncoder(16)
    first = encode_cached(encoder, ["a b"], tmp_path)
    (file,) = tmp_path.iterdir()
    for broken in (b"", b"junk", file.read_bytes()[:-5]):
        file.write_bytes(broken)
        np.testing.assert_array_equal(encode_cached(encoder, ["a b"], tmp_path), first)
    np.testing.assert_array_equal(np.load(file), first)


def test_a_cache_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmrecError, match="cannot write"):
        encode_cached(HashEncoder(4), ["a"], tmp_path / "file" / "cache")
