"""The one render function: a history and a wish become a prompt, in training, evaluation and serving."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmrec.data.catalog import Catalog, Value
from llmrec.data.events import History
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.verbalize.clean import clean
from llmrec.verbalize.profile import describe, gap
from llmrec.verbalize.prompt import ItemToken, Prompt, QueryToken, Segment, Words
from llmrec.verbalize.templates import Templates

_WRITTEN = {"title": " {};", "both": " {}", "line": " {}\n"}
"""How the words of an item stand in a prompt."""
ITEM_MODES = ("token", *_WRITTEN)
WISH_LIMIT, TITLE_LIMIT, ATTRIBUTE_LIMIT = 240, 80, 40
"""Characters kept of a wish, of a title, and of an attribute's name or value."""

# What must not pass a template as text passes as private-use characters, which `clean` removes from all
# values. An item is ITEM index END, a query QUERY number END.
_ITEM, _QUERY, _END, _CUT = "\ue000", "\ue001", "\ue002", "\ue003"
_MARKS = re.compile(f"([{_ITEM}{_QUERY}])([0-9]+){_END}|{_CUT}")


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How prompts read; kept in the bundle, so that serving asks as training did.

    template: file in `prompts/` without suffix. items: "token" writes an item of the history as its own
    token, "title" as words, "both" as words and then its token, "line" as words that end their line, as a
    model goes on writing them (`items.titles`). max_events: newest events kept. queries: query tokens M that
    end the prompt, 0 for a prompt that a model goes on writing. attributes: the user's attributes, in the
    head. statistics: of the history, in the tail, since they depend on the cut. gaps: words for gaps of time
    between events.
    """

    template: str = "retrieve"
    items: str = "token"
    max_events: int = 50
    queries: int = 4
    attributes: bool = True
    statistics: bool = False
    gaps: bool = True

    def __post_init__(self) -> None:
        if self.items not in ITEM_MODES:
            raise LlmrecError(f"prompt: items is {self.items!r}, it must be one of: {', '.join(ITEM_MODES)}")
        for name, least in (("max_events", 1), ("queries", 0)):
            if getattr(self, name) < least:
                raise LlmrecError(f"prompt: {name} is {getattr(self, name)}, it must be at least {least}")


@dataclass(frozen=True, slots=True)
class _EventView:
    """An event as templates see it: `gap` and `type` are "" when there is nothing to say."""

    gap: str
    type: str
    item: str


class Verbalizer:
    """Renders prompts for one catalogue.

    The head of a shorter history is the beginning of the head of a longer one while both have at most
    `max_events` events (see `verbalize.prompt`). Each `Words` is tokenised by itself: in "token" mode
    the words between two items (in "both" mode with the title of the second), in the others one event.
    """

    def __init__(
        self,
        catalog: Catalog,
        settings: PromptSettings,
        event_types: Sequence[str],
        templates: Templates,
        forbidden: Sequence[str] = (),
    ) -> None:
        """`event_types`: all types of the data; `forbidden`: the tokenizer's special tokens."""
        self.catalog = catalog
        self.settings = settings
        self.templates = templates
        self.forbidden = tuple(forbidden)
        self._several_types = len(set(event_types)) > 1
        self._queries = "".join(f"{_QUERY}{number}{_END}" for number in range(settings.queries))
        if settings.template not in templates.names:
            raise LlmrecError(
                f"prompt: there is no template {settings.template!r}, there is: {', '.join(templates.names)}"
            )

    def prompt(
        self,
        history: History,
        words: str = "",
        attributes: Mapping[str, Value] | None = None,
        now: int | None = None,
    ) -> Prompt:
        """Render a history (oldest first), a wish and the user's attributes.

        Statistics, where the settings ask for them, are of the whole history; `now` (seconds since
        1970 UTC) lets them say how long ago it ended.
        """
        return self._render(history, self.settings.max_events, words, attributes or {}, now)

    def fit(
        self,
        history: History,
        words: str,
        attributes: Mapping[str, Value] | None,
        budget: int,
        count: Callable[[Prompt], int],
        now: int | None = None,
        most: int | None = None,
    ) -> tuple[Prompt, History]:
        """The prompt with as many of the newest events as keep `count(prompt) <= budget`, and those events.

        At most `most` events are kept, and at most `max_events`. Whole oldest events are dropped, never half
        of one; wish and attributes stay. Raises `LlmrecError` when not even one event (or the prompt of an
        empty history) fits.
        """
        least, room = min(1, len(history)), self.settings.max_events
        most = min(len(history), room if most is None else max(1, min(room, most)))

        def render(kept: int) -> Prompt:
            return self._render(history, kept, words, attributes or {}, now)

        prompt = render(most)
        if count(prompt) <= budget:
            return prompt, history[len(history) - most :]
        prompt, needed = render(least), count(render(least))
        if needed > budget:
            raise LlmrecError(
                f"the prompt takes {needed} tokens with {least} events of the history, the budget is "
                f"{budget}: allow more tokens, or shorten the wish or the user's attributes"
            )
        while most - least > 1:  # `least` fits and `most` does not
            middle = (least + most) // 2
            candidate = render(middle)
            if count(candidate) <= budget:
                least, prompt = middle, candidate
            else:
                most = middle
        return prompt, history[len(history) - least :]

    def display(self, prompt: Prompt) -> str:
        """The prompt for people: words as they are, `<item ID "Title">` and `<query m>` for tokens."""
        shown = []
        for segment in prompt.head + prompt.tail:
            if isinstance(segment, Words):
                shown.append(segment.text)
            elif isinstance(segment, ItemToken):
                item = self.catalog[segment.item]
                shown.append(f'<item {clean(item.id, TITLE_LIMIT)} "{self._title(segment.item)}">')
            else:
                shown.append(f"<query {segment.number}>")
        return "".join(shown)

    def _render(
        self, history: History, kept: int, words: str, attributes: Mapping[str, Value], now: int | None
    ) -> Prompt:
        settings = self.settings
        text = self.templates.render(
            settings.template,
            {
                "attributes": self._attributes(attributes) if settings.attributes else [],
                "events": self._events(history[max(0, len(history) - kept) :]),
                "cut": _CUT,
                "statistics": describe(history, self.catalog, now) if settings.statistics else [],
                "wish": self._clean(words, WISH_LIMIT),
                "queries": self._queries,
            },
        )
        return self._split(text)

    def _events(self, history: History) -> list[_EventView]:
        views = []
        time: int | None = None
        type_said = ""
        for event in history:
            if not 0 <= event.item < len(self.catalog):
                raise UnknownIdError(
                    f"the history has item number {event.item}, the catalogue has {len(self.catalog)} items"
                )
            since = gap(event.time - time) if event.time is not None and time is not None else ""
            says_type = self._several_types and event.type not in ("", type_said)
            views.append(
                _EventView(
                    gap=since if self.settings.gaps else "",
                    type=self._clean(event.type, ATTRIBUTE_LIMIT) if says_type else "",
                    item=f"{_ITEM}{event.item}{_END}",
                )
            )
            time = event.time if event.time is not None else time
            type_said = event.type or type_said
        return views

    def _attributes(self, attributes: Mapping[str, Value]) -> list[tuple[str, str]]:
        pairs = []
        for name, value in attributes.items():
            said = (
                "" if value is None or value != value else value if isinstance(value, str) else f"{value:g}"
            )
            if said := self._clean(said, ATTRIBUTE_LIMIT):
                pairs.append((self._clean(name, ATTRIBUTE_LIMIT), said))
        return pairs

    def _clean(self, text: str, limit: int) -> str:
        return clean(text, limit, self.forbidden)

    def _title(self, item: int) -> str:
        return self._clean(self.catalog[item].title or self.catalog[item].id, TITLE_LIMIT)

    def _split(self, text: str) -> Prompt:
        """Cut a rendered text into segments at its marks, and check its shape."""
        parts: list[list[Segment]] = [[]]
        words, end = "", 0
        for mark in _MARKS.finditer(text):
            words += text[end : mark.start()]
            end = mark.end()
            if mark[1] == _ITEM and self.settings.items in _WRITTEN:
                words += _WRITTEN[self.settings.items].format(self._title(int(mark[2])))
            if words:
                parts[-1].append(Words(words))
                words = ""
            if mark[1] is None:
                parts.append([])
            elif mark[1] == _QUERY:
                parts[-1].append(QueryToken(int(mark[2])))
            elif self.settings.items in ("token", "both"):
                parts[-1].append(ItemToken(int(mark[2])))
        if not self._queries and text[end:]:  # nothing marks the end of a prompt that goes on
            parts[-1].append(Words(text[end:]))
            end = len(text)
        queries = [QueryToken(number) for number in range(self.settings.queries)]
        ends = len(parts) == 2 and parts[1][len(parts[1]) - len(queries) :] == queries
        if not ends or text[end:] or QueryToken(0) in parts[0]:
            raise LlmrecError(
                f"{self.templates.origin}/{self.settings.template}.jinja must write {{{{ cut }}}} once, "
                "after the events, and end with {{ queries }}"
            )
        return Prompt(tuple(parts[0]), tuple(parts[1]))
