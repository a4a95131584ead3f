"""The query head as arrays: what turns hidden states into user vectors when a bundle is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from llmrec.model.query_head import ASK_SCALE, RECENT_SCALE, SEARCH_SCALE, SEEN_SCALE
from llmrec.verbalize.sought import ASKS


@dataclass(frozen=True, slots=True)
class HeadArrays:
    """`model.query_head.QueryHead` and the text map of the items, float32.

    inward [inner + F, hidden] is U^T, facts is F; recent [1 + len(ASKS), K] the weights of the newest items,
    always and for each ask; seen [1 + len(ASKS), K] what these items gain in score; scale and shift
    [len(ASKS), inner + F] what each ask does to a vector. gate [hidden + 1], its bias last, text_map
    [inner, width] and center [width] are for search words, empty where they do not count.
    """

    inward: np.ndarray
    facts: int
    recent: np.ndarray
    seen: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    history_state: bool
    gate: np.ndarray
    text_map: np.ndarray
    center: np.ndarray

    @property
    def searches(self) -> bool:
        """Whether search words count."""
        return len(self.gate) > 0

    @property
    def remembered(self) -> int:
        """K, the number of newest items that user vectors are made with."""
        return int(self.recent.shape[1])

    @property
    def search_width(self) -> int:
        """Width of the vectors of search words, 0 where they do not count."""
        return len(self.center) if self.searches else 0

    def of_recent(self, rows: np.ndarray, asks: np.ndarray) -> np.ndarray:
        """What the newest items make of a user vector, [inner]; `rows` [at most K, inner], newest first.

        `asks` [len(ASKS)] are the weights of what is asked.
        """
        weights = self.recent[0] + asks @ self.recent[1:]
        found: np.ndarray = weights[: len(rows)] @ rows
        return found

    def gains(self, newest: np.ndarray, asks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What items of the history gain: distinct items int64 [n], ascending, and scores float32 [n].

        `newest` int64 [at most K] are those items, newest first; `asks` as in `of_recent`.
        """
        each = (self.seen[0] + asks @ self.seen[1:])[: len(newest)]
        items, places = np.unique(newest, return_inverse=True)
        return items, np.bincount(places, each, len(items)).astype(np.float32)

    def at_wish(self, states: np.ndarray, recent: np.ndarray, sought: np.ndarray) -> np.ndarray:
        """User vectors [n, M, inner + F] of states [n, 1 + M, hidden].

        `recent` [n, inner] is what `of_recent` gives, `sought` [n, width + len(ASKS)] what is sought
        (`items.search_vectors`).
        """
        vectors = states @ self.inward.T
        found: np.ndarray = vectors[:, 1:]
        if self.history_state:
            found = found + vectors[:, :1]
        asks = sought[:, self.search_width :]
        found = found * (1 + asks @ self.scale)[:, None] + (asks @ self.shift)[:, None]
        inner, width = found.shape[-1] - self.facts, self.search_width
        found[..., :inner] += recent[:, None]
        if self.searches:
            words = sought[:, :width]
            part = (words - self.center) * words.any(axis=1, keepdims=True) @ self.text_map.T
            gate = states[:, 1:] @ self.gate[:-1] + self.gate[-1]
            found[..., :inner] += SEARCH_SCALE * gate[..., None] * part[:, None]
        return found


def read_head(directory: Path, history_state: bool) -> HeadArrays:
    """The head of the model that `model.assemble.save_model` wrote."""
    parts = {name: v.astype(np.float32) for name, v in load_file(directory / "new_parts.safetensors").items()}
    none = np.zeros(0, dtype=np.float32)
    gate = none
    if "head.search_gate.weight" in parts:
        gate = np.append(parts["head.search_gate.weight"][0], parts["head.search_gate.bias"])
    always = parts.get("head.recent", none)
    # Nothing in bundles from before items of the history gained a score.
    seen = parts.get("head.seen", np.zeros_like(always))
    inward = parts["head.inward.weight"]

    def asked(name: str, width: int) -> np.ndarray:
        # Zeros in bundles that hear no asks, such as those from before there were any.
        found: np.ndarray = ASK_SCALE * parts.get(name, np.zeros((len(ASKS), width), dtype=np.float32))
        return found

    return HeadArrays(
        inward,
        parts["items.facts"].shape[1] if "items.facts" in parts else 0,
        RECENT_SCALE * np.concatenate([always[None], asked("head.recent_asked", len(always))]),
        SEEN_SCALE * np.concatenate([seen[None], asked("head.seen_asked", len(always)) / ASK_SCALE]),
        asked("head.scale_asked", len(inward)),
        asked("head.shift_asked", len(inward)),
        history_state,
        gate,
        parts.get("items.text_map.weight", none),
        parts.get("items.center", none),
    )
