"""Words and codes of items side by side, so that a model knows what an ID means (LC-Rec section 3).

Drawn anew in every pass, from all items that may be recommended: those that nobody took yet too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.data.events import Event
from llmrec.items.titles import title_sequences, titles_of
from llmrec.model.code_tokens import CodePrompts
from llmrec.tune.code_settings import (
    ID_TO_TEXT,
    NEXT_TITLE,
    TASKS,
    TEXT_TO_ID,
    TITLES_TO_ID,
    CodeSettings,
)
from llmrec.tune.collate import Example
from llmrec.tune.passages import Run, answer
from llmrec.verbalize.clean import clean
from llmrec.verbalize.item_wordings import ItemWordings
from llmrec.verbalize.prompt import Words
from llmrec.verbalize.render import TITLE_LIMIT, Verbalizer

TEXT_LIMIT = 160
"""Characters kept of an item's text."""


class ItemTasks:
    """Makes runs for the tasks about words of `code_settings.TASKS`; see `CodeSettings` for how many."""

    def __init__(
        self,
        prompts: CodePrompts,
        titles: Verbalizer,
        wordings: ItemWordings,
        settings: CodeSettings,
        lines: Verbalizer | None = None,
    ) -> None:
        """`titles` writes histories as titles; `lines` writes prompts for the task next_title, if it is on.

        Raises `LlmrecError` where the tokenizer has no token that ends a title.
        """
        self._prompts, self._wordings, self._verbalizer = prompts, wordings, titles
        self._settings = settings
        weights = [getattr(settings.tasks, name) for name in TASKS]
        self._on = {task for task in (TEXT_TO_ID, ID_TO_TEXT, TITLES_TO_ID) if weights[task] > 0}
        catalog, forbidden = titles.catalog, titles.forbidden
        self._titles = [clean(item.title or item.id, TITLE_LIMIT, forbidden) for item in catalog.items]
        self._texts = [clean(item.text, TEXT_LIMIT, forbidden) for item in catalog.items]
        self._items = np.flatnonzero(~catalog.retired)
        end = prompts.tokenizer.eos_token_id
        self._end = [] if end is None else [int(end)]
        self.answers = [prompts.encode([Words(f" {title}")]) for title in self._titles]
        """The tokens of each item's title."""
        self._lines, self.written = lines, list[list[int]]()
        if lines is not None:
            shown = titles_of(catalog, forbidden)
            self.written = title_sequences(shown, prompts.encode_texts, prompts.tokenizer.eos_token_id)
        """The tokens of each item's title as it is written for next_title, its end among them."""

    @property
    def words(self) -> np.ndarray:
        """Every token that may stand in a title, sorted, int64: words are chosen from these alone."""
        return np.unique([*(token for row in (*self.answers, *self.written) for token in row), *self._end])

    def runs(self, example: Example, rng: np.random.Generator) -> list[Run]:
        """What is added to one pass over a history."""
        cut = len(self._prompts.prefix)
        after = [*example.items[1:], *example.next_item[-1:]]
        found = []
        if self._lines is not None and after:
            for _ in range(self._settings.title_prompts):
                found.append(self._next_title(self._lines, example.items, after, rng, cut))
        if self._on and rng.random() < self._settings.aligned:
            found += self._aligned(example.items, after, rng, cut)
        room = self._prompts.context
        return [run for run in found if cut + len(run.ids) <= room]

    def _aligned(
        self, items: Sequence[int], after: Sequence[int], rng: np.random.Generator, cut: int
    ) -> list[Run]:
        """One example of each task that says what IDs mean."""
        found = []
        if TEXT_TO_ID in self._on:
            item = self._draw(rng)
            text = self._texts[item] if rng.random() < 0.5 else ""
            asked = self._prompts.encode(self._wordings.before_id(text or self._titles[item], rng))
            found.append(answer(cut, asked, self._prompts.sequences[item].tolist(), TEXT_TO_ID))
        if ID_TO_TEXT in self._on:
            item = self._draw(rng)
            asked = self._prompts.encode(self._wordings.before_title(item, rng))
            found.append(answer(cut, asked, [*self.answers[item], *self._end], ID_TO_TEXT))
        if TITLES_TO_ID in self._on and after:
            found.append(self._from_titles(items, after, rng, cut))
        return found

    def _draw(self, rng: np.random.Generator) -> int:
        return int(self._items[rng.integers(len(self._items))])

    def _from_titles(
        self, items: Sequence[int], after: Sequence[int], rng: np.random.Generator, cut: int
    ) -> Run:
        """The codes of an item, from the titles before it; `after[j]` follows `items[j]`."""
        at = int(rng.integers(len(after)))
        ids = self._after(self._verbalizer, items[: at + 1])
        return answer(cut, ids, self._prompts.sequences[after[at]].tolist(), TITLES_TO_ID)

    def _next_title(
        self,
        lines: Verbalizer,
        items: Sequence[int],
        after: Sequence[int],
        rng: np.random.Generator,
        cut: int,
    ) -> Run:
        """The title of an item, from those before it."""
        at = int(rng.integers(len(after)))
        return answer(cut, self._after(lines, items[: at + 1]), self.written[after[at]], NEXT_TITLE)

    def _after(self, verbalizer: Verbalizer, items: Sequence[int]) -> list[int]:
        """The prompt of the newest of some items, without what begins every prompt."""
        past = items[max(0, len(items) - self._settings.titles) :]
        prompt = verbalizer.prompt(tuple(Event(item) for item in past))
        return self._prompts.encode((*prompt.head, *prompt.tail))
