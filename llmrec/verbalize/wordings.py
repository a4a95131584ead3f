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
    """Wordings by part ("price_max", "like", ...) and set ("train", "heldout")."""

    def __init__(self, templates: Templates) -> None:
        """Read and check `wishes.yaml`; what is wrong in it is named in an `LlmrecError`."""
        where = f"{templates.origin}/wishes.yaml"
        try:
            content = yaml.safe_load(templates.text("wishes.yaml"))
        except yaml.YAMLError as error:
            raise LlmrecError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
        self._lists: dict[tuple[str, str], list[str]] = {}
        for part, allowed in PLACEHOLDERS.items():
            for name in SETS:
                found = content.get(part, {}).get(name) if isinstance(content, dict) else None
                if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
                    raise LlmrecError(f"{where}: {part}.{name} must be a list of wordings")
                for wording in found:
                    self._check(wording, allowed, f"{where}: {part}.{name}: {wording!r}")
                self._lists[part, name] = found

    @staticmethod
    def _check(wording: str, allowed: set[str], where: str) -> None:
        named = set(_PLACEHOLDER.findall(wording))
        if named - allowed or (allowed and not named):
            expected = ", ".join(f"{{{name}}}" for name in sorted(allowed)) or "no placeholder"
            raise LlmrecError(f"{where} must name {expected}")

    def of(self, part: str, wordings: str) -> list[str]:
        """All wordings of one part in one set; the set's name is checked."""
        if wordings not in SETS:
            raise LlmrecError(f"wordings are {wordings!r}, they must be one of: {', '.join(SETS)}")
        return self._lists[part, wordings]


def fill(wording: str, values: Mapping[str, str]) -> str:
    """Put values into a wording; they are inserted as they are."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], wording)


def money(value: float, currency: str, symbol: bool) -> str:
    """A price in words, "2.50 pounds" or with `symbol` "£2.50"; other currencies by their code."""
    number = f"{value:.0f}" if value == int(value) else f"{value:.2f}"
    if currency not in _CURRENCIES:
        return f"{number} {currency}".strip()
    sign, one, many = _CURRENCIES[currency]
    if symbol:
        return sign + number
    return f"{number} {one if value == 1 else many}"
