"""Limits that leave no item: the few of them that contradict each other."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from llmrec.data.events import History
from llmrec.decode.contract import Filters
from llmrec.decode.filters import FilterIndex

_NONE = Filters()
_LISTS_OF_ITEMS = ("exclude_items", "allowed_items")


def contradiction(index: FilterIndex, limits: Filters, history: History = ()) -> Filters:
    """The part of `limits` that leaves no item, and would leave one if anything more were taken out.

    `limits` must leave none. What stands first in `Filters` is taken out first; a list of items goes whole.
    """
    for name in (field.name for field in fields(Filters)):
        whole = replace(limits, **{name: getattr(_NONE, name)})
        if not index.mask(whole, history).any():
            limits = whole
            continue
        values = getattr(limits, name)
        for each in values if isinstance(values, tuple) and name not in _LISTS_OF_ITEMS else ():
            rest: Any = tuple(value for value in getattr(limits, name) if value != each)
            fewer = replace(limits, **{name: rest})
            if not index.mask(fewer, history).any():
                limits = fewer
    return limits
