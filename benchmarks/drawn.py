"""Some questions of a fold, drawn at random: the same for everything that one seed compares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.data.prepared import Case


def drawn(cases: Sequence[Case], most: int, seed: int = 0) -> list[Case]:
    """At most `most` of the cases, in their order."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cases))[:most])
    return [cases[at] for at in chosen.tolist()]
