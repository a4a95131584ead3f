"""Answers for people, as rich tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmrec.decode.answers import Answer, Answers

_LIMIT = 120
"""Characters shown of a text that comes from outside."""
_LIGHT = 0.005
"""Causes that weigh less would read as 0.00 and are not shown."""


def answers_table(answers: Answers, who: str, say: str) -> RenderableType:
    """A table of the list, with what was enforced and what was left to the model under it."""
    title = f"For {who}" + (f': "{say}"' if say.strip() else "")
    heading = _text(title)
    heading.stylize("bold")
    table = Table()
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("title", overflow="fold")
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    wish = any(answer.wish for answer in answers.items)
    if wish:
        table.add_column("for", overflow="fold")
    because = any(answer.because for answer in answers.items)
    if because:
        table.add_column("weighed most", overflow="fold")
    for place, answer in enumerate(answers.items, start=1):
        price = "" if answer.price is None else f"{answer.price:.2f}"
        score = f"{answer.score:.3f}" if wish else f"{answer.score:.2f}"  # of a merged list a probability
        cells = [str(place), answer.item, answer.title, price, score]
        if wish:
            cells.append(answer.wish)
        if because:
            cells.append(_because(answer))
        table.add_row(*(_text(cell) for cell in cells))
    lines: list[RenderableType] = [heading, table]
    for label, parts in (
        ("enforced", answers.enforced),
        ("favoured", answers.favoured),
        ("left to the model", answers.left),
        ("note", answers.notes),
        ("weighed most", ("fall of log-probability without it",) if because else ()),
    ):
        if parts:
            lines.append(_text(f"  {label}: {'; '.join(parts)}", limit=4 * _LIMIT))
    return Group(*lines)


def _because(answer: Answer) -> str:
    heavy = [cause for cause in answer.because if cause.weight >= _LIGHT]
    return "; ".join(f"{cause.title or cause.item} ({cause.weight:.2f})" for cause in heavy)


def _text(text: str, limit: int = _LIMIT) -> Text:
    """`text` as it is, without what a terminal would obey, and cut to `limit` characters."""
    start = text[: limit + 1]
    shown = "".join(char if char.isprintable() else " " for char in start)
    return Text(shown if len(start) <= limit else f"{shown[:limit]}…")
