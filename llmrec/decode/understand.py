"""What of a wish is enforced, and what is left to the model: said openly with every answer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from llmrec.data.catalog import Catalog
from llmrec.decode.contract import Filters
from llmrec.decode.filters import from_objective, merge
from llmrec.verbalize.clean import clean
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import WISH_LIMIT, parse
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.wordings import money

_NAME_LIMIT = 60
"""Characters of a title or a category that are shown."""
_NAMED = 3
"""Items of a list of ids that are shown by their titles; the rest is counted."""


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
        if wish.like is not None:
            item = catalog[wish.like]
            parts.append(f'like "{clean(item.title or item.id, _NAME_LIMIT)}"')
        if wish.season is not None:
            parts.append(f"for {SEASONS[wish.season].said}")
        if wish.rest or wish.empty:
            parts += [f'"{said}"' for said in (wish.rest or clean(self.heard, WISH_LIMIT),) if said]
        return tuple(
            parts if self.heard else [f"{part} (ignored: the model does not hear it)" for part in parts]
        )


def understand(say: str, lexicon: Lexicon, enforce: bool = True, hear: bool = True) -> Understanding:
    """Read a wish. Any text is taken; what no rule understands is left to the model."""
    meant = parse(say, lexicon)
    enforced = dataclasses.replace(meant, like=None, season=None, rest="") if enforce else Objective()
    return Understanding(meant, enforced, say.strip() if hear else "")


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
        said = " or ".join(clean(value, _NAME_LIMIT) for value in values)
        found.append(f"{clean(name, _NAME_LIMIT)} is {said}")
    if limits.allowed_items is not None:
        found.append(f"one of {_items(limits.allowed_items, catalog)}")
    if limits.exclude_items:
        found.append(f"not {_items(limits.exclude_items, catalog)}")
    if limits.exclude_seen:
        found.append("nothing that is in the history")
    return tuple(found)


def _items(items: tuple[int, ...], catalog: Catalog) -> str:
    """The first few items by title and the number of the others."""
    names = [clean(catalog[item].title or catalog[item].id, _NAME_LIMIT) for item in items[:_NAMED]]
    more = len(items) - len(names)
    return ", ".join([*(f'"{name}"' for name in names), *([f"{more:,} more"] if more else [])]) or "no items"
