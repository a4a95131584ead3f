"""The card of a prepared dataset: its statistics, as JSON and as a page to read."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from llmrec.data.prepared import FOLDS
from llmrec.data.sources import connect, identifier, literal
from llmrec.data.splits import SHORTEST

COMMON = 5
"""Values of a scenario column that the card names, the most frequent ones."""


def make_card(directory: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics of the Parquet files in `directory`, which has no manifest on disk yet."""
    with connect(":memory:") as connection:
        connection.execute(f"SET temp_directory = {literal(str(directory / 'spill'))}")
        for name in ("items", "users", "events"):
            path = literal(str(directory / f"{name}.parquet"))
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet({path})")
        users, items, events = (
            _one(connection, f"SELECT count(*) FROM {t}")[0] for t in ("users", "items", "events")
        )
        card: dict[str, Any] = {
            "name": manifest["name"],
            "users": users,
            "items": items,
            "events": events,
            "density": events / (users * items),
            **_events(connection, manifest["event_types"]),
            "scenarios": {
                name: _scenario(connection, name, values) for name, values in manifest["scenarios"].items()
            },
            **_items(connection, manifest.get("currency")),
        }
    card["splits"] = {name: _folds(directory / "splits" / f"{name}.parquet") for name in manifest["splits"]}
    return card


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    return connection.execute(sql).fetchall()[0]


def _events(connection: duckdb.DuckDBPyConnection, types: list[str]) -> dict[str, Any]:
    counts = dict(connection.execute("SELECT type, count(*) FROM events GROUP BY type").fetchall())
    connection.execute("CREATE TEMP TABLE lengths AS SELECT count(*) AS n FROM events GROUP BY user")
    low, middle, mean, high, short = _one(
        connection, f"SELECT min(n), median(n), avg(n), max(n), count(*) FILTER (n < {SHORTEST}) FROM lengths"
    )
    pairs = _one(connection, "SELECT count(*) FROM (SELECT DISTINCT user, item FROM events)")[0]
    total, known, first, last, used = _one(
        connection, "SELECT count(*), count(time), min(time), max(time), count(DISTINCT item) FROM events"
    )
    return {
        "event_types": {name: counts.get(number, 0) for number, name in enumerate(types)},
        "events_per_user": {"min": low, "median": middle, "mean": mean, "max": high},
        f"users_with_fewer_than_{SHORTEST}_events": short,
        "items_with_events": used,
        "repeat_share": (total - pairs) / total,
        "time": {"known_share": known / total, "first": _moment(first), "last": _moment(last)},
    }


def _scenario(connection: duckdb.DuckDBPyConnection, name: str, values: list[str]) -> dict[str, Any]:
    column = identifier(f"scenario_{name}")
    counts = connection.execute(
        f"SELECT {column}, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    total = sum(count for _, count in counts)
    known = {values[code]: count for code, count in counts if code is not None}
    return {
        "values": len(values),
        "known_share": sum(known.values()) / total,
        "most": dict(list(known.items())[:COMMON]),
    }


def _moment(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _items(connection: duckdb.DuckDBPyConnection, currency: str | None) -> dict[str, Any]:
    titled, priced, sorted_, worded = _one(
        connection,
        "SELECT avg((title <> id)::INTEGER), avg((price IS NOT NULL)::INTEGER), "
        "avg((len(categories) > 0)::INTEGER), avg(length(text)) FROM items",
    )
    points = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
    prices = _one(connection, f"SELECT quantile_cont(price, {list(points)}) FROM items")[0]
    return {
        "items_with_title_share": titled,
        "items_with_price_share": priced,
        "items_with_category_share": sorted_,
        "mean_text_characters": worded,
        "currency": currency,
        "price_quantiles": {str(point): price for point, price in zip(points, prices or [], strict=False)},
    }


def _folds(path: Path) -> dict[str, int]:
    folds = pq.read_table(path).column("fold").to_numpy()
    counts = np.bincount(folds, minlength=len(FOLDS))  # a split may leave events out: in no fold
    return {name: int(counts[place]) for place, name in enumerate(FOLDS)}


def card_page(card: Mapping[str, Any], dropped: Mapping[str, int], warnings: Mapping[str, int]) -> str:
    """The card as Markdown."""
    per_user, time = card["events_per_user"], card["time"]
    rows = [
        ("users", f"{card['users']:,}"),
        ("items", f"{card['items']:,} ({card['items_with_events']:,} with events)"),
        ("events", f"{card['events']:,}"),
        ("event types", ", ".join(f"{name} {count:,}" for name, count in card["event_types"].items())),
        (
            "events per user",
            f"{per_user['min']} to {per_user['max']:,}, "
            f"median {per_user['median']:g}, mean {per_user['mean']:.2f}",
        ),
        (
            f"users with fewer than {SHORTEST} events (train only)",
            f"{card[f'users_with_fewer_than_{SHORTEST}_events']:,}",
        ),
        ("density", f"{card['density']:.4%}"),
        ("repeats (the user had the item before)", f"{card['repeat_share']:.1%}"),
        ("time", f"{time['first']} to {time['last']} UTC" if time["first"] else "unknown"),
        ("events with a time", f"{time['known_share']:.1%}"),
        ("items with a title", f"{card['items_with_title_share']:.1%}"),
        ("items with a price", f"{card['items_with_price_share']:.1%}"),
        ("items with a category", f"{card['items_with_category_share']:.1%}"),
    ]
    for name, scenario in card["scenarios"].items():
        most = ", ".join(f"{value} {count:,}" for value, count in scenario["most"].items())
        shown = f"{scenario['values']:,} values, {scenario['known_share']:.1%} known: {most}"
        rows.append((f"scenario {name}", shown))
    if quantiles := card["price_quantiles"]:
        shown = ", ".join(f"{float(point):.0%} {price:.2f}" for point, price in quantiles.items())
        rows.append((f"price quantiles {card['currency'] or ''}".strip(), shown))
    for name, folds in card["splits"].items():
        rows.append((f"split {name}", ", ".join(f"{fold} {count:,}" for fold, count in folds.items())))
    rows += [(name.replace("_", " "), f"{n:,}") for name, n in card["counts"].items() if "_" in name and n]
    rows += [(f"dropped: {what}", f"{count:,}") for what, count in dropped.items()]
    rows += [(f"noted: {what}", f"{count:,}") for what, count in warnings.items()]
    body = "\n".join(f"| {_cell(what)} | {_cell(value)} |" for what, value in rows)
    return f"# {_cell(card['name'])}\n\n| | |\n|---|---|\n{body}\n"


def _cell(text: str) -> str:
    """Text from the data as one line that can neither end a cell nor command a terminal."""
    line = " ".join(text.split()).replace("|", "\\|")
    return "".join(character if character.isprintable() else "?" for character in line)
