"""What of a wish the query head is told apart from its words: what to look for, and which facts count."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.data.fact_columns import FACTS
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.seasons import SEASONS


@dataclass(frozen=True, slots=True)
class Sought:
    """`words` are looked for in the texts of items; `facts` says how much each of `FACTS` is wanted.

    `facts` is empty where none is.
    """

    words: str = ""
    facts: tuple[float, ...] = ()


def sought(objective: Objective, lexicon: Lexicon) -> Sought:
    """What `objective` seeks; nothing for an objective that says nothing of items."""
    return Sought(search_words(objective, lexicon), wanted_facts(objective))


def wanted_facts(objective: Objective) -> tuple[float, ...]:
    """The weight of each of `FACTS` in `objective`, () when none is wanted.

    A least value of the event means well-rated items, "again" those that people come back to.
    """
    wanted = {
        "long_tail": ("long_tail", objective.long_tail),
        "cheap": ("price_level", objective.price_level == "low"),
        "premium": ("price_level", objective.price_level == "high"),
        "fresh": ("fresh", objective.fresh),
        "rating": ("min_value", objective.min_value is not None),
        "again": ("seen_before", objective.seen_before),
    }
    weights = {fact: objective.weight(part) for fact, (part, said) in wanted.items() if said}
    return tuple(weights.get(fact, 0.0) for fact in FACTS) if weights else ()


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
