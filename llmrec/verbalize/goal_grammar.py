"""The phrases of goals: what is to happen, which sort of items, and how much a part matters; used by `parse`.

Regular expressions over lower-case text with straight apostrophes. Names that the data gives (event types,
attributes, columns of the events) are looked up in the `Lexicon`, never written here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmrec.verbalize.grammar import NEGATION

_SOME = r"(?:(?:something|anything|things?|items?|some|ones?) (?:(?:that|which) (?:is|are) )?)*"
_THING = r"(?: (?:things?|items?|ones?|stuff|finds?|products?))?"
_HAD = (
    r"(?:bought|buy|had|have|got|tried|try|ordered|order|owned|own|seen|see|watched|watch|read|used|use"
    r"|purchased|chosen|liked|known|know|visited)"
)
_NEVER = r"(?:haven'?t|have not|hadn'?t|never|didn'?t|did not|don'?t|do not)(?: yet)?(?: ever)?"


def _phrases(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)


LONG_TAIL = _phrases(
    rf"{_SOME}(?:lesser|little)[- ]known{_THING}",
    rf"{_SOME}(?:obscure|niche){_THING}|a niche find",
    rf"{_SOME}(?:off the beaten (?:track|path)|under the radar)",
    r"(?:some )?hidden gems?",
    r"not (?:any of |one of )?(?:the )?(?:usual |big )?best-? ?sellers?",
    r"not (?:the )?(?:most |so |too |very )?(?:popular|mainstream)(?: (?:ones?|things?|items?))?",
    r"(?:nothing|not what)(?: that)? every(?:one|body)(?: else)? (?:has|buys|knows|wants|likes)",
    r"(?:away from|outside|out of|far from) the mainstream",
    rf"{_SOME}(?:(?:that|which) )?(?:only )?few (?:people )?(?:know|buy|have|see|like)(?: of| about)?",
    r"(?:from |in |out of )?the long tail",
    rf"{_SOME}(?:rarely|seldom) (?:bought|seen|chosen|found){_THING}",
)
_CATEGORY = r"(?:categor(?:y|ies)|sections?|departments?|genres?)"
_KIND = rf"(?:{_CATEGORY}|kinds?|sorts?|types?)(?: of (?:things?|items?|products?|stuff))?"
_SUCH = r"(?:an?|some|any|another|the)(?: (?!(?:new|different|unfamiliar|unknown|other)\b)\w+)?"
_OF = rf"{_SOME}(?:(?:from|in|of) )?"
NEW_CATEGORY = _phrases(
    rf"{_OF}{_SUCH} {_KIND} (?:(?:that|which) (?:is|are) )?"
    r"(?:new|unknown|unfamiliar) (?:to|for) me",
    rf"{_OF}{_SUCH} {_KIND} (?:(?:that|which) )?i(?:'ve| have)? ?{_NEVER}"
    rf" {_HAD}(?: (?:before|yet))?",
    rf"{_OF}(?:an?|some|any) (?:new|different|unfamiliar|unknown|other) {_KIND}"
    r" (?:(?:to|for) me|for once|than (?:usual|always|before))",
    rf"{_OF}(?:an?|some|any) (?:new|different|unfamiliar|unknown|other) {_CATEGORY}",
    rf"{_OF}(?:another|other) {_KIND} than (?:usual|always|before)",
    rf"(?:outside|beyond|away from)(?: of)?(?: all)? my (?:usual|normal|regular|known|own) {_KIND}",
)
FRESH = _phrases(
    rf"{_SOME}(?:newly|recently|freshly|just) (?:added|arrived|listed|released|launched){_THING}",
    r"(?:(?:new|recent|latest) )(?:arrivals?|additions?)",
    r"(?:(?:among|one of|some of|of) )?the (?:newest|latest)(?: (?:ones?|things?|items?|stuff))?",
    r"just in(?! (?:time|case|the|an?|my)\b)",
    r"(?:(?:something|anything|things?|what|that|which) )*(?:has |have )?(?:just )?(?:came|come) (?:in|out)"
    r"(?: (?:lately|recently|just now))",
    r"(?:(?:something|anything|things?|what|that|which) )*(?:has |have )?just (?:came|come) (?:in|out)",
    r"hot off the press",
)
_VERB = r"(?:buy|get|have|order|see|watch|read|use|hear|play|choose)"
SEEN_BEFORE = _phrases(
    rf"(?:to )?{_VERB} (?:it |them |one )?(?:again|once (?:more|again))",
    rf"(?:(?:something|anything|things?|ones?|what|that|which) )*i(?:'ve| have)? (?:already )?{_HAD}"
    r" (?:before|already|in the past|last time)",
    rf"(?:(?:something|anything|things?|ones?|what|that|which) )+i(?:'ve| have)? already {_HAD}",
    r"(?:a )?repeat (?:of what i (?:had|have|bought|know|liked)|orders?|purchases?)",
    r"(?:(?:something|anything|things?) )*from my (?:history|past(?: purchases)?)",
    r"(?:(?:one|some) of )?my (?:(?:old|usual|regular) )+(?:things|ones|favou?rites?)",
    r"(?:(?:one|some) of )my favou?rites",
    r"the same (?:again|as (?:before|always|usual|last time))",
    r"re-?(?:order|stock|purchase)",
)
_LIST = r"(?:lists?|mix(?:ture)?|selection|assortment|range|choice|variety)"
_OF_THINGS = r"(?: of (?:different )?(?:things|items|kinds|everything))?"
DIVERSE = _phrases(
    rf"(?:an? |some )?(?:very |quite |more )?(?:varied|diverse)(?: {_LIST})?{_OF_THINGS}",
    rf"(?:an? |some )?(?:wide|broad|colou?rful) {_LIST}{_OF_THINGS}",
    r"(?:a )?(?:good )?mix(?:ture)? of (?:different )?(?:things|items|kinds)",
    r"as (?:varied|diverse|different) as possible",
    r"all different from (?:each other|one another)",
    r"(?:some|more) variety",
    r"(?:a (?:little )?)?bit of everything",
    r"not all (?:of )?the same(?: (?:kind|sort|type|thing))?",
    r"no two (?:alike|the same)",
)
PRICE_LOW = _phrases(
    rf"{_SOME}(?:cheap|inexpensive|affordable|(?:low|budget|bargain)-? ?priced){_THING}",
    rf"{_SOME}(?:at|for) (?:a |the )?(?:low(?:est)?|small) prices?|for little money",
    rf"{_SOME}(?:at|on|from) the (?:cheap(?:er)?|low(?:er)?) (?:end|side)",
    rf"{_SOME}easy on the (?:wallet|purse|pocket)",
    rf"{_SOME}(?:(?:that|which) )?(?:does not|doesn't|do not|don't) cost (?:much|a lot|too much)",
)
PRICE_HIGH = _phrases(
    rf"{_SOME}(?:premium|expensive|luxury|luxurious|upmarket|upscale|high-? ?(?:end|priced)){_THING}",
    rf"{_SOME}(?:at|for) (?:a |the )?(?:high(?:est)?) prices?",
    rf"{_SOME}(?:at|on) the (?:expensive|high(?:er)?|dear(?:er)?) (?:end|side)",
    rf"{_SOME}(?:from |in )?the (?:upper|top) price range",
    r"top of the range",
    rf"{_SOME}(?:(?:that|which) )?costs? a lot",
)
_NUMBER = r"(?P<value>-?[0-9]{1,9}(?:\.[0-9]{1,6})?)(?![\w.]*[0-9])"
_LEAST = r"(?:at least|no less than|not less than|not under|from|above|over|more than|>=?|≥)"
_UP = r"(?:(?:or|and) (?:more|better|higher|above|up)|upwards?)"
MIN_VALUE = _phrases(
    r"(?:(?:that|which|something|things?|what) )*i(?:'ll|'d| will| would)? (?:rate|give|score)(?: it| them)?"
    rf"(?: {_LEAST})? {_NUMBER}(?: (?:stars?|points?))?(?: {_UP})?",
    r"(?:with )?(?:(?:an?|the) )?(?:rated|ratings?|scored?|scoring|valued?)(?: of| is| be)?"
    rf"(?:(?: {_LEAST}) {_NUMBER.replace('value', 'value_least')}(?: (?:stars?|points?))?"
    rf"| {_NUMBER.replace('value', 'value_up')}(?: (?:stars?|points?))? {_UP})",
)
STRONGER, WEAKER = 2.0, 0.5
"""The weights that words can give a part; a part without such words weighs 1."""
EMPHASIS = {
    STRONGER: _phrases(
        "above all|above everything|most of all|most importantly|especially|first and foremost|in particular"
        "|what matters most(?: is)?:?|crucially|more than all else|primarily|particularly|essentially"
    ),
    WEAKER: _phrases(
        "(?:only )?(?:if|where|when) (?:at all )?possible|ideally|preferably|if you can|as far as possible"
        "|all else equal|optionally|if it can be managed|by preference|if it can be"
    ),
}
NEGATED = re.compile(
    rf"{NEGATION.pattern}(?: (?:with|from|in|of|whose|where|the|an?|too|so|very|that|which|is|are|has|have))*"
    r"[\s\"“(]*$",
    re.IGNORECASE,
)
"""A negation that ends a text: what follows the text is ruled out."""
SCENARIO_LEADS = re.compile(
    r"(?<!\w)(?:for|in|on|at|when|while|given|as|my|now that)\s+(?:the\s+|my\s+)?[\"“(]?\s*$", re.IGNORECASE
)
"""What tells a column of the events from an attribute of the same name."""
CONNECT = re.compile(
    r"\s*(?:(?:should be|must be|equal to|equals|is|are|being|of|=|:)(?!\w)\s*)?[\"“]?", re.IGNORECASE
)
"""What stands between a name and its value."""
ARTICLE = re.compile(r"(?:the|an?)\s+[\"“]?", re.IGNORECASE)
NOT = re.compile(r"not\s+[\"“]?", re.IGNORECASE)
_DIGITS = r"-?[0-9]{1,12}(?:\.[0-9]{1,6})?"
RANGE = re.compile(
    rf"(?:(?:between|from)\s+)?(?P<low>{_DIGITS})(?:[-–]|\s+(?:to|and|until)\s+)(?P<high>{_DIGITS})(?![\w.]*[0-9])",
    re.IGNORECASE,
)
SINGLE = re.compile(rf"(?P<low>{_DIGITS})(?![\w]|[.,][0-9])")
DECADE = _phrases(
    r"(?:(?:(?:something|anything|things?|made|released|out) )*(?:from|of|in|during) )?(?:the )?"
    r"(?P<decade>(?:1[0-9]|20)[0-9]0)'?s"
)


def event_pattern(types: Sequence[str]) -> re.Pattern[str] | None:
    """Finds what is to happen: "to TYPE", "that I will TYPE", "for my next TYPE"; None without types.

    The group `type` is one of `types` as it was written, white space and underscores alike.
    """
    names = [
        r"[\s_]+".join(map(re.escape, re.split(r"[\s_]+", name)))
        for name in sorted(types, key=len, reverse=True)
    ]
    if not names:
        return None
    return _phrases(
        r"(?:(?:something|anything|things?|items?|what|ones?) )*(?:(?:that|which) )?"
        r"(?:i(?:'ll| will| might| may| shall)|i(?:'m| am) (?:going|likely|about) to"
        r"|(?<!similar )(?<!close )to|(?:(?:for|as) )?my next|(?:for|as) (?:the|an?) next|next) "
        rf"(?P<type>{'|'.join(names)})(?: next)?(?P<again> (?:once )?again| once more)?"
    )
