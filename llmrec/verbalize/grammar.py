"""The phrases that wishes are made of, as regular expressions over lower-case text; used by `parse`."""

from __future__ import annotations

import re
from functools import lru_cache

from llmrec.verbalize.seasons import SEASONS

# --- prices -----------------------------------------------------------------------------------------------

SYMBOLS = {"£": "GBP", "$": "USD", "€": "EUR", "¥": "JPY", "₹": "INR"}
_CODES = "gbp usd eur jpy inr chf cad aud nzd sek nok dkk pln brl cny krw czk huf"
_UNITS = "pounds?|quid|dollars?|bucks?|euros?|yen|rupees?|pence|pennies|cents?|p"
_SMALL = frozenset({"pence", "pennies", "cent", "cents", "p"})
_NUMBER = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]{1,2})?|[0-9]{1,9}(?:\.[0-9]{1,4}|,[0-9]{1,2})?)(?![.,]?[0-9])"
)
_NOT_MONEY = (
    r"(?!\s*(?:%|percent|years?|months?|weeks?|days?|hours?|minutes?|pieces?|stars?|items?"
    r"|cm|mm|kg|inch(?:es)?)\b)"
)
_NOT = (
    r"(?:not|nothing|never|no|none|cannot|without|(?:do|ca|wo|would|should|must|does|is)n'?t)"
    r"(?: (?:want|wanting|to|be|it|that|which|is|cost|costs|costing|pay|paying|spend|spending|go|going"
    r"|anything|something|priced|any|much|for|a|i|thing))*"
)
_MORE = "(?:more|dearer|pricier|higher|greater|more expensive) than|over|above|beyond|exceeding"
_LESS = "(?:less|lower|cheaper) than|under|below|beneath"
_AT_MOST = (
    rf"{_LESS}|up to|at (?:the )?(?:very )?most|at (?:the )?max(?:imum)?|max(?:imum)?(?: of| is)?|within"
    r"|as much as|spend(?:ing)?(?: only| just)?|(?:budget|limit)(?: of| is)?(?: only| just)?|< ?=?|≤"
)
_AT_LEAST = (
    rf"{_MORE}|at (?:the )?(?:very )?(?:least|minimum)|min(?:imum)?(?: of| is)?|upwards? of"
    r"|starting (?:at|from)|> ?=?|≥"
)
_OR_LESS = (
    r"(?:or|and) (?:less|under|below|cheaper|lower|down)|max(?:imum)?|tops|at (?:the )?(?:very )?(?:most|max)"
)
_OR_MORE = (
    r"(?:or|and) (?:more|over|above|higher|dearer|up(?:wards?)?)|upwards?|min(?:imum)?|at (?:the )?least|up\b"
)


def _amount(name: str, currency: str) -> str:
    unit = rf"(?:{_UNITS}|{_CODES.replace(' ', '|')}|{re.escape(currency.lower()) or 'gbp'})\b"
    symbol = rf"(?:[{''.join(SYMBOLS)}]|{unit})"
    return (
        rf"(?P<s{name}>{symbol} ?)?(?P<n{name}>{_NUMBER})(?: ?(?P<u{name}>{unit}|[€]))?(?![\w'%]){_NOT_MONEY}"
    )


@lru_cache(maxsize=64)
def price_patterns(currency: str) -> dict[str, re.Pattern[str]]:
    """Patterns by what they bound, to be tried in this order.

    Groups `na`, `nb` are numbers, `sa`, `ua` the symbol before and the unit after; "range" has two numbers,
    "about" names a price that bounds nothing.
    """
    a, b = _amount("a", currency), _amount("b", currency)
    start = r"(?<![\w£$€¥₹])(?<![0-9][.,])"
    sources = {
        "range": rf"{start}(?:(?:anywhere )?between|from|priced|costing|(?:in the )?range(?: of)?) {a}"
        rf" ?(?:and|to|-|–|until) ?{b}",
        "range_bare": rf"{start}{a} ?(?:to|-|–) ?{b}",
        "about": rf"{start}(?:about|around|roughly|approximately|circa|near|close to|~) ?{a}",
        "max_not": rf"{start}{_NOT} (?:{_MORE}) ?{a}",
        "min_not": rf"{start}{_NOT} (?:{_LESS}) ?{a}",
        "max": rf"{start}(?:{_AT_MOST}):? ?{a}",
        "min": rf"{start}(?:{_AT_LEAST}):? ?{a}",
        "max_after": rf"{start}{a} (?:{_OR_LESS})(?!\w)",
        "min_after": rf"{start}(?:from )?{a} ?(?:{_OR_MORE}|\+)(?!\w)",
        "min_from": rf"{start}from {a}",
        "bare": rf"{start}{a}",
    }
    return {name: re.compile(source, re.IGNORECASE) for name, source in sources.items()}


def amount(match: re.Match[str], name: str) -> float:
    """The money that group `name` ("a" or "b") of a price pattern says."""
    digits = match[f"n{name}"]
    if re.search(r",[0-9]{3}(?![0-9])", digits):
        digits = digits.replace(",", "")
    value = float(digits.replace(",", "."))
    unit = (match[f"u{name}"] or "").lower()
    return round(value / 100, 4) if unit in _SMALL else value


def has_currency(match: re.Match[str], *names: str) -> bool:
    """Whether one of the amounts is marked as money."""
    return any(match[f"s{name}"] or match[f"u{name}"] for name in names)


# --- the other kinds --------------------------------------------------------------------------------------

_NOT_YET = r"(?:haven'?t|have not|hadn'?t|never|didn'?t|don'?t|do not)(?: yet)?(?: ever)?"
_HAD = r"(?:bought|buy|had|have|got|tried|try|ordered|order|owned|own|seen|purchased|chosen)"
NEW = re.compile(
    rf"\b(?:(?:something|anything|things?|stuff|all|totally|completely|brand) )*new (?:for|to) me\b"
    rf"|\b(?:something|anything|things?)(?: (?:totally|completely|entirely|brand))? new\b|\bnew things\b"
    rf"|\b(?:(?:that|which|what|something|anything|things?) )*i(?:'ve| have)? ?{_NOT_YET} {_HAD}"
    r"(?: (?:it|them|one))?(?: (?:yet|before|already|so far|until now))?\b"
    rf"|\b(?:not|never) (?:yet )?{_HAD}(?: (?:yet|before|already|so far))\b"
    r"|\b(?:nothing|not|except|without)(?: (?:what|things?|the things?|anything|ones?))?(?: that)?"
    rf" i(?:'ve| have)?(?: already)? {_HAD}(?: (?:before|already))?\b"
    r"|\b(?:for the )?first time(?: for me)?\b|\bunknown to me\b|\bno repeats\b",
    re.IGNORECASE,
)
_SEASON_NAMES = "|".join(f"(?P<{name}>{season.pattern})" for name, season in SEASONS.items())
SEASON = re.compile(
    r"\b(?P<not>(?:not|no|non|nothing|without|except|but)[ -](?:for |about )?)?"
    r"(?:(?:for|at|before|on|in time for|ahead of|to celebrate|suitable for|fit for) )?"
    rf"(?:this |the |next |coming )*(?:{_SEASON_NAMES})(?:'?s)?"
    r"(?: (?:day|eve|season|time|gifts?|presents?|shopping))*\b",
    re.IGNORECASE,
)
LIKE = re.compile(
    r"(?<!would )(?<!'d )(?<!\bid )(?<!you )(?<!\bdo )(?<!\bi )(?<!\bto )"
    r"\b(?:(?:something|anything|things?|more|just|much|one|ones|a bit|rather) )*"
    r"(?:like|similar to|resembling|akin to|in the (?:style|manner|spirit) of|reminiscent of"
    r"|along the lines of|comparable to|close to"
    r"|(?:(?:that|which|to|will|would) )*go(?:es|ing)? (?:well )?with"
    r"|to match|matching|related to|the same (?:kind|sort) as)\b",
    re.IGNORECASE,
)
IDIOM = re.compile(
    r"\b(?:not sure(?: what)?|no idea|no matter(?: what)?|no worries|no preference|why not|or not|not only"
    r"|not just|no problem|not really|if not|not fussy|not picky|no rush)\b",
    re.IGNORECASE,
)
NEGATION = re.compile(
    r"\b(?:(?:please )?(?:do not|don'?t|dont) (?:want|like|need|show me|show|give me|care for|recommend)"
    r"|hate|dislike|avoid(?:ing)?|skip|leave out|anything but|anything except|all but|everything but"
    r"|other than|apart from|rather than|instead of|excluding|exclude|minus|none of|enough|tired of"
    r"|fed up with|sick of|no more|not|no|without|except(?: for)?|nothing|nor|never|but no)"
    r"(?: (?:any|anything|another|more|things?|stuff))*\b",
    re.IGNORECASE,
)
_END_OF_OBJECT = """
but that which please just something anything someone somebody instead although though because if when i
we you only maybe perhaps under over below above
"""
_FILLERS = """
want wants wanted buy buying recommend recommendation recommendations suggest suggestion suggestions find
search searching price priced prices pay paying spend spending cost costs costing budget money each per
apiece piece kind sort type types made featuring having containing about around related themed theme hello
hi hey thanks thank yes ok okay like d ll ve re really maybe perhaps bit also too else other more only all
now today again yet already before ever who when where how may might should must shall am she he him her
his hers mine ours theirs somebody someone interested interest interests after few many much most lots lot
various browse see seeing pick picks choose choice range way go going know think feel fancy under over
between or word words named called keep limit whose while given having being
"""
_SOFT = """
gift present idea good nice cheap cheaper cheapest expensive best better great beautiful pretty lovely
cute cool useful popular trendy usual favourite favorite quality fun special different similar
"""
END_OF_OBJECT = frozenset(_END_OF_OBJECT.split())
"""Words that end what a negation or a likeness is about."""
POSITIVE_AFTER_AND = frozenset(
    {
        "a",
        "an",
        "some",
        "something",
        "for",
        "with",
        "only",
        "in",
        "from",
        "maybe",
        "anything",
        "perhaps",
        "my",
    }
)
"""After "and", these begin a wish of its own: "no mugs and something for the garden"."""
CATEGORY_BEFORE = frozenset({"from", "in", "category", "section", "aisle", "department", "range", "within"})
CATEGORY_AFTER = frozenset(
    {
        "category",
        "section",
        "aisle",
        "department",
        "range",
        "shelf",
        "genre",
        "film",
        "films",
        "movie",
        "movies",
    }
)
FILLERS = frozenset(_FILLERS.split())
"""Words that say nothing about items; dropped."""
SOFT = frozenset(_SOFT.split())
"""Stems that say what is wanted but not which word an item must have: the model's part."""
