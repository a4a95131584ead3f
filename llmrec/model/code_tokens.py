"""Codes as tokens: one token for each code of each level of a catalogue's IDs, in any tokenizer.

The tokens are control tokens: texts are read with `split_special_tokens` everywhere (`model.tokens`), so a
title that spells one out stays a title.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import AddedToken

from llmrec.errors import LlmrecError
from llmrec.model.tokens import PromptTokens
from llmrec.verbalize.prompt import ItemToken, Prompt, Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOCK = 32
"""Tokens that an engine keeps together: the least that vLLM takes on a CPU, and a multiple of what it takes
elsewhere. What fills no block is computed again for each beam."""
_WHOLE_FROM = 2 * BLOCK
"""A shorter prompt is left as it is: it would lose too much of its history."""


@dataclass(frozen=True, slots=True)
class CodeTokens:
    """Where codes stand in a vocabulary: `first` is the id of the first code of the first level.

    The ids of a level's codes follow each other, and those of the next level follow them. Behind all codes
    are the `soft` tokens of a soft prompt.
    """

    first: int
    sizes: tuple[int, ...]
    soft: int = 0

    @property
    def starts(self) -> tuple[int, ...]:
        """The id of each level's first code, and of what comes behind the codes."""
        return tuple((self.first + np.cumsum([0, *self.sizes])).tolist())

    @property
    def end(self) -> int:
        """The id behind all of these tokens."""
        return self.starts[-1] + self.soft

    @property
    def ids(self) -> range:
        """The ids of all these tokens."""
        return range(self.first, self.end)

    @property
    def levels(self) -> tuple[np.ndarray, ...]:
        """The ids of each level's codes, int64: what can stand at that place of an ID."""
        starts = self.starts
        return tuple(np.arange(*pair) for pair in zip(starts[:-1], starts[1:], strict=True))

    @property
    def soft_prompt(self) -> tuple[int, ...]:
        """The ids of the soft prompt."""
        return tuple(range(self.starts[-1], self.end))

    @property
    def names(self) -> tuple[str, ...]:
        """What the tokens are called, in the order of their ids."""
        codes = [f"<|code_{level}_{c}|>" for level, size in enumerate(self.sizes, 1) for c in range(size)]
        return (*codes, *(f"<|soft_{row}|>" for row in range(self.soft)))

    def sequences(self, codes: np.ndarray) -> np.ndarray:
        """The tokens that write `codes` int [..., levels], int64 of that shape."""
        found: np.ndarray = np.asarray(codes, dtype=np.int64) + np.array(self.starts[:-1])
        return found


def add_code_tokens(
    tokenizer: PreTrainedTokenizerBase, sizes: Sequence[int], soft_prompt: int = 0
) -> CodeTokens:
    """Add the tokens of levels with `sizes` codes, and of a soft prompt, to `tokenizer`.

    What was in it stays as it was. Raises `LlmrecError` for a tokenizer that has such tokens already, or
    that does not keep each of them one token.
    """
    tokens = CodeTokens(len(tokenizer), tuple(sizes), soft_prompt)
    known = tokenizer.get_vocab()
    if any(name in known for name in tokens.names):
        raise LlmrecError(
            "the base model has tokens for codes already: start from the model that it was made of"
        )
    added = [AddedToken(name, normalized=False, special=True) for name in tokens.names]
    tokenizer.add_tokens(added, special_tokens=True)
    _check(tokenizer, tokens)
    return tokens


def find_code_tokens(
    tokenizer: PreTrainedTokenizerBase, sizes: Sequence[int], soft_prompt: int = 0
) -> CodeTokens:
    """The tokens that `add_code_tokens` put into a tokenizer; raises `LlmrecError` where it has others."""
    first = tokenizer.get_vocab().get(CodeTokens(0, tuple(sizes)).names[0])
    if first is None:
        raise LlmrecError("the tokenizer has no tokens for codes")
    tokens = CodeTokens(first, tuple(sizes), soft_prompt)
    _check(tokenizer, tokens)
    return tokens


def _check(tokenizer: PreTrainedTokenizerBase, tokens: CodeTokens) -> None:
    """Raise `LlmrecError` unless each token is one id, in order, wherever it stands in a text."""
    text = "a " + "".join(tokens.names) + " z"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if [token for token in ids if token in tokens.ids] != list(tokens.ids):
        raise LlmrecError(
            f"the tokenizer does not keep {tokens.names[0]} and the like one token each: "
            "choose another base model"
        )


class CodePrompts(PromptTokens):
    """Maps prompts to ids, items written as the codes of their IDs; there are no query tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tokens: CodeTokens, codes: np.ndarray) -> None:
        """`codes` int [items, levels] are the items' IDs; the tokens are in the tokenizer already."""
        super().__init__(tokenizer, items=0, queries=0)
        self.tokens = tokens
        self.sequences = tokens.sequences(codes)
        self.prefix = (*self.prefix, *tokens.soft_prompt)

    def encode(self, segments: Sequence[Segment]) -> list[int]:
        """Ids of some segments, without what begins every prompt."""
        ids: list[int] = []
        for segment in segments:
            if isinstance(segment, ItemToken):
                ids.extend(self.sequences[segment.item].tolist())
            else:
                ids.extend(super().encode([segment]))
        return ids

    def whole_blocks(self, prompt: Prompt) -> tuple[list[int], int]:
        """Ids of the whole prompt without those of its oldest events, 0 to 31, that fill no block.

        And the number of events of which some ids went; the last of these may have others left. What stands
        before the events stays, and so does a prompt of fewer than 64 ids or one whose events have not so
        many.
        """
        ids = self.prompt(prompt)
        first = next((at for at, each in enumerate(prompt.head) if isinstance(each, ItemToken)), None)
        over = len(ids) % BLOCK
        if len(ids) < _WHOLE_FROM or first is None or not over:
            return ids, 0
        start, end = (len(self.prefix) + len(self.encode(prompt.head[:at])) for at in (first, None))
        if over >= end - start:
            return ids, 0
        gone = lost = 0
        for segment in prompt.head[first:]:
            if gone >= over:
                break
            gone += len(self.encode([segment]))
            lost += isinstance(segment, ItemToken)
        return ids[:start] + ids[start + over :], lost
