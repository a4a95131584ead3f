"""What of a wish is enforced, and what is left to the model: said openly with every answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from llmrec.data.catalog import Catalog
from llmrec.decode.contract import Filters
from llmrec.decode.filters import from_objective, merge
from llmrec.verbalize.clean import clean
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import WISH_LIMIT, parse
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.wordings import money, number

_NAME_LIMIT = 60
"""Characters of a title or a category that are shown."""
LEFT = ("like", "season", "rest", "event", "min_value", "scenario")
"""Parts of a wish that no filter can hold: they are left to the model."""
_NAMED = 3
"""Items of a list of ids that are shown by their titles; the rest is counted."""

_FLAGS = {
    "exclude_seen": "nothing that is in the history",
    "seen_before": "in the history",
    "new_category": "of a category that the history does not have",
    "long_tail": "not among the most popular",
    "fresh": "among the newest",
}
"""Limits that hold or do not hold, in words."""


@dataclass(frozen=True, slots=True)
class Understanding:
    """What was read in a wish, what of that is enforced, and the words that the model hears."""

    meant: Objective
    enforced: Objective
    heard: str

    def limits(self, filters: Filters) -> Filters:
        """All that holds exactly: `filters`, and the enforced parts of the wish."""
        return merge(filters, from_objective(self.enforced))

    def without_words(self) -> Understanding:
        """The same, with the words that items should have left to the model."""
        return dataclasses.replace(self, enforced=dataclasses.replace(self.enforced, include_words=()))

    def left(self, limits: Filters, catalog: Catalog) -> tuple[str, ...]:
        """The parts of the wish that `limits` do not hold, in words: the model's, or nobody's."""
        held = set(limits_in_words(limits, catalog))
        wish = self.meant
        # A part that would not tighten the limits is held by them.
        tightened = limits_in_words(merge(limits, from_objective(wish)), catalog)
        parts = [part for part in tightened if part not in held]
        if wish.diverse and not self.enforced.diverse:
            parts.append("a list that differs within itself")
        parts += _left_in_words(wish, catalog)
        if wish.rest or wish.empty:
            parts += [f'"{said}"' for said in (wish.rest or clean(self.heard, WISH_LIMIT),) if said]
        return tuple(
            parts if self.heard else [f"{part} (ignored: the model does not hear it)" for part in parts]
        )


def understand(
    say: str,
    lexicon: Lexicon,
    enforce: bool = True,
    hear: bool = True,
    goals: Objective | None = None,
    goals_said: str = "",
) -> Understanding:
    """Read a wish. Any text is taken; what no rule understands is left to the model.

    `goals` are meant beside it, exactly; the model hears them after it as `goals_said`.
    """
    meant, heard = parse(say, lexicon), say.strip()
    if goals is not None:
        meant, heard = both(meant, goals), ", ".join(part for part in (heard, goals_said) if part)
    return Understanding(meant, enforceable(meant) if enforce else Objective(), heard if hear else "")


def both(first: Objective, second: Objective) -> Objective:
    """What two wishes of one list mean together; where only one can be meant, it is the second's.

    A part that one asks for and the other only prefers is meant as it is asked for: the preference is the
    model's, which hears it.
    """
    found = {part: getattr(first, part) for part in first.parts}
    weights = dict(first.weights)
    for part in second.parts:
        own, other = found.get(part), getattr(second, part)
        gentle = [wish.weight(part) < 1 for wish in (first, second)]
        if own is None or gentle == [True, False]:
            found[part] = other
        elif gentle == [False, True]:
            continue
        elif isinstance(other, tuple):
            found[part] = tuple(dict.fromkeys((*own, *other)))
        else:
            tighter = {"max_price": min, "min_price": max}.get(part)
            found[part] = tighter(own, other) if tighter is not None else other
        weights[part] = second.weight(part)
    return Objective(**found, weights=tuple(weights.items()))


def enforceable(wish: Objective) -> Objective:
    """The parts of a wish that can hold exactly, with their weights: all but those that are the model's."""
    none = Objective()
    weights = tuple((part, weight) for part, weight in wish.weights if part not in LEFT)
    return dataclasses.replace(wish, **{part: getattr(none, part) for part in LEFT}, weights=weights)


def _left_in_words(wish: Objective, catalog: Catalog) -> Iterator[str]:
    """The parts that are always the model's, but for loose words."""
    if wish.like is not None:
        item = catalog[wish.like]
        yield f'like "{clean(item.title or item.id, _NAME_LIMIT)}"'
    if wish.season is not None:
        yield f"for {SEASONS[wish.season].said}"
    if wish.event:
        yield f"next event: {clean(wish.event, _NAME_LIMIT)}"
    if wish.min_value is not None:
        yield f"with a value of at least {number(wish.min_value)}"
    for column, value in wish.scenario:
        yield f"where {clean(column, _NAME_LIMIT)} is {clean(value, _NAME_LIMIT)}"


def limits_in_words(limits: Filters, catalog: Catalog) -> tuple[str, ...]:
    """Each limit for people, in a fixed order; equal limits give equal words."""
    found = []
    if limits.max_price is not None:
        found.append(f"price at most {money(limits.max_price, catalog.currency, symbol=False)}")
    if limits.min_price is not None:
        found.append(f"price at least {money(limits.min_price, catalog.currency, symbol=False)}")
    found += [f'with the word "{clean(word, _NAME_LIMIT)}"' for word in limits.include_words]
    found += [f'without the word "{clean(word, _NAME_LIMIT)}"' for word in limits.exclude_words]
    found += [f"in {clean(name, _NAME_LIMIT)}" for name in limits.include_categories]
    found += [f"not in {clean(name, _NAME_LIMIT)}" for name in limits.exclude_categories]
    for name, values in limits.attributes:
        found.append(f"{clean(name, _NAME_LIMIT)} is {_values(values)}")
    for name, values in limits.exclude_attributes:
        found.append(f"{clean(name, _NAME_LIMIT)} is not {_values(values)}")
    if limits.allowed_items is not None:
        found.append(f"one of {_items(limits.allowed_items, catalog)}")
    if limits.exclude_items:
        found.append(f"not {_items(limits.exclude_items, catalog)}")
    found += [said for name, said in _FLAGS.items() if getattr(limits, name)]
    found += [f"of a {level} price" for level in limits.price_levels]
    return tuple(found)


def _values(values: tuple[str, ...]) -> str:
    return " or ".join(clean(value, _NAME_LIMIT) for value in values) or "nothing"


def _items(items: tuple[int, ...], catalog: Catalog) -> str:
    """The first few items by title and the number of the others."""
    names = [clean(catalog[item].title or catalog[item].id, _NAME_LIMIT) for item in items[:_NAMED]]
    more = len(items) - len(names)
    return ", ".join([*(f'"{name}"' for name in names), *([f"{more:,} more"] if more else [])]) or "no items"
