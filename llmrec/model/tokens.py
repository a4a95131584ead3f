"""Prompts as token ids: the tokenizer's words, then one id an item, one a query, one a soft prompt row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from llmrec.data.catalog import Value
from llmrec.data.events import History
from llmrec.verbalize.prompt import ItemToken, Prompt, QueryToken, Segment, Words
from llmrec.verbalize.render import Verbalizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = 20_000
"""Texts that are tokenised at a time."""


class PromptTokens:
    """Maps prompts to ids of an extended vocabulary; the tokenizer itself stays as it is.

    Ids below `base` are words. `base + i` is item i, `base + items + m` query m, `base + items +
    queries + p` row p of a soft prompt (which, if there is one, begins every prompt). The embeddings of
    the ids from `base` on are computed by the model (URM section 1.2), not looked up.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, items: int, queries: int, soft_prompt: int = 0
    ) -> None:
        self.tokenizer = tokenizer
        self.base = len(tokenizer)
        self.items = items
        self.queries = queries
        self.soft_prompt = soft_prompt
        self._words = lru_cache(maxsize=65536)(self._encode_words)
        # What the tokenizer puts before every text (Llama, Gemma: a token of beginning), as it was trained.
        begin = tokenizer("", add_special_tokens=True)["input_ids"]
        if begin and begin[-1] == tokenizer.eos_token_id != tokenizer.bos_token_id:
            begin = begin[:-1]
        soft = [self.base + items + queries + row for row in range(soft_prompt)]
        self.prefix: tuple[int, ...] = (*begin, *soft)

    @property
    def size(self) -> int:
        """Number of ids, words and all others."""
        return self.base + self.items + self.queries + self.soft_prompt

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Ids of some segments, without what begins every prompt."""
        ids: list[int] = []
        for segment in segments:
            if isinstance(segment, Words):
                ids.extend(self._words(segment.text))
            elif isinstance(segment, ItemToken):
                ids.append(self.base + segment.item)
            elif isinstance(segment, QueryToken):
                ids.append(self.base + self.items + segment.number)
        return ids

    def head(self, prompt: Prompt) -> list[int]:
        """Ids of the head, with what begins every prompt."""
        return [*self.prefix, *self.encode(prompt.head)]

    def prompt(self, prompt: Prompt) -> list[int]:
        """Ids of the whole prompt."""
        return self.head(prompt) + self.encode(prompt.tail)

    @property
    def context(self) -> int:
        """Tokens that the base model takes at most."""
        return int(self.tokenizer.model_max_length)

    def fit(
        self,
        verbalizer: Verbalizer,
        history: History,
        words: str,
        attributes: Mapping[str, Value] | None,
        spare: int = 0,
        most: int | None = None,
    ) -> tuple[Prompt, History]:
        """The prompt with as many of the newest events as leave `spare` tokens of the context free.

        At most `most` events are kept. Training and serving cut histories with it alone; see
        `Verbalizer.fit`.
        """
        return verbalizer.fit(history, words, attributes, self.context - spare, self.count, most=most)

    def count(self, prompt: Prompt) -> int:
        """Length of the whole prompt in tokens."""
        return len(self.prompt(prompt))

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, without what begins every prompt."""
        found: list[list[int]] = []
        for start in range(0, len(texts), _TEXTS):
            part = list(texts[start : start + _TEXTS])
            found += self.tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return found

    def _encode_words(self, text: str) -> tuple[int, ...]:
        # `split_special_tokens`: a control token spelled out in a text stays a run of characters.
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return tuple(encoded["input_ids"])
