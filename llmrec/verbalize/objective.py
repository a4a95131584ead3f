"""What a user wants of a list, as typed parts (M6-Rec: goals are text; URM section 1: objectives)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from llmrec.errors import LlmrecError
from llmrec.verbalize.seasons import SEASONS

PRICE_LEVELS = ("low", "high")
"""The lowest and the highest third of the known prices ("cheap", "premium")."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A wish. Every part is optional; parts hold together (all of them are meant).

    Prices are in the catalogue's currency, bounds included. Words are lower-case stems as
    `verbalize.words` makes them. `like` is an item index, `season` a name such as "christmas".
    `rest` is what no rule understood; it reaches the model as it is.

    What is to happen: `event` is a type of the data's events ("purchase", "" for any), `min_value` the least
    value that the event must have (a rating of at least 4), `scenario` the (column, value) pairs of the
    events in which it is to happen (("country", "France")).

    Which items: `new_for_user` are not in the history, `seen_before` are (to buy again); `new_category` have
    a category that the history does not have; `long_tail` are outside the head of popular items, `fresh`
    among the newest (`data.facts` defines both); `price_level` is "low", "high" or "" for any.
    (attribute, value) pairs of `include_attributes`: of several values of one attribute an item has one, and
    it has one of every attribute named; of `exclude_attributes` it has none. A value LOW-HIGH of a numeric
    attribute is a range, bounds included: ("year", "1990-1999").

    The list: with `diverse` it differs within itself.

    `weights` are (field, weight) pairs where a part's weight is not 1, in the order of the fields. Raises
    `LlmrecError` for a price, a value, a season, a field or a weight that cannot be.
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
    event: str = ""
    min_value: float | None = None
    long_tail: bool = False
    seen_before: bool = False
    new_category: bool = False
    fresh: bool = False
    diverse: bool = False
    price_level: str = ""
    include_attributes: tuple[tuple[str, str], ...] = ()
    exclude_attributes: tuple[tuple[str, str], ...] = ()
    scenario: tuple[tuple[str, str], ...] = ()
    weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.price_level not in ("", *PRICE_LEVELS):
            raise LlmrecError(
                f"the price level is {self.price_level!r}, it must be one of: {', '.join(PRICE_LEVELS)}"
            )
        for name in ("max_price", "min_price", "min_value"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and (name == "min_value" or value >= 0)):
                least = "" if name == "min_value" else " of 0 or more"
                raise LlmrecError(f"{name} is {value}, it must be a finite number{least}")
        if self.season is not None and self.season not in SEASONS:
            raise LlmrecError(f"the season is {self.season!r}, it must be one of: {', '.join(SEASONS)}")
        given = dict(self.weights)
        if unknown := given.keys() - set(PARTS):
            raise LlmrecError(
                f"a weight is given to {sorted(unknown)[0]!r}, the parts are: {', '.join(PARTS)}"
            )
        for name, weight in given.items():
            if not (math.isfinite(weight) and weight > 0):
                raise LlmrecError(f"the weight of {name} is {weight}, it must be a number above 0")
        ordered = tuple((name, float(given[name])) for name in PARTS if given.get(name, 1) != 1)
        object.__setattr__(self, "weights", ordered)

    @property
    def empty(self) -> bool:
        """True when nothing at all is wished for."""
        return self == Objective()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the fields that say something, in the order of the fields; weights are none."""
        values = ((name, getattr(self, name)) for name in PARTS)
        return tuple(
            name for name, value in values if not (value is None or value is False or value in ("", ()))
        )

    def weight(self, part: str) -> float:
        """The weight of a part by its field's name, 1 where none is given."""
        return dict(self.weights).get(part, 1.0)


PARTS = tuple(field.name for field in fields(Objective) if field.name != "weights")
"""The fields that a weight can name."""
