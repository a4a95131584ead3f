"""What of a wish the query head is told apart from its words: what to look for, and which parts it has."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import PARTS, PRICE_LEVELS, Objective
from llmrec.verbalize.seasons import SEASONS

ASKS = (*(part for part in PARTS if part != "price_level"), *(f"price_level={at}" for at in PRICE_LEVELS))
"""What a wish can ask: the parts of an objective, with one for each price level."""


@dataclass(frozen=True, slots=True)
class Sought:
    """`words` are looked for in the texts of items; `asks` is the weight of each of `ASKS`, () for none."""

    words: str = ""
    asks: tuple[float, ...] = ()


def sought(objective: Objective, lexicon: Lexicon) -> Sought:
    """What `objective` seeks."""
    return Sought(search_words(objective, lexicon), asks(objective))


def asks(objective: Objective) -> tuple[float, ...]:
    """The weight of each of `ASKS` in `objective`, 0 for what it does not ask; () when it asks nothing."""
    weights = {
        f"{part}={objective.price_level}" if part == "price_level" else part: objective.weight(part)
        for part in objective.parts
    }
    return tuple(weights.get(ask, 0.0) for ask in ASKS) if weights else ()


def search_words(objective: Objective, lexicon: Lexicon) -> str:
    """The parts of `objective` that a text can be near to, in words; "" when there are none.

    Words, categories, attribute values and the title that items should be like, the season, and what no rule
    understood. Not what limits a list (prices, what is excluded, what was bought): a text that is near to
    "not a mug" is one about mugs.
    """
    parts = [" ".join(_written(stem, lexicon) for stem in objective.include_words)]
    parts += [lexicon.said_category(name) for name in objective.include_categories]
    parts += [value for _, value in objective.include_attributes]
    if objective.like is not None:
        parts.append(lexicon.said_title(objective.like))
    if objective.season is not None:
        parts.append(SEASONS[objective.season].said)
    parts.append(objective.rest)
    return ", ".join(part for part in parts if part)


def _written(stem: str, lexicon: Lexicon) -> str:
    """A stem as titles write it most often."""
    forms = lexicon.forms(stem)
    return forms[0] if forms else stem
