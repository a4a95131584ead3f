"""Wishes that an observed purchase would have fulfilled: training pairs of words and behaviour.

A wish is derived from the target's own text, price and time, so that a model which ignores the words does
worse than one that reads them. URM trains on objectives in words in the same way (section 1 of the paper).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.events import Event, History
from llmrec.errors import LlmrecError
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse
from llmrec.verbalize.saying import APART, emphasis, pick, things_to_say
from llmrec.verbalize.seasons import SEASONS, season_of_time, season_of_words
from llmrec.verbalize.templates import Templates
from llmrec.verbalize.wordings import Wordings, fill
from llmrec.verbalize.words import split_words

KINDS = ("price", "season", "not_word", "like", "new", "keyword", "category", "not_category")
COMBINATIONS = (
    "keyword+price", "category+price", "like+price", "new+price", "season+price", "keyword+new",
    "keyword+season", "category+new", "keyword+not_word", "category+not_word", "price+not_word",
    "like+not_word", "new+not_word", "season+not_word",
)  # fmt: skip
_STEPS = sorted(
    round(mantissa * 10.0**power, 2) for power in range(-1, 7) for mantissa in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
)
"""Prices that people name."""
_NEAR_STEPS = 3
_RECENT, _POPULAR = 30, 60
_SIMILAR, _MIN_SIMILARITY = 5, 0.2


class WishMaker:
    """Derives wishes over one catalogue and says them; cheap, so that each epoch can draw its own."""

    def __init__(
        self, catalog: Catalog, templates: Templates | None = None, lexicon: Lexicon | None = None
    ) -> None:
        """`templates` hold the wordings (default: those that come with llmrec)."""
        self.catalog = catalog
        self.lexicon = lexicon or Lexicon(catalog)
        self._wordings = Wordings(templates or Templates.load())
        known = catalog.prices[np.isfinite(catalog.prices)]
        self._cheapest = float(known.min()) if len(known) else 0.0
        self._dearest = float(known.max()) if len(known) else 0.0
        counts = Counter(name for item in catalog.items for name in item.categories)
        self._categories = [name for name, _ in counts.most_common(_POPULAR) if self._category_said(name)]
        self._popular = self.lexicon.popular(_POPULAR)
        self._sayable: dict[str, bool] = {}
        self._like_items: dict[int, list[int]] = {}

    def kinds_for(self, combinations: bool = True) -> tuple[str, ...]:
        """The kinds that this catalogue allows at all: no "price" without prices, for example."""
        missing = set()
        if self._dearest <= self._cheapest:
            missing.add("price")
        if not self._categories:
            missing |= {"category", "not_category"}
        names = KINDS + (COMBINATIONS if combinations else ())
        return tuple(name for name in names if not missing & set(name.split("+")))

    def draw(
        self, target: Event, history: History, rng: np.random.Generator, kinds: Sequence[str] | None = None
    ) -> Objective | None:
        """A wish of a random kind of `kinds` (default: `kinds_for()`) that fits; None when none does."""
        left = list(self.kinds_for() if kinds is None else kinds)
        while left:
            wish = self.derive(left.pop(int(rng.integers(len(left)))), target, history, rng)
            if wish is not None:
                return wish
        return None

    def derive(
        self, kind: str, target: Event, history: History, rng: np.random.Generator
    ) -> Objective | None:
        """A wish of one kind ("price", "keyword+price", ...) that `target` fulfils after `history`.

        None when the kind does not fit the target; an unknown kind raises `LlmrecError`.
        """
        parts: dict[str, Any] = {}
        for name in kind.split("+"):
            if name not in KINDS:
                raise LlmrecError(f"there is no wish kind {name!r}, there are: {', '.join(KINDS)}")
            part: dict[str, Any] | None = getattr(self, f"_{name}")(target, history, rng)
            if part is None:
                return None
            parts |= part
        return Objective(**parts)

    def wish(
        self,
        target: int,
        history: History,
        rng: np.random.Generator,
        time: int | None = None,
        wordings: str = "train",
    ) -> str:
        """Words of a random wish that the item `target`, bought at `time`, fulfils; "" when none fits."""
        wish = self.draw(Event(target, time), history, rng)
        return "" if wish is None else self.say(wish, rng, wordings)

    def say(self, objective: Objective, rng: np.random.Generator, wordings: str = "train") -> str:
        """The wish in words of one set ("train" or "heldout"); "" for an empty one.

        `parse` reads them back, save for what words cannot hold: more than 400 characters, names that are
        cut or made of signs alone, and weights other than those of `goal_grammar.EMPHASIS`, which are said as
        the nearest.
        """
        things = []
        told: set[str] = set()
        join = pick(rng, self._wordings.of("joins", wordings))
        for thing in things_to_say(objective, self.lexicon, rng):
            part = fill(pick(rng, self._wordings.of(thing.wording, wordings)), thing.values)
            if level := emphasis(objective, thing, told):
                part = fill(pick(rng, self._wordings.of(level, wordings)), {"part": part})
            things.append((part, thing.wording in APART, bool(level)))
        said = _joined(things, join, objective.rest)
        # Words of two parts can make a phrase of their own where only a space is between them.
        if len(things) > 1 and not join.strip() and parse(said, self.lexicon) != objective:
            said = _joined(things, ", ", objective.rest)
        return said

    def _category_said(self, name: str) -> str:
        """The name as `parse` knows it, "" where another category's name reads the same."""
        said = self.lexicon.said_category(name)
        return said if self.lexicon.category_named(split_words(said)) == name else ""

    # Each of the following makes the parts of one kind: (target, history, rng) -> parts, None: does not fit.

    def _price(self, target: Event, history: History, rng: np.random.Generator) -> dict[str, Any] | None:
        price = self.catalog[target.item].price
        if price is None or not math.isfinite(price):
            return None
        highs = [step for step in _STEPS if price <= step < self._dearest][:_NEAR_STEPS]
        lows = [step for step in _STEPS if self._cheapest < step <= price][-_NEAR_STEPS:]
        if not highs and not lows:
            return None
        mode = rng.random()
        if lows and (mode < 0.15 or not highs):
            return {"min_price": pick(rng, lows)}
        if lows and mode < 0.4:
            low, high = pick(rng, lows), pick(rng, highs)
            if low < high:
                return {"min_price": low, "max_price": high}
        return {"max_price": pick(rng, highs)}

    def _season(self, target: Event, history: History, rng: np.random.Generator) -> dict[str, Any] | None:
        found = frozenset(self.lexicon.texts[target.item])
        season = season_of_words(found)
        if season is None and not any(one.cues & found for one in SEASONS.values()):
            season = season_of_time(target.time)
        return None if season is None else {"season": season}

    def _not_word(self, target: Event, history: History, rng: np.random.Generator) -> dict[str, Any] | None:
        counts = Counter(stem for event in history[-_RECENT:] for stem in self.lexicon.titles[event.item])
        frequent = [stem for stem, count in counts.items() if count > 1]
        own = self.lexicon.texts[target.item]
        for words in (frequent, self._popular) if rng.random() < 0.7 else (self._popular,):
            if fitting := [stem for stem in words if stem not in own and self.says(stem)]:
                return {"exclude_words": (pick(rng, fitting),)}
        return None

    def _like(self, target: Event, history: History, rng: np.random.Generator) -> dict[str, Any] | None:
        item = target.item
        if item not in self._like_items:
            self._like_items[item] = self._similar(item)
        similar = self._like_items[item]
        return {"like": pick(rng, similar)} if similar else None

    def _similar(self, item: int) -> list[int]:
        """Items that share title words with `item` and that their title names."""
        lexicon = self.lexicon
        own = split_words(lexicon.said_title(item))
        found = []
        for similarity, other in lexicon.nearest_titles(lexicon.titles[item], 4 * _SIMILAR):
            words = split_words(lexicon.said_title(other))
            if similarity >= _MIN_SIMILARITY and words != own and lexicon.item_titled(words) == other:
                found.append(other)
        return found[:_SIMILAR]

    def _new(self, target: Event, history: History, rng: np.random.Generator) -> dict[str, Any] | None:
        bought = any(event.item == target.item for event in history)
        return None if bought or not history else {"new_for_user": True}

    def _keyword(self, target: Event, history: History, rng: np.random.Generator) -> dict[str, Any] | None:
        title = self.lexicon.titles[target.item]
        usable = [self.says(stem) and self.lexicon.in_titles(stem) > 1 for stem in title]
        singles = [position for position, use in enumerate(usable) if use]
        if not singles:
            return None
        first = pick(rng, singles)
        if first + 1 < len(title) and usable[first + 1] and rng.random() < 0.4:
            return {"include_words": title[first : first + 2]}
        return {"include_words": (title[first],)}

    def _category(self, target: Event, history: History, rng: np.random.Generator) -> dict[str, Any] | None:
        names = [name for name in self.catalog[target.item].categories if self._category_said(name)]
        return {"include_categories": (pick(rng, names),)} if names else None

    def _not_category(
        self, target: Event, history: History, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        own = self.catalog[target.item].categories
        names = [name for name in self._categories if name not in own]
        return {"exclude_categories": (pick(rng, names),)} if own and names else None

    def says(self, stem: str) -> bool:
        """Whether the stem's written forms are understood as that word and nothing else."""
        if stem not in self._sayable:
            forms = self.lexicon.forms(stem)
            self._sayable[stem] = (
                len(stem) > 2
                and not stem.isdigit()
                and bool(forms)
                and all(
                    parse(form, self.lexicon) == Objective(include_words=(stem,))
                    and parse(f"anything {form} things", self.lexicon) == Objective(include_words=(stem,))
                    and parse(f"not {form}", self.lexicon) == Objective(exclude_words=(stem,))
                    for form in forms
                )
            )
        return self._sayable[stem]


def _joined(things: Sequence[tuple[str, bool, bool]], join: str, rest: str) -> str:
    """One text of the parts (words, whether more must stand apart, whether weighed) and loose words."""
    text, apart = "", False
    for part, ends_apart, weighed in things:
        # A mere space or a dash would not show where such a part ends, nor where a weight begins.
        between = ", " if join.strip(" -") == "" and (apart or weighed) else join
        text = f"{text}{between}{part}" if text else part
        apart = ends_apart
    return f"{text}, {rest}" if text and rest else text or rest
