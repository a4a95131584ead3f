"""How wishes are said: the wordings of `prompts/wishes.yaml`, and money in words."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from llmrec.errors import LlmrecError
from llmrec.verbalize.templates import Templates

SETS = ("train", "heldout")
PLACEHOLDERS = {
    "price_max": {"price"},
    "price_min": {"price"},
    "price_between": {"low", "high"},
    "season": {"season"},
    "not_word": {"word", "a_word"},
    "like": {"title"},
    "new": set(),
    "keyword": {"word"},
    "category": {"category"},
    "not_category": {"category"},
    "attribute": {"name", "value"},
    "not_attribute": {"name", "value"},
    "decade": {"decade"},
    "event": {"event"},
    "min_value": {"value"},
    "scenario": {"column", "value"},
    "long_tail": set(),
    "fresh": set(),
    "new_category": set(),
    "seen_before": set(),
    "diverse": set(),
    "price_low": set(),
    "price_high": set(),
    "stronger": {"part"},
    "weaker": {"part"},
    "joins": set(),
}
"""What the wordings of each part may name."""
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_CURRENCIES = {
    "GBP": ("£", "pound", "pounds"),
    "USD": ("$", "dollar", "dollars"),
    "EUR": ("€", "euro", "euros"),
    "JPY": ("¥", "yen", "yen"),
    "INR": ("₹", "rupee", "rupees"),
}


class Wordings:
    """Wordings by part ("price_max", "like", ...) and set ("train", "heldout").

    A file need not have all parts: a bundle keeps the wordings that it was trained on, which may be older.
    """

    def __init__(self, templates: Templates) -> None:
        """Read and check `wishes.yaml`; what is wrong in it is named in an `LlmrecError`."""
        where = f"{templates.origin}/wishes.yaml"
        try:
            content = yaml.safe_load(templates.text("wishes.yaml"))
        except yaml.YAMLError as error:
            raise LlmrecError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise LlmrecError(f"{where} must name parts and their wordings")
        self._where = where
        self._lists: dict[tuple[str, str], list[str]] = {}
        for part in content:
            if part not in PLACEHOLDERS:
                raise LlmrecError(f"{where}: there is no part {part!r}, there are: {', '.join(PLACEHOLDERS)}")
            for name in SETS:
                found = content[part].get(name) if isinstance(content[part], dict) else None
                if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
                    raise LlmrecError(f"{where}: {part}.{name} must be a list of wordings")
                for wording in found:
                    self._check(wording, PLACEHOLDERS[part], f"{where}: {part}.{name}: {wording!r}")
                self._lists[part, name] = found

    @staticmethod
    def _check(wording: str, allowed: set[str], where: str) -> None:
        named = set(_PLACEHOLDER.findall(wording))
        if named - allowed or (allowed and not named):
            expected = ", ".join(f"{{{name}}}" for name in sorted(allowed)) or "no placeholder"
            raise LlmrecError(f"{where} must name {expected}")

    def of(self, part: str, wordings: str) -> list[str]:
        """All wordings of one part in one set; raises `LlmrecError` for an unknown set or an absent part."""
        if wordings not in SETS:
            raise LlmrecError(f"wordings are {wordings!r}, they must be one of: {', '.join(SETS)}")
        if (part, wordings) not in self._lists:
            raise LlmrecError(f"{self._where} has no wordings for {part!r}: add {part}.{wordings}")
        return self._lists[part, wordings]


def fill(wording: str, values: Mapping[str, str]) -> str:
    """Put values into a wording; they are inserted as they are."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], wording)


def money(value: float, currency: str, symbol: bool) -> str:
    """A price in words, "2.50 pounds" or with `symbol` "£2.50"; other currencies by their code.

    Of at most four decimals, which are as many as words for prices have.
    """
    digits = f"{value:.0f}" if value == int(value) else f"{value:.2f}"
    if abs(float(digits) - value) >= 0.00005:
        digits = f"{value:.4f}".rstrip("0")
    if currency not in _CURRENCIES:
        return f"{digits} {currency}".strip()
    sign, one, many = _CURRENCIES[currency]
    if symbol:
        return sign + digits
    return f"{digits} {one if value == 1 else many}"


def number(value: float) -> str:
    """A number in digits, "4" or "3.5", of at most six decimals."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
