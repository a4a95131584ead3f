"""What of a wish is enforced, and what is left to the model: said openly with every answer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from llmrec.data.catalog import Catalog
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse
from llmrec.verbalize.wordings import money


@dataclass(frozen=True, slots=True)
class Understanding:
    """A wish as it was said, what was read in it, what of that is enforced, and what the model hears."""

    said: str
    meant: Objective
    enforced: Objective
    heard: str

    def enforced_words(self, catalog: Catalog) -> tuple[str, ...]:
        """The enforced parts, for people."""
        return tuple(_parts(self.enforced, catalog))

    def left_words(self, catalog: Catalog) -> tuple[str, ...]:
        """The parts that only the model can fulfil, or that nobody will when it does not hear the words."""
        enforced = set(_parts(self.enforced, catalog))
        left = [part for part in _parts(self.meant, catalog) if part not in enforced]
        return tuple(
            left if self.heard else [f"{part} (ignored: the model does not hear it)" for part in left]
        )


def understand(say: str, lexicon: Lexicon, enforce: bool = True, hear: bool = True) -> Understanding:
    """Read a wish. Any text is taken; what no rule understands is left to the model."""
    meant = parse(say, lexicon) if say.strip() else Objective()
    enforced = dataclasses.replace(meant, like=None, season=None, rest="") if enforce else Objective()
    return Understanding(say, meant, enforced, say.strip() if hear else "")


def _parts(wish: Objective, catalog: Catalog) -> list[str]:
    """The parts of a wish in words, in a fixed order."""
    found = []
    if wish.max_price is not None:
        found.append(f"price at most {money(wish.max_price, catalog.currency, symbol=False)}")
    if wish.min_price is not None:
        found.append(f"price at least {money(wish.min_price, catalog.currency, symbol=False)}")
    found += [f'with the word "{word}"' for word in wish.include_words]
    found += [f'without the word "{word}"' for word in wish.exclude_words]
    found += [f"in {name}" for name in wish.include_categories]
    found += [f"not in {name}" for name in wish.exclude_categories]
    if wish.new_for_user:
        found.append("nothing you had before")
    if wish.like is not None:
        found.append(f'like "{catalog[wish.like].title}"')
    if wish.season is not None:
        found.append(f"for {wish.season}")
    if wish.rest:
        found.append(f'"{wish.rest}"')
    return found
