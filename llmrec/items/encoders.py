"""Text encoders: from item texts to unit vectors; a sentence model, and a hash of words for tests."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llmrec.device import device_of
from llmrec.errors import LlmrecError, require_extra
from llmrec.files import replace_file, sha256_of
from llmrec.quiet import quiet

Vectors = npt.NDArray[np.float32]

_WORD = re.compile(r"\w+")


class Encoder(Protocol):
    """Turns texts into unit vectors; `key` names all that the vectors depend on besides the texts."""

    dimensions: int
    key: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 [texts, dimensions], in the order of `texts`."""
        ...


class TextEncoder:
    """A BERT-like sentence encoder: mean of the last states over the text's tokens, scaled to length 1.

    This is how all-MiniLM-L6-v2 was trained to be read. Use it with models that mean this pooling.
    """

    def __init__(
        self,
        directory: Path,
        *,
        batch_size: int = 64,
        max_tokens: int = 128,
        device: str = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Load the checkpoint in `directory` (from `llmrec.model.checkpoints.resolve`).

        Texts are cut after `max_tokens` tokens, and after 64 characters for each of these. `progress`
        is called with the distinct texts done and to do.
        Raises `LlmrecError` when the checkpoint cannot be loaded.
        """
        require_extra("train", ["torch", "transformers"], "encoding texts")
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        try:
            with quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(directory)
                model, info = AutoModel.from_pretrained(
                    directory, dtype=torch.float32, output_loading_info=True
                )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise LlmrecError(f"{directory} cannot be loaded as a text encoder: {reason}") from error
        missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
        if missing:  # they would be random numbers; the pooler is not read here
            raise LlmrecError(f"{directory} lacks weights of the text encoder (first: {missing[0]})")
        self._model = model.to(device_of(device)).eval()
        self._batch_size = batch_size
        self._max_tokens = max_tokens
        self._progress = progress
        self.dimensions = int(model.config.hidden_size)
        self.key = f"mean-{max_tokens}-{_weights_key(Path(directory))}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 [texts, dimensions], in the order of `texts`; equal texts, equal vectors."""
        distinct = list(dict.fromkeys(texts))
        out = np.zeros((len(distinct), self.dimensions), dtype=np.float32)
        # Texts of one length together: little padding, and the longest first, so that a batch that
        # does not fit in memory fails at once.
        order = np.argsort([-len(text) for text in distinct], kind="stable")
        for start in range(0, len(distinct), self._batch_size):
            rows = order[start : start + self._batch_size]
            out[rows] = self._encode_batch([distinct[row] for row in rows])
            if self._progress:
                self._progress(start + len(rows), len(distinct))
        place = {text: row for row, text in enumerate(distinct)}
        return out[np.array([place[text] for text in texts], dtype=np.int64)]

    def _encode_batch(self, texts: list[str]) -> Vectors:
        import torch

        # A token has a few letters: do not tokenise megabytes to throw them away.
        texts = [text[: self._max_tokens * 64] for text in texts]
        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        vectors: Vectors = torch.nn.functional.normalize(mean, dim=-1).float().cpu().numpy()
        return vectors


def _weights_key(directory: Path) -> str:
    """Short hash of all files that decide a vector: configuration, tokenizer and weights."""
    digest = hashlib.sha256()
    for path in sorted([*directory.glob("*.json"), *directory.glob("*.safetensors")]):
        digest.update(f"{path.name} {sha256_of(path)}".encode())
    return digest.hexdigest()[:16]


class HashEncoder:
    """Unit vectors from the words of a text alone: each word is a fixed random direction.

    Deterministic, without torch or a download: for tests, and the floor that a real encoder must beat.
    Texts that share words are near each other; a text without words is the zero vector.
    """

    def __init__(self, dimensions: int = 384) -> None:
        """`dimensions` is the width of the vectors."""
        self.dimensions = dimensions
        self.key = f"hash-{dimensions}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 [texts, dimensions], in the order of `texts`."""
        out = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        directions: dict[str, Vectors] = {}
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()):
                if word not in directions:
                    directions[word] = self._direction(word)
                out[row] += directions[word]
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        out /= np.where(norms > 0, norms, 1)
        return out

    def _direction(self, word: str) -> Vectors:
        seed = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())
        return np.random.default_rng(seed).standard_normal(self.dimensions).astype(np.float32)


def encode_cached(encoder: Encoder, texts: Sequence[str], folder: Path) -> Vectors:
    """`encoder.encode(texts)`, kept in `folder` as a .npy file under a hash of encoder and texts.

    A file that cannot be read or has another shape is written anew. Raises `LlmrecError` when
    `folder` cannot be written.
    """
    digest = hashlib.sha256(f"{encoder.key} {len(texts)}".encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    path = Path(folder) / f"texts-{digest.hexdigest()[:32]}.npy"
    try:
        kept: Vectors = np.load(path, allow_pickle=False)
        if kept.shape == (len(texts), encoder.dimensions) and kept.dtype == np.float32:
            return kept
    except (OSError, ValueError, EOFError):  # not there yet, or cut off
        pass
    vectors = encoder.encode(texts)
    with replace_file(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, vectors, allow_pickle=False)
    return vectors
