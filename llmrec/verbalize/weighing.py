"""Words of weight in a wish: "above all", "preferably", and what holds where they disagree.

A part has one weight. Where some of its values are asked for and others only preferred ("under 3 pounds,
preferably under 1 pound"), what is asked for holds and what is preferred is left to the model: a preference
never loosens a limit.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from llmrec.verbalize import goal_grammar
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.reading import Reading, together

_CLAUSE_END = re.compile(r"[,;:!?]|\.(?![0-9])|$")


def read_marks(reading: Reading) -> None:
    """Words of weight: "above all", "if possible"."""
    for weight, pattern in goal_grammar.EMPHASIS.items():
        for match in list(pattern.finditer(reading.text)):
            reading.marks.append((*match.span(), weight))
            reading.take(*match.span())


def weighed(reading: Reading) -> Objective:
    """What was read, with the weights of its parts; words of what does not hold go to the reading's rest."""
    marks = _marked(reading)
    changes: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for name in dict.fromkeys(name for _, name, _ in reading.spans):
        spans = sorted(
            ((at, value) for at, part, value in reading.spans if part == name), key=lambda one: one[0]
        )
        firm = [(at, value) for at, value in spans if at not in marks or marks[at][2] >= 1]
        kept = firm or spans
        if name == "price_level":  # one level only: the first
            kept = [one for one in kept if one[1] == kept[0][1]]
        if len(kept) < len(spans):
            changes[name] = together(name, [value for _, value in kept])
            for at in dict.fromkeys(at for at, value in spans if (at, value) not in kept):
                _leave(reading, at, *marks.get(at, (at, at, 1.0))[:2])
        for at in (at for at, _ in kept if at in marks):
            weights[name] = marks[at][2]
    for at in (at for at, said in reading.rest if said and at in marks):
        weights["rest"] = marks[at][2]
    return replace(reading.objective, **changes, weights=tuple(weights.items()))


def _marked(reading: Reading) -> dict[int, tuple[int, int, float]]:
    """Marks (start, end, weight) by the place of their part: the next one, at the end the one before."""
    places = sorted({at for at, _, _ in reading.spans} | {at for at, said in reading.rest if said})
    marks = sorted(reading.marks)
    found: dict[int, tuple[int, int, float]] = {}
    ends = [start for start, _, _ in marks[1:]] + [len(reading.text)]
    for (start, end, weight), before in zip(marks, ends, strict=False):
        after = [at for at in places if end <= at < before]
        at = after[0] if after else max((at for at in places if at < start), default=None)
        if at is not None:
            found[at] = (start, end, weight)
    return found


def _leave(reading: Reading, at: int, start: int, end: int) -> None:
    """Put the words of a part at `at`, with its mark from `start` to `end`, into the rest."""
    until = end if start > at else _CLAUSE_END.search(reading.said, max(at, end)).start()  # type: ignore[union-attr]
    reading.rest.append((min(at, start), reading.said[min(at, start) : until].strip()))
