"""The query head as arrays: what turns hidden states into user vectors when a bundle is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from llmrec.model.query_head import FACT_SCALE, RECENT_SCALE, SEARCH_SCALE


@dataclass(frozen=True, slots=True)
class HeadArrays:
    """`model.query_head.QueryHead` and the text map of the items, float32.

    inward [inner + F, hidden] is U^T; recent [K] are the weights of the newest items; text_map [inner, width]
    and center [width] are for search words. Gates are maps [hidden + 1, outputs] with their bias last:
    recent_gate and search_gate have one output, fact_gate F, or none where the part does not count.
    """

    inward: np.ndarray
    recent: np.ndarray
    history_state: bool
    recent_gate: np.ndarray
    search_gate: np.ndarray
    fact_gate: np.ndarray
    text_map: np.ndarray
    center: np.ndarray

    @property
    def searches(self) -> bool:
        """Whether search words count."""
        return bool(self.search_gate.shape[1])

    @property
    def facts(self) -> int:
        """F, the number of facts at the end of the rows of V."""
        return int(self.fact_gate.shape[1])

    @property
    def search_width(self) -> int:
        """Width of the vectors of search words, 0 where they do not count."""
        return len(self.center) if self.searches else 0

    def at_wish(self, states: np.ndarray, recent: np.ndarray, sought: np.ndarray) -> np.ndarray:
        """User vectors [n, M, inner + F] of states [n, 1 + M, hidden].

        `recent` [n, inner] are the sums of the newest items' rows, times their weights; `sought` [n, width +
        F] what is sought (`items.search_vectors`).
        """
        vectors = states @ self.inward.T
        found: np.ndarray = vectors[:, 1:]
        if self.history_state:
            found = found + vectors[:, :1]
        queries, inner = states[:, 1:], found.shape[-1] - self.facts
        if len(self.recent):
            slow = np.float32(queries.shape[-1] ** -0.5)
            found[..., :inner] += _opened(self.recent_gate, queries * slow) * recent[:, None]
        width = self.search_width
        if self.searches:
            words = sought[:, :width]
            part = (words - self.center) * words.any(axis=1, keepdims=True) @ self.text_map.T
            found[..., :inner] += SEARCH_SCALE * _opened(self.search_gate, queries) * part[:, None]
        if self.facts:
            found[..., inner:] += FACT_SCALE * _opened(self.fact_gate, queries) * sought[:, None, width:]
        return found


def _opened(gate: np.ndarray, states: np.ndarray) -> np.ndarray:
    """How far a gate [hidden + 1, outputs] is open at states [n, M, hidden], [n, M, outputs]."""
    found: np.ndarray = states @ gate[:-1] + gate[-1]
    return found


def read_head(directory: Path, history_state: bool) -> HeadArrays:
    """The head of the model that `model.assemble.save_model` wrote."""
    parts = load_file(directory / "new_parts.safetensors")
    none = np.zeros(0, dtype=np.float32)
    hidden = parts["head.inward.weight"].shape[1]

    def gate(name: str, absent: np.ndarray) -> np.ndarray:
        if f"head.{name}.weight" not in parts:
            return absent
        both = np.concatenate([parts[f"head.{name}.weight"].T, parts[f"head.{name}.bias"][None]])
        return both.astype(np.float32)

    shut = np.zeros((hidden + 1, 0), dtype=np.float32)
    # Bundles from before it have no gate for the newest items: they count as they are.
    always = np.append(np.zeros(hidden, dtype=np.float32), np.float32(1))[:, None]
    return HeadArrays(
        parts["head.inward.weight"].astype(np.float32),
        RECENT_SCALE * parts.get("head.recent", none).astype(np.float32),
        history_state,
        gate("recent_gate", always),
        gate("search_gate", shut),
        gate("fact_gate", shut),
        parts.get("items.text_map.weight", none).astype(np.float32),
        parts.get("items.center", none).astype(np.float32),
    )
