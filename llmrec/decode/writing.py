"""Writing freely: what a model goes on with after a prompt, not held to any catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from llmrec.decode.continuations import TokenEngine


def write(
    engine: TokenEngine,
    prompt: Sequence[int],
    tokens: np.ndarray,
    ended: Callable[[Sequence[int]], bool],
    longest: int,
    texts: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[list[int]]:
    """Some continuations of `prompt`: the first takes the likeliest token at each step, the others are drawn.

    `tokens` int64 [m] are those that may be written, at most `longest` of them in a text; a text ends where
    `ended` says so of its tokens, the last of them included. Drawn texts take a token with its probability to
    the power 1 / temperature, and depend on `seed`.
    """
    session = engine.begin([prompt])
    rng = np.random.default_rng(seed)
    found: list[list[int]] = [[] for _ in range(texts)]
    going, parents = np.arange(texts), np.zeros(texts, dtype=np.int64)
    for _ in range(longest):
        tails = [np.array(found[row][-1:], dtype=np.int64) for row in going.tolist()]
        values = session.log_probabilities(parents, tails, tokens, whole=False)
        parents = session.prefixes - len(going) + np.arange(len(going))
        # The largest of log-probabilities with Gumbel noise is a draw; the noise of texts that ended is
        # drawn too, so that a text does not depend on the others.
        noise = rng.gumbel(size=(texts, len(tokens)))[going] * temperature
        noise[going == 0] = 0
        chosen = tokens[np.argmax(values + noise, axis=1)]
        for row, token in zip(going.tolist(), chosen.tolist(), strict=True):
            found[row].append(token)
        open_ = np.array([not ended(found[row]) for row in going.tolist()], dtype=bool)
        going, parents = going[open_], parents[open_]
        if not len(going):
            break
    return found


def stream(
    engine: TokenEngine,
    prompt: Sequence[int],
    tokens: np.ndarray,
    ended: Callable[[Sequence[int]], bool],
    longest: int,
) -> Iterator[int]:
    """The likeliest continuation of `prompt`, the first of `write`, token by token as the model writes it."""
    session = engine.begin([prompt])
    found: list[int] = []
    while len(found) < longest and not (found and ended(found)):
        parent, tail = np.array([session.prefixes - 1]), np.array(found[-1:], dtype=np.int64)
        values = session.log_probabilities(parent, [tail], tokens, whole=False)
        found.append(int(tokens[np.argmax(values[0])]))
        yield found[-1]
