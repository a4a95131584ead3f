"""report.md: the tables of a report for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_QUALITY = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")
_LISTS = ("coverage", "gini", "novelty", "setting", "seed", "fit", "answer")
_GROUP = ("dataset", "split", "fold", "filter_seen")


def _cell(value: Any) -> str:
    """A table cell: text cannot leave it."""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").strip() or " "


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the first column is text, the others are aligned right."""
    lines = [
        "| " + " | ".join(map(_cell, header)) + " |",
        "|---" + "|---:" * (len(header) - 1) + "|",
    ]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def figure(row: Mapping[str, Any], name: str) -> str:
    """A figure with half the width of its interval, such as 0.2375 ±0.0294; a dash when there is none."""
    if (value := row.get(name)) is None:
        return "–"
    digits = 2 if name == "novelty" else 4
    text = f"{value:.{digits}f}"
    if interval := row.get("intervals", {}).get(name):
        text += f" ±{(interval[1] - interval[0]) / 2:.{digits}f}"
    return text


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in _GROUP), []).append(row)
    return found


def _title(key: tuple[Any, ...], rows: Sequence[Mapping[str, Any]]) -> str:
    dataset, split, fold, filter_seen = key
    seen = "seen items left out" if filter_seen else "seen items allowed"
    users = sorted({row["users"] for row in rows})
    count = f"{users[0]:,}" if len(users) == 1 else f"{users[0]:,} to {users[-1]:,}"
    return f"{dataset}, {split}, {fold} fold, {seen}, {count} users"


def _shown(row: Mapping[str, Any], name: str) -> str:
    """A cell of the tables of models."""
    if name in ("fit", "answer"):
        return _duration(row.get("fit_seconds") if name == "fit" else row["seconds"])
    if name in ("model", "setting", "seed"):
        return str(row.get(name) or ("0" if name == "seed" else "–"))
    return figure(row, name)


def _models(key: tuple[Any, ...], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = [f"## {_title(key, rows)}"]
    for names in (_QUALITY, _LISTS):
        header = ("model", *names)
        parts.append(table(header, ([_shown(row, name) for name in header] for row in rows)))
    if key[-1] and (seen := max(row.get("targets_seen") or 0 for row in rows)):
        parts.append(f"{seen:,} targets are in their own history: with seen items left out they are misses.")
    return parts


def _wishes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ("honoured@10", "recall@10", "recall@10 without wish", "understood")
    header = ("model", "wish", "seen items", "enforced", *names, "users")
    lines = [
        (
            row["model"],
            row["objective"].partition(":")[2],
            "left out" if row["filter_seen"] else "allowed",
            "yes" if row.get("enforced") else "no",
            *(figure(row, name) for name in names),
            f"{row['users']:,}",
        )
        for row in rows
    ]
    note = (
        "A wish is derived from the held-out item and said in a wording that training never saw. "
        "honoured@10: share of the top 10 that satisfies it; recall@10 with the wish and, for the same "
        "users, without it."
    )
    return ["## Wishes in words", note, table(header, lines)]


def _goals(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ("ndcg@10", "recall@10", "mrr", "long_tail@10", "coverage", "honoured@10")
    header = ("model", "goal", "words", "seen items", *names, "questions")
    lines = [
        (
            row["model"],
            row["objective"].partition(":")[2],
            "enforced" if row.get("enforced") else "said" if row.get("said") else "–",
            "left out" if row["filter_seen"] else "allowed",
            *(figure(row, name) for name in names),
            f"{row['users']:,}",
        )
        for row in rows
    ]
    note = (
        "The target is each user's first event of the fold that answers the goal; the history is all that "
        "came before the fold. The goal is said in wordings that training never saw, and in rows that say so "
        "what filters can hold of it is enforced. long_tail@10: share of "
        "the top 10 outside the most popular items that together have half of the training events; "
        "honoured@10: share of the top 10 that is what the goal says of items."
    )
    return ["## Goals", note, table(header, lines)]


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    header = ("models", "metric", "seen items", "difference", "95% interval", "p")
    lines = [
        (
            f"{row['first']} − {row['second']}",
            row["metric"],
            "left out" if row["filter_seen"] else "allowed",
            f"{row['difference']:+.4f}",
            f"{row['low']:+.4f} to {row['high']:+.4f}",
            f"{row['p']:.3f}",
        )
        for row in rows
    ]
    return ["## Differences (paired bootstrap over users)", table(header, lines)]


def _environment(environment: Mapping[str, Any]) -> list[str]:
    parts = ["## Where it ran"]
    plain = {name: value for name, value in environment.items() if not isinstance(value, Mapping)}
    for name, value in (environment.get("versions") or {}).items():
        plain[name] = value
    parts.append(table(("what", "value"), plain.items()))
    if stages := environment.get("stages"):
        parts.append(table(("stage", "time"), [(name, _duration(took)) for name, took in stages.items()]))
    return parts


_NOTES = (
    "± is half the width of the 95% bootstrap interval over users (1,000 resamples). The whole catalogue "
    "is ranked; of equal scores the lower index comes first. mrr is cut at the end of the lists, place 100 "
    "(20 of lists that a model writes); coverage, gini and novelty are of the top 10. novelty: mean of "
    "-log2(share of train users who had the item), in bits."
)


def page(report: Mapping[str, Any]) -> str:
    """The text of report.md from the value of report.json."""
    plain = [row for row in report["rows"] if not row["objective"].startswith(("wish:", "goal:"))]
    goals = [row for row in report["rows"] if row["objective"].startswith("goal:")]
    wishes = [row for row in report["rows"] if row["objective"].startswith("wish:")]
    parts = ["# Report", _NOTES]
    for key, rows in _groups(plain).items():
        parts += _models(key, rows)
    if report.get("comparisons"):
        parts += _comparisons(report["comparisons"])
    if wishes:
        parts += _wishes(wishes)
    if goals:
        parts += _goals(goals)
    parts += _environment(report["environment"])
    return "\n\n".join(parts) + "\n"
