"""The query head as arrays: what turns hidden states into user vectors when a bundle is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from llmrec.model.query_head import RECENT_SCALE, SEARCH_SCALE


@dataclass(frozen=True, slots=True)
class HeadArrays:
    """`model.query_head.QueryHead` and the text map of the items, float32.

    inward [inner, hidden] is U^T; recent [K] are the weights of the newest items; gate [hidden + 1], its bias
    last, text_map [inner, width] and center [width] are for search words, empty where they do not count.
    """

    inward: np.ndarray
    recent: np.ndarray
    history_state: bool
    gate: np.ndarray
    text_map: np.ndarray
    center: np.ndarray

    @property
    def searches(self) -> bool:
        """Whether search words count."""
        return len(self.gate) > 0

    def at_queries(self, states: np.ndarray) -> np.ndarray:
        """User vectors [n, M, inner] of states [n, 1 + M, hidden], before recent items and search words."""
        vectors = states @ self.inward.T
        found: np.ndarray = vectors[:, 1:]
        return found + vectors[:, :1] if self.history_state else found

    def of_search(self, states: np.ndarray, words: np.ndarray) -> np.ndarray:
        """What search words add, [n, M, inner]; `words` [n, width] are their vectors, zero for none."""
        part = (words - self.center) * words.any(axis=1, keepdims=True) @ self.text_map.T
        gate = states[:, 1:] @ self.gate[:-1] + self.gate[-1]
        found: np.ndarray = SEARCH_SCALE * gate[..., None] * part[:, None]
        return found


def read_head(directory: Path, history_state: bool) -> HeadArrays:
    """The head of the model that `model.assemble.save_model` wrote."""
    parts = load_file(directory / "new_parts.safetensors")
    none = np.zeros(0, dtype=np.float32)
    gate = none
    if "head.search_gate.weight" in parts:
        gate = np.append(parts["head.search_gate.weight"][0], parts["head.search_gate.bias"])
    return HeadArrays(
        parts["head.inward.weight"].astype(np.float32),
        RECENT_SCALE * parts.get("head.recent", none).astype(np.float32),
        history_state,
        gate.astype(np.float32),
        parts.get("items.text_map.weight", none).astype(np.float32),
        parts.get("items.center", none).astype(np.float32),
    )
