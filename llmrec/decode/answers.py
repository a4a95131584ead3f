"""Questions as they were understood, and answers as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.decode.contract import Request
from llmrec.decode.why import Cause


@dataclass(frozen=True, slots=True)
class Answer:
    """One recommended item; `because` is what weighed most for it, see `decode.why`.

    In a list merged of several wishes' lists, `wish` is the one for which the item is there.
    """

    item: str
    title: str
    price: float | None
    score: float
    because: tuple[Cause, ...] = ()
    wish: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """A list, what was enforced exactly, what was left to the model, and notes (short lists).

    `favoured` is what was wished for with less weight: items that have it come earlier, others are shown too.
    """

    items: tuple[Answer, ...]
    enforced: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...] = ()
    favoured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """One wish: what the model is asked, what it allows (bool [items]), and what it made of it, once `read`.

    `preferred`: (what it favours, which items that are, with what weight). `varied`: its list is to differ
    within itself. `held`, `left` and `notes` as in `Answers`.
    """

    request: Request
    allowed: np.ndarray
    read: Any
    held: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...]
    preferred: tuple[tuple[str, np.ndarray, float], ...]
    varied: bool

    @property
    def count(self) -> int:
        """How many items it allows."""
        return int(self.allowed.sum())

    @property
    def favoured(self) -> tuple[str, ...]:
        """What it favours, in words."""
        return tuple(said for said, _, _ in self.preferred)
