"""The words of a catalogue and of its events: where they stand, how they are written, and what they name."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.data.prepared import Prepared
from llmrec.verbalize.clean import clean
from llmrec.verbalize.goal_grammar import event_pattern
from llmrec.verbalize.names import Names, said_name
from llmrec.verbalize.words import singular, split_words, stems

TITLE_LIMIT = 80
"""Characters of a title that are said and recognised."""
_CATEGORY_LIMIT = 60
_REMARK = re.compile(r"\s*\([^()]*\)$")
_FORMS = 2
_CANDIDATES = 400
_MANY_MORE = 2
"""How many times the items with a word a category of that name has, for the word to mean the category."""


class Lexicon:
    """An index of one catalogue by stems (see `words.stems`); built once, in time linear in its text.

    `texts[i]` are the distinct stems of item i's title and text, `titles[i]` those of its title, in order.
    `names` knows the attributes of items and the columns of the events.
    """

    def __init__(
        self,
        catalog: Catalog,
        event_types: Sequence[str] = (),
        scenarios: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """`scenarios`: the values of each column of the events; types and columns not given are not read."""
        self.catalog = catalog
        self.names = Names(catalog, scenarios or {})
        self._events = {_loose(said_name(name)): name for name in reversed(event_types) if said_name(name)}
        self.event_types = tuple(self._events.values())
        self.event_pattern = event_pattern([said_name(name) for name in self.event_types])
        self.has_prices = bool(np.isfinite(catalog.prices).any())
        self.titles: list[tuple[str, ...]] = []
        self.texts: list[tuple[str, ...]] = []
        self._postings: dict[str, array[int]] = {}
        self._title_counts: Counter[str] = Counter()
        self._by_title: dict[tuple[str, ...], int] = {}
        self._categories: dict[tuple[str, ...], str] = {}
        self._category_sizes = Counter(name for item in catalog.items for name in set(item.categories))
        forms: dict[str, Counter[str]] = {}
        remarked: list[int] = []
        for position, item in enumerate(catalog.items):
            said = self.said_title(position)
            title = tuple(dict.fromkeys(stems(said)))
            text = tuple(dict.fromkeys(title + stems(item.text)))
            self.titles.append(title)
            self.texts.append(text)
            self._title_counts.update(title)
            for stem in text:
                self._postings.setdefault(stem, array("l")).append(position)
            words = split_words(said)
            if words:
                self._by_title.setdefault(tuple(words), position)
            if said.endswith(")"):
                remarked.append(position)
            for word in words:
                for stem in stems(word):
                    forms.setdefault(stem, Counter())[word] += 1
            for category in item.categories:
                if found := tuple(split_words(self.said_category(category))):
                    self._categories.setdefault(found, category)
        self._forms = {
            stem: tuple(word for word, _ in count.most_common(_FORMS)) for stem, count in forms.items()
        }
        for position in remarked:
            if shorter := tuple(split_words(_REMARK.sub("", self.said_title(position)))):
                self._by_title.setdefault(shorter, position)
        self.longest_title = max(map(len, self._by_title), default=0)
        self.longest_category = max(map(len, self._categories), default=0)
        self._categories_singular: dict[tuple[str, ...], str] = {}
        for found, category in self._categories.items():
            self._categories_singular.setdefault(tuple(map(singular, found)), category)
        self._category_beginnings = frozenset(words[0] for words in self._categories_singular)

    @classmethod
    def of(cls, prepared: Prepared) -> Lexicon:
        """The words of a prepared dataset: its catalogue, types of events and columns of the events."""
        histories = prepared.histories
        columns = {name: column.values for name, column in histories.scenarios.items()}
        return cls(prepared.catalog, histories.event_types, columns)

    def said_title(self, item: int) -> str:
        """The title as a wish names it; "" for an item without one."""
        return clean(self.catalog[item].title, TITLE_LIMIT)

    def said_category(self, category: str) -> str:
        """A category as a wish names it."""
        return clean(category, _CATEGORY_LIMIT)

    def in_titles(self, stem: str) -> int:
        """Number of items whose title has the stem."""
        return self._title_counts[stem]

    def popular(self, count: int) -> list[str]:
        """The stems that stand in most titles, most frequent first."""
        return [stem for stem, _ in self._title_counts.most_common(count)]

    def forms(self, stem: str) -> tuple[str, ...]:
        """How titles write a stem, most frequent first, at most two forms."""
        return self._forms.get(stem, ())

    def item_titled(self, words: Sequence[str]) -> int | None:
        """The first item whose title has exactly these words (see `split_words`).

        Without such an item, one that has them before brackets at its end: "heat" names "Heat (1995)".
        """
        return self._by_title.get(tuple(words))

    def category_named(self, words: Sequence[str]) -> str | None:
        """The category whose name has exactly these words (see `split_words`).

        Without such a category, one whose name has them in another number: "comedies" names "Comedy".
        """
        found = self._categories.get(tuple(words))
        return self._categories_singular.get(tuple(map(singular, words))) if found is None else found

    def category_begins(self, word: str) -> bool:
        """Whether a category's name begins with this word, in either number."""
        return singular(word) in self._category_beginnings

    def category_meant(self, words: Sequence[str]) -> str | None:
        """The category that these words mean where nothing around them says whether they are a category.

        They do when no title has all of them, or when the category has at least twice as many items as have
        them in their text: "comedy" is not asked for to see the few films that are called so.
        """
        name = self.category_named(words)
        if name is None:
            return None
        found = stems(" ".join(words))
        if not all(self._title_counts[stem] for stem in found):
            return name
        return name if self._category_sizes[name] >= _MANY_MORE * len(self.items_with_all(found)) else None

    def beside(self, first: str, second: str) -> bool:
        """Whether a title has the second stem right after the first: "garden gnome"."""
        both = self.items_with_all((first, second))
        return any((first, second) in pairwise(self.titles[item]) for item in both)

    def event_named(self, said: str) -> str:
        """The type of event that `event_pattern` found; "" for none."""
        return self._events.get(_loose(said), "")

    @property
    def has_categories(self) -> bool:
        """Whether any item has a category that words name."""
        return bool(self._categories)

    def items_with_all(self, wanted: Iterable[str]) -> set[int]:
        """Items whose text has every one of the stems."""
        lists = sorted((self._postings.get(stem, array("l")) for stem in wanted), key=len)
        if not lists:
            return set(range(len(self.catalog)))
        found = set(lists[0])
        for further in lists[1:]:
            found.intersection_update(further)
        return found

    def nearest_titles(self, wanted: Sequence[str], count: int) -> list[tuple[float, int]]:
        """(similarity, item) of the titles most like the stems: cosine of rarity weights, best first.

        Of a word that stands in very many items only the first few hundred are looked at.
        """
        query = {stem: self._weight(stem) for stem in wanted if stem in self._postings}
        shared: dict[int, float] = {}
        for stem, weight in query.items():
            for item in self._postings[stem][:_CANDIDATES]:
                if stem in self.titles[item]:
                    shared[item] = shared.get(item, 0.0) + weight * weight
        norm = math.sqrt(sum(self._weight(stem) ** 2 for stem in wanted)) or 1.0
        scored = [(value / (norm * self._norm(item)), item) for item, value in shared.items()]
        scored.sort(key=lambda pair: (-pair[0], pair[1]))
        return scored[:count]

    def _weight(self, stem: str) -> float:
        return math.log(1 + (len(self.catalog) + 1) / (self._title_counts[stem] + 1))

    def _norm(self, item: int) -> float:
        return math.sqrt(sum(self._weight(stem) ** 2 for stem in self.titles[item])) or 1.0


def _loose(name: str) -> str:
    """One writing for a type of event, white space and underscores alike."""
    return re.sub(r"[\s_]+", " ", name).strip().casefold()
