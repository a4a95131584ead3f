"""What the score of an item is: the sum over its tokens of log P(token | prompt, tokens before), and of P.

raw           P is the softmax over all tokens that stand at that place of any item's sequence: what
              training with a softmax over the tokens of a level makes likely. Scores do not depend on
              filters: a filtered list is the whole list less what is forbidden.
renormalised  P is the softmax over the allowed children alone, those with an allowed item below. Where
              there is one child its P is 1, and the model is not asked: in a large catalogue most of the
              last steps. Scores depend on the request's filters.
vocabulary    P is the softmax over the whole vocabulary: the scores of transformers' `generate` with
              `prefix_allowed_tokens_fn` (with `renormalize_logits` it gives the renormalised ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from llmrec.decode.continuations import Continuations

Scores = Literal["raw", "renormalised", "vocabulary"]
SCORES: tuple[str, ...] = get_args(Scores)


def to_ask(scores: str, of: np.ndarray, prefixes: int, level: np.ndarray) -> np.ndarray:
    """Which of `prefixes` the model must be asked about, bool; the others have one way on, with P = 1.

    `of` int64 [children] is the prefix of each allowed child, `level` all tokens of the level.
    """
    if scores == "renormalised":
        return np.bincount(of, minlength=prefixes) > 1
    return np.full(prefixes, scores == "vocabulary" or len(level) > 1)


def child_scores(
    scores: str,
    session: Continuations,
    parents: np.ndarray,
    tails: Sequence[np.ndarray],
    of: np.ndarray,
    token: np.ndarray,
    level: np.ndarray,
) -> np.ndarray:
    """Log P of children, float64 [children], by one of `SCORES`.

    Prefix i is the session's `parents[i]` with `tails[i]` behind it. Child c is `token[c]` after the prefix
    `of[c]`; they are sorted by prefix, and each has one. `level` int64 are all tokens of the level, sorted.
    """
    asked = level if scores == "raw" else np.unique(token)
    values = session.log_probabilities(parents, tails, asked, whole=scores == "vocabulary").astype(np.float64)
    found: np.ndarray = values[of, np.searchsorted(asked, token)]
    if scores == "raw":
        found = found - _log_sum_exp(values)[of]
    elif scores == "renormalised":
        starts = np.flatnonzero(np.diff(of, prepend=-1))
        top = np.maximum.reduceat(found, starts)
        total = top + np.log(np.add.reduceat(np.exp(found - top[of]), starts))
        found = found - total[of]
    return found


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of exponentials of each row of `values` [n, m], float64 [n]."""
    top = values.max(axis=1)
    found: np.ndarray = top + np.log(np.exp(values - top[:, None]).sum(axis=1))
    return found
