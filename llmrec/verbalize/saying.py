"""An objective as a list of things to say, each with the values of its wording's placeholders."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from llmrec.verbalize.goal_grammar import STRONGER, WEAKER
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.names import said_name
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.wordings import money, number
from llmrec.verbalize.words import singular

T = TypeVar("T")
FLAGS = {
    "long_tail": "long_tail",
    "fresh": "fresh",
    "new_category": "new_category",
    "new_for_user": "new",
    "seen_before": "seen_before",
    "diverse": "diverse",
}
"""Parts that are so or not so, and the wordings that say them."""
APART = ("not_word", "not_attribute", "not_category", "price_min")
"""Wordings that must not run into what follows them: "not a mug", "over 3 pounds" before "5 pounds tops"."""


@dataclass(frozen=True, slots=True)
class Said:
    """One thing to say: the name of its wordings, values for them, and the parts of the objective it says."""

    wording: str
    values: dict[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


def things_to_say(wish: Objective, lexicon: Lexicon, rng: np.random.Generator) -> list[Said]:
    """All parts of the wish but `rest`, in the order in which they are said; what is ruled out comes last."""
    flags = [Said(FLAGS[name], {}, (name,)) for name in FLAGS if getattr(wish, name)]
    said = [*_items(wish, lexicon, rng), *(each for each in flags if each.wording != "diverse")]
    said += [*_behaviour(wish, lexicon), *_season_and_price(wish, lexicon, rng)]
    said += [each for each in flags if each.wording == "diverse"]
    return [*said, *_ruled_out(wish, lexicon, rng)]


def emphasis(wish: Objective, said: Said, told: set[str]) -> str:
    """The wordings for the weight of what is said, "" for none.

    Of a part of several values that weighs more the first is said to; of one that weighs less each is, as one
    that is not would be read as a limit.
    """
    weights = {
        weight
        for part in said.parts
        if nearest_weight(weight := wish.weight(part)) == WEAKER or part not in told
    }
    told.update(said.parts)
    level = nearest_weight(max(weights, default=1.0))
    return {STRONGER: "stronger", WEAKER: "weaker"}.get(level, "")


def nearest_weight(weight: float) -> float:
    """The weight that words can say, of the same order: 0.5, 1 or 2."""
    return min((WEAKER, 1.0, STRONGER), key=lambda known: abs(math.log(weight / known)))


def _items(wish: Objective, lexicon: Lexicon, rng: np.random.Generator) -> Iterator[Said]:
    if wish.include_words:
        forms = [form_of(stem, lexicon, rng) for stem in wish.include_words]
        yield Said("keyword", {"word": _told(forms, lexicon) + " ".join(forms)}, ("include_words",))
    for name in wish.include_categories:
        yield Said("category", {"category": lexicon.said_category(name)}, ("include_categories",))
    for name, value in wish.include_attributes:
        decade = lexicon.names.said_decade(name, value)
        if decade is not None and rng.random() < 0.5:
            yield Said("decade", {"decade": decade}, ("include_attributes",))
        else:
            yield Said("attribute", _pair(name, value, lexicon), ("include_attributes",))
    if wish.like is not None:
        title = lexicon.said_title(wish.like)
        yield Said("like", {"title": title if rng.random() < 0.5 else title.lower()}, ("like",))


def _pair(name: str, value: str, lexicon: Lexicon) -> dict[str, str]:
    field = lexicon.names.attributes.get(name)
    return {"name": said_name(name), "value": said_name(value) if field is None else field.said(value)}


def _behaviour(wish: Objective, lexicon: Lexicon) -> Iterator[Said]:
    if wish.event:
        yield Said("event", {"event": said_name(wish.event)}, ("event",))
    if wish.min_value is not None:
        yield Said("min_value", {"value": number(wish.min_value)}, ("min_value",))
    for column, value in wish.scenario:
        yield Said("scenario", {"column": said_name(column), "value": said_name(value)}, ("scenario",))


def _season_and_price(wish: Objective, lexicon: Lexicon, rng: np.random.Generator) -> Iterator[Said]:
    if wish.season is not None:
        yield Said("season", {"season": SEASONS[wish.season].said}, ("season",))
    if wish.price_level:
        yield Said(f"price_{wish.price_level}", {}, ("price_level",))
    if wish.min_price is None and wish.max_price is None:
        return
    symbol = bool(rng.random() < 0.5)
    low, high = (
        "" if price is None else money(price, lexicon.catalog.currency, symbol)
        for price in (wish.min_price, wish.max_price)
    )
    if low and high and wish.weight("min_price") == wish.weight("max_price") == 1:
        yield Said("price_between", {"low": low, "high": high}, ("min_price", "max_price"))
        return
    if low:
        yield Said("price_min", {"price": low}, ("min_price",))
    if high:
        yield Said("price_max", {"price": high}, ("max_price",))


def _ruled_out(wish: Objective, lexicon: Lexicon, rng: np.random.Generator) -> Iterator[Said]:
    for stem in wish.exclude_words:
        form = form_of(stem, lexicon, rng)
        article = ("an " if form[0] in "aeiou" else "a ") if singular(form) == form else ""
        if told := _told([form], lexicon):
            form, article = told + form, ""
        yield Said("not_word", {"word": form, "a_word": article + form}, ("exclude_words",))
    for name, value in wish.exclude_attributes:
        yield Said("not_attribute", _pair(name, value, lexicon), ("exclude_attributes",))
    for name in wish.exclude_categories:
        yield Said("not_category", {"category": lexicon.said_category(name)}, ("exclude_categories",))


def _told(forms: Sequence[str], lexicon: Lexicon) -> str:
    """What is said before words of titles that alone would be read as categories; "" where none would."""
    if not any(map(lexicon.category_meant, (forms, *([form] for form in forms)))):
        return ""
    return "the word " if len(forms) == 1 else "the words "


def form_of(stem: str, lexicon: Lexicon, rng: np.random.Generator) -> str:
    """A way in which titles write a stem."""
    forms = lexicon.forms(stem)
    return pick(rng, forms) if forms else stem


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """One of the values."""
    return values[int(rng.integers(len(values)))]
