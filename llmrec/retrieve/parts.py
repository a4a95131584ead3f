"""A wish whose parts weigh differently, as several wishes to be asked and merged by weight."""

from __future__ import annotations

from dataclasses import replace

from llmrec.verbalize.objective import PARTS, Objective

_EMPTY = Objective()
_WHOLE = ("diverse",)
"""Parts that are about the list and not about its items: they cannot be asked for beside the others."""
_TOGETHER = {"min_value": "event"}
"""A part that says nothing without another one goes where that one goes, unless it has its own weight."""


def split_weighted(objective: Objective) -> list[tuple[Objective, float]]:
    """The wishes that `objective` is made of, with their weights, for `retrieve.merge`.

    Parts of weight 1 hold for all of the list, so that each wish has them: a part with another weight is
    asked together with them and counts its weight; they alone, if there are any, count 1. "Bags, and with
    weight 0.5 lesser-known ones" is bags with weight 1 and lesser-known bags with weight 0.5. Where nothing
    weighs 1 or more, anything at all counts 1. Without weights the objective is one wish of weight 1. The
    wishes have no weights themselves, but for that of `diverse`, which is the list's.
    """
    owners = {part: part for part in objective.parts}
    for part, other in _TOGETHER.items():
        if part in owners and other in owners and objective.weight(part) == 1:
            owners[part] = other
    weighted = [part for part in objective.parts if objective.weight(part) != 1 and part not in _WHOLE]
    kept = tuple(pair for pair in objective.weights if pair[0] in _WHOLE)

    def with_parts(chosen: set[str]) -> Objective:
        without = {part: getattr(_EMPTY, part) for part in PARTS if part not in chosen}
        return replace(objective, **without, weights=kept)

    always = {part for part, owner in owners.items() if owner not in weighted}
    found = [
        (
            with_parts(always | {part for part, owner in owners.items() if owner == name}),
            objective.weight(name),
        )
        for name in weighted
    ]
    if always - set(_WHOLE) or all(objective.weight(name) < 1 for name in weighted):
        found.insert(0, (with_parts(always), 1.0))
    return found
