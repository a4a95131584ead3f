"""A rendered prompt: words, items and query tokens in order, in two parts.

The head (system words, profile, history) depends on the past alone, and the head of a shorter history is
the beginning of the head of a longer one. The tail (statistics, wish, query tokens) changes with each
request. Training relies on both: one pass over a long head, with tails standing after cut points, sees
what the separate prompts would have said.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A run of text, already cleaned of control tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class ItemToken:
    """One item of the catalogue, by index."""

    item: int


@dataclass(frozen=True, slots=True)
class QueryToken:
    """The m-th learnable query token."""

    number: int


Segment = Words | ItemToken | QueryToken


@dataclass(frozen=True, slots=True)
class Prompt:
    """Segments before and after the cut point; see the module."""

    head: tuple[Segment, ...]
    tail: tuple[Segment, ...]
