"""What of a wish is looked for in the texts of items: its search words."""

from __future__ import annotations

from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.seasons import SEASONS


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
