"""Questions to a model that writes: the prompt `next_title`, in the words and tokens of one dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmrec.data.facts import ItemFacts
from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Request, known_of
from llmrec.errors import LlmrecError
from llmrec.items.titles import titles_of
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

if TYPE_CHECKING:
    from llmrec.model.tokens import PromptTokens

TEMPLATE = "next_title"


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How a model is asked for words.

    max_events: newest events that a prompt holds. width: titles that are tried at a time. bare: how much of
    what the model would write for anyone is taken off, from 0 to 1 (`decode.contrast`). split: the split
    whose train fold tells what is popular and what is new.
    """

    max_events: int = 10
    width: int = 20
    bare: float = 0.5
    split: str = "leave-last-out"

    def __post_init__(self) -> None:
        if not 0 <= self.bare <= 1:
            raise LlmrecError(f"text: bare is {self.bare}, it must be from 0 to 1")


class Asking:
    """Requests as prompts, and the catalogue's titles as such prompts have them."""

    def __init__(
        self, prepared: Prepared, tokens: PromptTokens, templates: Templates, settings: TextSettings
    ) -> None:
        """`templates` that are older than `next_title` are read beside those that come with llmrec."""
        self.prepared = prepared
        self.tokens = tokens
        self.forbidden = tuple(tokens.tokenizer.all_special_tokens)
        self.titles = titles_of(prepared.catalog, self.forbidden)
        self.facts = ItemFacts.from_histories(prepared.catalog, prepared.train(settings.split))
        shown = templates if TEMPLATE in templates.names else Templates.load()
        prompt = PromptSettings(TEMPLATE, "line", settings.max_events, queries=0)
        types = prepared.histories.event_types
        self._verbalizer = Verbalizer(prepared.catalog, prompt, types, shown, self.forbidden)

    def prompt(self, request: Request, spare: int) -> list[int]:
        """The prompt's token ids, with as many of the newest events as leave `spare` tokens for an answer.

        Raises `LlmrecError` when a wish or a user's attributes leave no room for one event.
        """
        known = known_of(request, self.prepared)
        prompt, _ = self.tokens.fit(self._verbalizer, request.history, request.words, known, spare)
        return self.tokens.prompt(prompt)
