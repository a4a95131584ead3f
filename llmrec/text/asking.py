"""Questions to a model that writes: the prompt `next_title`, in the words and tokens of one dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmrec.data.events import Event
from llmrec.data.facts import ItemFacts
from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Request, known_of
from llmrec.errors import LlmrecError
from llmrec.items.titles import titles_of
from llmrec.verbalize.next_title import title_prompts
from llmrec.verbalize.templates import Templates

if TYPE_CHECKING:
    from llmrec.model.tokens import PromptTokens


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How a model is asked for words.

    max_events: newest events that a prompt holds. width: titles that are tried at a time. bare: how much of
    what the model would write for anyone is taken off, from 0 to 1 (`decode.contrast`). split: the split
    whose train fold tells what is popular and what is new. tuned: the model learnt to write titles
    (`tune.code_settings`, the task next_title), by prompts of titles alone and among the tokens of titles.
    """

    max_events: int = 10
    width: int = 20
    bare: float = 0.5
    split: str = "leave-last-out"
    tuned: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.bare <= 1:
            raise LlmrecError(f"text: bare is {self.bare}, it must be from 0 to 1")


class Asking:
    """Requests as prompts, and the catalogue's titles as such prompts have them."""

    def __init__(
        self, prepared: Prepared, tokens: PromptTokens, templates: Templates, settings: TextSettings
    ) -> None:
        """See `verbalize.next_title` for the prompts."""
        self.prepared = prepared
        self.tokens = tokens
        self.forbidden = tuple(tokens.tokenizer.all_special_tokens)
        self.titles = titles_of(prepared.catalog, self.forbidden)
        self.facts = ItemFacts.from_histories(prepared.catalog, prepared.train(settings.split))
        self._tuned = settings.tuned
        self._verbalizer = title_prompts(
            prepared.catalog,
            prepared.histories.event_types,
            templates,
            self.forbidden,
            settings.max_events,
            settings.tuned,
        )

    def prompt(self, request: Request, spare: int) -> list[int]:
        """The prompt's token ids, with as many of the newest events as leave `spare` tokens for an answer.

        Raises `LlmrecError` when a wish or a user's attributes leave no room for one event.
        """
        known, history = known_of(request, self.prepared), request.history
        if self._tuned:  # it learnt from titles alone
            known, history = {}, tuple(Event(event.item) for event in history)
        prompt, _ = self.tokens.fit(self._verbalizer, history, request.words, known, spare)
        return self.tokens.prompt(prompt)
