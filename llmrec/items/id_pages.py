"""The quality and the picture of item IDs as Markdown that also reads well in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llmrec.items.id_crowding import Crowding
from llmrec.items.id_picture import CodeMeaning
from llmrec.items.id_quality import IdQuality
from llmrec.items.quantise.settings import said

_MARKUP = re.compile(r"([\\`*_\[\]()<>#|~!&:])")


def quality_page(quality: IdQuality) -> str:
    """report.md of item IDs."""
    resolved = {
        "relocate": "got the nearest free code",
        "token": "are told apart by a last token",
    }[quality.collisions]
    levels = [
        (level + 1, use.size, use.used, f"{use.used / use.size:.1%}", f"{use.entropy:.2f}",
         f"{use.perplexity:.1f}", use.largest)
        for level, use in enumerate(quality.use)
    ]  # fmt: skip
    nearer = (
        " An extra distance below 0: what they wanted is farther. Codes are chosen level by level, by the "
        "balanced quantiser for equal shares: a choice need not be the nearest."
    )
    header = ("level", "codes", "used", "share used", "entropy, bits", "perplexity", "items of the largest")
    held = sorted(quality.items_per_code.items())
    return "\n".join(
        (
            f"# Item IDs: {quality.quantiser}, levels {said(quality.sizes)}, generation {quality.generation}",
            "",
            table(("figure", "value"), _figures(quality)),
            "",
            f"Items that wanted the same codes {resolved}. Neighbours kept: of an item's 10 nearest by "
            "vector, those among the 10 that share the most first codes with it, ties shared out."
            f"{nearer if (quality.extra or 0) < 0 else ''}",
            "",
            table(header, levels),
            "",
            table(("items that wanted one code", "codes"), held),
            "",
        )
    )


def _figures(quality: IdQuality) -> list[tuple[str, str]]:
    sample = f" (of {quality.sampled:,} items)" if 0 < quality.sampled < quality.items else ""
    return [
        ("items", f"{quality.items:,}"),
        ("different codes wanted", f"{quality.distinct:,}"),
        ("items that wanted the codes of another", f"{quality.colliding:.2%}"),
        ("items that got other codes", f"{quality.relocated:.2%}"),
        ("... and another prefix", f"{quality.left_prefix:.2%}"),
        ("extra distance of those, in mean distances", _share(quality.extra)),
        ("reconstruction error", _share(quality.reconstruction_error)),
        (f"neighbours kept{sample}", _share(quality.neighbours_kept)),
        (f"first code kept{sample}", _share(quality.first_code_kept)),
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def crowding_page(crowded: Crowding) -> str:
    """How new items fared, where there are any, and whether it is time for new IDs."""
    if not crowded.added:
        return crowded.sentence
    extra = crowded.extra / crowded.distance if crowded.distance > 0 else None
    figures = [
        ("new items", f"{crowded.added:,}"),
        ("... that got a farther code", f"{crowded.farther:.2%}"),
        ("... and of the first items", f"{crowded.farther_built:.2%}"),
        ("extra distance of the new ones, in mean distances", _share(extra)),
        ("new items that got another prefix", f"{crowded.left_prefix:.2%}"),
        ("free IDs near a new item, median", f"{crowded.free_near:,.1f}"),
        ("new items with no free ID near", f"{crowded.full_near:.2%}"),
        ("free IDs", f"{crowded.free:,}"),
    ]
    return f"{table(('figure', 'value'), figures)}\n\n{crowded.sentence}"


def picture_page(meanings: Sequence[CodeMeaning]) -> str:
    """codes.md: what the first-level codes mean. Words and titles are escaped: they can be no markup."""
    rows = (
        (each.code, each.items, escaped(", ".join(each.words)), " / ".join(map(escaped, each.titles)))
        for each in meanings
    )
    page = table(("code", "items", "typical words", "nearest titles"), rows, left=(2, 3))
    return f"# What the first codes mean\n\n{page}\n"


def escaped(text: str) -> str:
    """Text as Markdown shows it letter by letter; it must be one line."""
    return _MARKUP.sub(r"\\\1", text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], left: Sequence[int] = ()) -> str:
    """A Markdown table of safe cells; the first column and those in `left` begin at the left."""
    marks = ["---" if at in (0, *left) else "---:" for at in range(len(header))]
    lines = [list(header), marks, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
