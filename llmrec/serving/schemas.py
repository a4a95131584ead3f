"""What comes in, with its limits, and what goes out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MOST_K, MOST_LISTED, MOST_HISTORY, MOST_CANDIDATES, MOST_REASONS = 1_000, 50, 1_000, 1_000, 20
"""Lengths of lists: of answers, of names in a limit, of a history, of items to score and to explain."""
MOST_SEEN = 100
"""Items to look up in one call: their ids stand in an address, whose length servers limit."""
WORDS = 2_000
"""Characters of a wish."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Names = Annotated[list[Name], Field(max_length=MOST_LISTED)]
Pairs = Annotated[list[tuple[Name, Name]], Field(max_length=MOST_LISTED)]
Price = Annotated[float, Field(ge=0, le=1e12)]
Seconds = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1, strict=True)]


class Model(BaseModel):
    """What all that comes in has: no unknown fields, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EventIn(Model):
    """One behaviour. `time`: seconds since 1970 UTC, without: just now. `type`: one of the data's."""

    item: Id
    time: Seconds | None = None
    type: Annotated[str, StringConstraints(max_length=256)] = ""
    value: float | None = None
    scenario: Annotated[dict[Name, Name], Field(max_length=MOST_LISTED)] = {}


class FiltersIn(Model):
    """Limits that hold for every item, whatever is wished for; see docs/asking.md."""

    max_price: Price | None = None
    min_price: Price | None = None
    words: Names = []
    not_words: Names = []
    categories: Names = []
    not_categories: Names = []
    attributes: Annotated[dict[Name, Names], Field(max_length=MOST_LISTED)] = {}
    not_attributes: Annotated[dict[Name, Names], Field(max_length=MOST_LISTED)] = {}
    price_level: Literal["low", "high"] | None = None
    exclude: Annotated[list[Id], Field(max_length=MOST_HISTORY)] = []
    only: Annotated[list[Id], Field(max_length=MOST_CANDIDATES)] | None = None
    seen: bool | None = Field(
        default=None, description="Whether items of the history may be shown; default no."
    )
    again: bool = Field(default=False, description="Items of the history only.")
    new_category: bool = False
    long_tail: bool = False
    fresh: bool = False


class GoalsIn(Model):
    """An objective in parts, wished for beside the words; `weights` weigh them (below 1: favoured only)."""

    max_price: Price | None = None
    min_price: Price | None = None
    include_words: Names = []
    exclude_words: Names = []
    include_categories: Names = []
    exclude_categories: Names = []
    include_attributes: Pairs = []
    exclude_attributes: Pairs = []
    like: Id | None = Field(default=None, description="An item that the list should be like.")
    season: Name | None = None
    event: Name | None = None
    min_value: float | None = None
    scenario: Pairs = []
    price_level: Literal["low", "high"] | None = None
    new_for_user: bool = False
    seen_before: bool = False
    new_category: bool = False
    long_tail: bool = False
    fresh: bool = False
    diverse: bool = False


class Asker(Model):
    """Who asks, and for what: a `user`, or a `history` of item ids or events, oldest first."""

    user: Id | None = None
    history: Annotated[list[Id | EventIn], Field(max_length=MOST_HISTORY)] | None = None
    profile: Annotated[dict[Name, str | float], Field(max_length=MOST_LISTED)] | None = None
    words: Annotated[str, StringConstraints(max_length=WORDS)] = Field(default="", description="A wish.")
    objective: GoalsIn | None = None
    weights: Annotated[dict[str, Annotated[float, Field(gt=0, le=100)]], Field(max_length=MOST_LISTED)] = {}
    filters: FiltersIn = FiltersIn()
    mode: str | None = Field(
        default=None, description="How items are found; default as the service was started."
    )
    enforce: bool = Field(default=True, description="Hold exactly what can be held of the wish.")
    hear: bool = Field(default=True, description="Let the model hear the wish.")

    @model_validator(mode="after")
    def _one_asker(self) -> Any:
        if (self.user is None) == (self.history is None):
            raise ValueError("say who asks: either user or history (which may be [])")
        if self.weights and self.objective is None:
            raise ValueError("weights are those of an objective: give objective too")
        return self


class Ask(Asker):
    """A question for a list."""

    k: Annotated[int, Field(ge=1, le=MOST_K, strict=True)] = 10
    why: bool = Field(
        default=False, description="Measure what weighed most for each item, with more prompts."
    )
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user": "12583", "words": "garden things under 3 pounds", "k": 5},
                {"history": ["22423", "84879"], "filters": {"max_price": 2, "not_words": ["christmas"]}},
                {
                    "user": "12583",
                    "objective": {"long_tail": True, "diverse": True},
                    "weights": {"long_tail": 0.5},
                },
            ]
        }
    )


class Score(Asker):
    """A question for scores of given items."""

    candidates: Annotated[list[Id], Field(min_length=1, max_length=MOST_CANDIDATES)]
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user": "12583", "candidates": ["22423", "84879"]}]}
    )


class Explain(Asker):
    """A question for reasons: of the list of `k`, or of given items."""

    k: Annotated[int, Field(ge=1, le=MOST_REASONS, strict=True)] = 5
    items: Annotated[list[Id], Field(min_length=1, max_length=MOST_REASONS)] | None = None
    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "12583", "words": "bags", "k": 3}]})


class Events(Model):
    """Behaviour of one user. Sent again with its `key`, it is appended once."""

    user: Id
    events: Annotated[list[EventIn], Field(min_length=1, max_length=1_000)]
    key: Id | None = None
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user": "12583", "events": [{"item": "22423"}], "key": "order-7"}]}
    )


class Profile(Model):
    """Attributes of a user, in place of those known before."""

    profile: Annotated[dict[Name, str | float], Field(max_length=MOST_LISTED)]


class Items(Model):
    """Changes of the catalogue of one kind; `add` and `update` have rows as in docs/items.md, with `id`."""

    add: Annotated[list[dict[str, Any]], Field(max_length=1_000)] = []
    update: Annotated[list[dict[str, Any]], Field(max_length=1_000)] = []
    retire: Annotated[list[Id], Field(max_length=1_000)] = []
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"add": [{"id": "24001", "title": "Zebra Lunch Bag", "price": 1.65}]},
                {"retire": ["22423"]},
            ]
        }
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Items:
        if sum(map(bool, (self.add, self.update, self.retire))) != 1:
            raise ValueError("give one of add, update and retire, and something in it")
        return self


class BundleChoice(Model):
    """A bundle beside the first one by its directory's name (default: the first one), and a version of it."""

    name: Name | None = None
    version: Annotated[int, Field(ge=1, strict=True)] | None = None
    switch: bool = Field(default=False, description="Let it answer as soon as it is loaded.")
    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 2, "switch": True}]})


class Switch(Model):
    """The id of a loaded bundle."""

    id: Name


class CauseOut(BaseModel):
    """What weighed for an item: a past item, or the words (`item` null); `weight` in nats."""

    title: str
    item: str | None
    weight: float


class ItemOut(BaseModel):
    """One recommended item."""

    item: str
    title: str
    price: float | None
    score: float
    because: list[CauseOut] = []


class ListOut(BaseModel):
    """A list, what was enforced, favoured and left to the model, and notes."""

    items: list[ItemOut]
    enforced: list[str]
    favoured: list[str]
    left: list[str]
    notes: list[str]
    bundle: str
    mode: str
    events: int = Field(description="Length of the history.")
    remembered: bool = Field(description="The store is gone: newest events may be missing.")


class ScoredOut(BaseModel):
    """One candidate; `score` null where the limits forbid it."""

    item: str
    title: str
    score: float | None


class ScoresOut(BaseModel):
    """Scores of candidates, in their order."""

    items: list[ScoredOut]
    enforced: list[str]
    left: list[str]
    bundle: str
    mode: str
    remembered: bool


class KnownItem(BaseModel):
    """An item of the catalogue; a `retired` one is not recommended any more, but histories have it."""

    item: str
    title: str
    price: float | None
    categories: list[str]
    retired: bool


class ValueOut(BaseModel):
    """A value that a filter takes, and the number of items that have it."""

    value: str
    items: int


class FacetOut(BaseModel):
    """The most frequent values, of `distinct` ones; the bounds of those that are numbers."""

    values: list[ValueOut]
    distinct: int
    low: float | None
    high: float | None


class FacetsOut(BaseModel):
    """What filters can name; of prices the bounds alone, in `currency`."""

    categories: FacetOut
    attributes: dict[str, FacetOut]
    prices: FacetOut
    currency: str
    bundle: str


class ItemsOut(BaseModel):
    """Items that were looked up, each once, as asked; `unknown` are the ids that the catalogue has not."""

    items: list[KnownItem]
    unknown: list[str]
    bundle: str
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "item": "22423",
                            "title": "Regency Cakestand 3 Tier",
                            "price": 12.75,
                            "categories": ["Baking"],
                            "retired": False,
                        }
                    ],
                    "unknown": ["none"],
                    "bundle": "bundle@1",
                }
            ]
        }
    )
