"""Answers for people, as rich tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from llmrec.recommend import Answers


def answers_table(answers: Answers, who: str, say: str) -> RenderableType:
    """A table of the list, with what was enforced and what was left to the model under it."""
    title = f"For {who}" + (f': "{say}"' if say else "")
    table = Table(title=escape(title), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("item")
    table.add_column("title")
    table.add_column("price", justify="right")
    table.add_column("score", justify="right")
    because = any(answer.because for answer in answers.items)
    if because:
        table.add_column("weighed most (fall of log-probability without it)")
    for place, answer in enumerate(answers.items, start=1):
        price = "" if answer.price is None else f"{answer.price:.2f}"
        cells = [str(place), answer.item, answer.title, price, f"{answer.score:.2f}"]
        if because:
            cells.append("; ".join(f"{cause} ({fall:.2f})" for cause, fall in answer.because))
        table.add_row(*(Text(cell) for cell in cells))
    lines: list[RenderableType] = [table]
    for label, parts in (
        ("enforced", answers.enforced),
        ("left to the model", answers.left),
        ("note", answers.notes),
    ):
        if parts:
            lines.append(Text(f"  {label}: {'; '.join(parts)}"))
    return Group(*lines)
