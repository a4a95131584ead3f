"""What a user wants of a list, as typed parts (M6-Rec: goals are text; URM section 1: objectives)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objective:
    """A wish. Every part is optional; parts hold together (all of them are meant).

    Prices are in the catalogue's currency, bounds included. Words are lower-case stems as
    `verbalize.words` makes them. `like` is an item index, `season` a name such as "christmas".
    `rest` is what no rule understood; it reaches the model as it is.
    """

    max_price: float | None = None
    min_price: float | None = None
    include_words: tuple[str, ...] = ()
    exclude_words: tuple[str, ...] = ()
    include_categories: tuple[str, ...] = ()
    exclude_categories: tuple[str, ...] = ()
    like: int | None = None
    season: str | None = None
    new_for_user: bool = False
    rest: str = ""

    @property
    def empty(self) -> bool:
        """True when nothing at all is wished for."""
        return self == Objective()
