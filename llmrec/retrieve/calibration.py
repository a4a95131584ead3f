"""How sure a match is: a scale that a catalogue makes for itself, from its own titles and from other texts.

A title with words dropped, moved, added and misspelt still names its item; an unrelated text names none. The
scores of both give a logistic curve from score to probability (Platt 1999, with his smoothed targets, so that
the curve is finite where the two never overlap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_STEPS = 100
_MOST_EDITS = 3
_BEFORE, _BEHIND = (("a", "nice"), ("the", "new")), (("for", "me"), ("please",))


@dataclass(frozen=True, slots=True)
class Confidence:
    """Log-odds that a text names something: slope * score + intercept."""

    slope: float
    intercept: float

    def log_odds(self, scores: np.ndarray) -> np.ndarray:
        """Of each score, float64."""
        found: np.ndarray = self.slope * scores.astype(np.float64) + self.intercept
        return found


def fit_confidence(related: np.ndarray, unrelated: np.ndarray) -> Confidence:
    """The curve between scores of texts that name something and of texts that do not, float [n] and [m].

    Both sides count the same, however many they are. A curve that would fall is flat instead.
    """
    score = np.concatenate([related, unrelated]).astype(np.float64)
    target = np.repeat(
        [(len(related) + 1) / (len(related) + 2), 1 / (len(unrelated) + 2)], [len(related), len(unrelated)]
    )
    weight = np.repeat([0.5 / len(related), 0.5 / len(unrelated)], [len(related), len(unrelated)])
    middle, spread = float(score.mean()), float(score.std()) or 1.0
    design = np.stack([(score - middle) / spread, np.ones_like(score)], axis=1)
    found = np.zeros(2)
    for _ in range(_STEPS):  # Newton; the smoothed targets make the loss convex with a finite minimum
        chance = 1 / (1 + np.exp(-design @ found))
        slope = design.T @ (weight * (chance - target))
        curve = (design * (weight * chance * (1 - chance))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        found -= step * min(1.0, 4.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    rise = max(0.0, float(found[0])) / spread
    return Confidence(rise, float(found[1]) - rise * middle)


def perturbed(title: str, rng: np.random.Generator) -> str:
    """The title as somebody might remember it: one to three times changed, in words or in a letter."""
    words = title.split()
    for _ in range(int(rng.integers(1, _MOST_EDITS + 1))):
        words = _changed(words, rng)
    return " ".join(words)


def _changed(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    kind, at = int(rng.integers(5)), int(rng.integers(max(1, len(words))))
    words = list(words)
    if kind == 0 and len(words) > 2:
        del words[at]
    elif kind == 1 and len(words) > 3:
        del words[-(len(words) // 3) :]
    elif kind == 2:
        words = [words[place] for place in rng.permutation(len(words))]
    elif kind == 3 and words:
        words[at] = _misspelt(words[at], rng)
    elif rng.random() < 0.5:
        words = [*_BEFORE[int(rng.integers(len(_BEFORE)))], *words]
    else:
        words = [*words, *_BEHIND[int(rng.integers(len(_BEHIND)))]]
    return words


def _misspelt(word: str, rng: np.random.Generator) -> str:
    """Two neighbouring letters inside the word change places."""
    if len(word) < 4:
        return word
    at = int(rng.integers(1, len(word) - 2))
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
