"""What items of the history gain in a model that writes codes: a score for each place, fitted after training.

Who reads a history well writes codes that stand in it, and how often people take an item again differs from
shop to shop. A weight for each place says it (as `model.query_head.QueryHead.seen` for retrieval): it is
added to the log-probability of the item's codes, and fitted as multinomial regression among candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec.decode.beam import BeamSearch
from llmrec.errors import BundleError
from llmrec.files import read_json, write_json

FILE = "seen.json"
Items = Sequence[int] | np.ndarray
PLACES = 10
"""The newest item has the first; all that are older than the last but one share the last."""
_CANDIDATES = 50
"""Best items of a question, beside those of its history, that its target is told apart from."""
_RIDGE = 0.01
"""Half of what a squared weight costs, in questions: weights stay finite where nobody takes an item again."""
_STEPS = 50


@dataclass(frozen=True, slots=True)
class SeenGains:
    """Weights float64 [PLACES], newest first; none at all for a model that was fitted without questions."""

    weights: np.ndarray

    def of(self, newest: Items) -> tuple[np.ndarray, np.ndarray]:
        """Distinct items int64 [n], ascending, and what each gains, float32 [n].

        `newest` are the items of a history, newest first; what stands there twice counts where it is newest.
        """
        if not len(self.weights):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        items, places = np.unique(np.asarray(newest, dtype=np.int64), return_index=True)
        return items, self.weights[np.minimum(places, len(self.weights) - 1)].astype(np.float32)


def read_gains(directory: Path) -> SeenGains:
    """The gains of a bundle; none where it has no such file. Raises `BundleError` where it is altered."""
    path = directory / FILE
    if not path.is_file():
        return SeenGains(np.empty(0))
    try:
        weights = np.array(read_json(path, "gains of seen items")["weights"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} does not say weights: make the bundle again: llmrec finetune") from error
    if weights.ndim != 1 or not np.isfinite(weights).all():
        raise BundleError(f"{path} has weights that are no numbers: make the bundle again: llmrec finetune")
    return SeenGains(weights)


def write_gains(gains: SeenGains, directory: Path) -> None:
    """Write them into the directory of a bundle."""
    write_json(directory / FILE, {"weights": [round(float(each), 4) for each in gains.weights]})


def fit_gains(
    search: BeamSearch, prompts: Sequence[Sequence[int]], newest: Sequence[Items], targets: np.ndarray
) -> SeenGains:
    """The weights under which targets are likeliest; one number a question in `targets` int64 [n].

    `newest` as in `SeenGains.of`. Newton's method: the likelihood has one maximum.
    """
    cases = list(_cases(search, prompts, newest, targets))
    weights = np.zeros(PLACES)
    if not cases:  # without questions, or with a model that finds no answer
        return SeenGains(np.empty(0))
    for _ in range(_STEPS):
        slope, bend = -2 * _RIDGE * weights, -2 * _RIDGE * np.eye(PLACES)
        for scores, places, target in cases:
            own = np.zeros((len(scores), PLACES))
            own[places >= 0, places[places >= 0]] = 1
            logits = scores + own @ weights
            share = np.exp(logits - logits.max())
            share /= share.sum()
            mean = share @ own
            slope += own[target] - mean
            bend -= (own * share[:, None]).T @ own - np.outer(mean, mean)
        step = np.linalg.solve(bend, slope)
        weights = weights - np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-6:
            break
    return SeenGains(weights)


def _cases(
    search: BeamSearch, prompts: Sequence[Sequence[int]], newest: Sequence[Items], targets: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Scores [n] of a question's candidates, their places in its history (-1: none), where the target is.

    Questions whose target is no candidate say nothing of places.
    """
    items, batch = search.trie.items, search.settings.batch
    for start in range(0, len(prompts), batch):
        some, pasts = prompts[start : start + batch], newest[start : start + batch]
        seen = np.zeros((len(some), items), dtype=bool)
        for row, past in enumerate(pasts):
            seen[row, np.asarray(past, dtype=np.int64)] = True
        best, scores = search.search(some, min(_CANDIDATES, items))
        had, scores_had = search.search(some, max(1, int(seen.sum(1).max())), seen)
        for row, past in enumerate(pasts):
            found, first = np.unique(np.concatenate([best[row], had[row]]), return_index=True)
            own = np.concatenate([scores[row], scores_had[row]])[first].astype(np.float64)
            found, own = found[found >= 0], own[found >= 0]
            at = np.flatnonzero(found == targets[start + row])
            if len(at):
                known, where = np.unique(np.asarray(past, dtype=np.int64), return_index=True)
                places = np.full(len(found), -1, dtype=np.int64)
                places[np.searchsorted(found, known)] = np.minimum(where, PLACES - 1)
                yield own, places, int(at[0])
