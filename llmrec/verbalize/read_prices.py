"""Prices that a wish gives as alternatives: "under 3 pounds or over 5 pounds"."""

from __future__ import annotations

import re

from llmrec.verbalize import grammar
from llmrec.verbalize.reading import Reading

_OR = re.compile(r"\s*,?\s*or(?: else)?\s+", re.IGNORECASE)


def leave_price_alternatives(reading: Reading) -> None:
    """Leave prices with "or" between them to the model: bounds hold together, alternatives do not."""
    currency = reading.lexicon.catalog.currency
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for name, pattern in grammar.price_patterns(currency).items():
        for match in pattern.finditer(reading.text):
            marked = grammar.has_currency(match, "a", *(["b"] if name.startswith("range") else []))
            bounds = name in ("range", "max_not", "min_not", "max", "min")
            if marked or bounds or (not currency and name in ("max_after", "min_after")):
                start, end = match.span()
                first[end] = min(start, first.get(end, start))
                last[start] = max(end, last.get(start, end))
    spans: list[tuple[int, int]] = []
    for match in _OR.finditer(reading.text):
        if match.start() in first and match.end() in last:
            start, end = first[match.start()], last[match.end()]
            if spans and start < spans[-1][1]:
                start = spans.pop()[0]
            spans.append((start, end))
    for start, end in spans:
        reading.leave(start, end)
