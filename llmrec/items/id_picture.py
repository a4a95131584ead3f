"""What first-level codes mean, for people: the words that typify each and the titles nearest to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from llmrec.items.ids import ItemIds
from llmrec.verbalize.clean import clean
from llmrec.verbalize.words import split_words, stems

WORDS, TITLES = 6, 3
"""Words and titles shown of a code."""
_TITLE_LIMIT = 60
_LETTERS_READ = 200
"""Characters of a title that are read for words."""


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """A first-level code: number of items, typical words, and titles of the items nearest to their codes.

    Titles are cleaned (`verbalize.clean`): one line, nothing that a terminal or a tokenizer would obey.
    """

    code: int
    items: int
    words: tuple[str, ...]
    titles: tuple[str, ...]


def picture(ids: ItemIds, titles: Sequence[str]) -> list[CodeMeaning]:
    """The meaning of every first-level code that has items, the code with the most items first.

    `titles` are those of the items, by index. A word typifies a code by p log(p / q), where p of the code's
    items have it in their titles and q of all: it is common here and rare elsewhere. Numbers do not count,
    nor what a single item of several has.
    """
    words = [_words(title) for title in titles]
    everywhere = Counter(stem for found in words for stem in found)
    first = ids.codes[:, 0]
    order = np.lexsort((ids.costs[:, 1], first))
    starts = np.flatnonzero(np.diff(first[order], prepend=-1))
    found_codes = []
    for rows in np.split(order, starts[1:]):
        here = Counter(stem for row in rows.tolist() for stem in words[row])
        typical = _typical(here, len(rows), everywhere, len(titles))
        named = tuple(_usual_form(stem, [words[row] for row in rows.tolist()]) for stem in typical)
        shown = dict.fromkeys(clean(titles[row], _TITLE_LIMIT) for row in rows[: 4 * TITLES].tolist())
        some = tuple(title for title in shown if title)[:TITLES]
        found_codes.append(CodeMeaning(int(first[rows[0]]), len(rows), named, some))
    return sorted(found_codes, key=lambda each: (-each.items, each.code))


def _words(title: str) -> dict[str, str]:
    """Distinct stems of a title, and the first form of each in it."""
    found: dict[str, str] = {}
    for word in split_words(clean(title, _LETTERS_READ)):
        for stem in stems(word):
            if not stem.isdigit() and not (stem.isascii() and len(stem) == 1):
                found.setdefault(stem, word)
    return found


def _usual_form(stem: str, words: Iterable[dict[str, str]]) -> str:
    """The form that a stem has in most titles, the first by letters of several."""
    forms = Counter(found[stem] for found in words if stem in found)
    return min(forms, key=lambda form: (-forms[form], form))


def _typical(here: Counter[str], size: int, everywhere: Counter[str], items: int) -> list[str]:
    """The stems that typify `size` items, best first."""
    least = 1 if size < 4 else 2
    scores = {}
    for stem, count in here.items():
        share, usual = count / size, everywhere[stem] / items
        if count >= least and share > usual:
            scores[stem] = share * np.log(share / usual)
    return sorted(scores, key=lambda stem: (-scores[stem], stem))[:WORDS]
