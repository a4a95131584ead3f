"""Values of attributes as text: one writing for equal values, and ranges of numbers."""

from __future__ import annotations

import math
import re

from llmrec.data.catalog import Value

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_RANGE = re.compile(rf"({_NUMBER})-({_NUMBER})")


def written(value: Value) -> str:
    """A value in words and in filters: numbers without needless digits ("1995"), text trimmed."""
    if isinstance(value, str) or value is None:
        return (value or "").strip()
    return f"{value:.12g}"


def value_key(value: Value) -> str:
    """Equal for values that are the same: '2010', 2010.0 and '2010.0', or 'Red' and 'RED'."""
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        number = math.nan
    return f"{number:.12g}" if math.isfinite(number) else str(value).strip().casefold()


def number_range(value: str) -> tuple[float, float] | None:
    """The bounds that a value LOW-HIGH ("1990-1999") names, both included; None when it is no range."""
    match = _RANGE.fullmatch(value.strip())
    if match is None:
        return None
    low, high = float(match[1]), float(match[2])
    return (low, high) if low <= high else None


def range_of(low: float, high: float) -> str:
    """The value that names a range: (1990, 1999) is "1990-1999"."""
    return f"{written(low)}-{written(high)}"


def matches(value: Value, wanted: str) -> bool:
    """Whether an item with this attribute value has the value, or lies in the range, that is wanted."""
    if value is None:
        return False
    if value_key(value) == value_key(wanted):
        return True
    bounds = None if isinstance(value, str) else number_range(wanted)
    return bounds is not None and not isinstance(value, str) and bounds[0] <= value <= bounds[1]
