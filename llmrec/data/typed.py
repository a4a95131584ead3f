"""Staged text to typed tables, and the faults of every row as bits of one number.

Tables made here, one row for each staged row:

    items    _file, _row, id, title, text, price, categories (list), a0, a1, ..., faults, ix
    users    _file, _row, id, a0, a1, ..., faults
    events   _file, _row, user, item (catalogue index), time (seconds), type, value, rank, s0, s1, ..., faults

`ix` is the item's index in the catalogue: usable items that are kept, in the order of their ids; null for
the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmrec.data.description import AttributeColumn
from llmrec.data.sources import literal
from llmrec.data.staging import Staging

EARLIEST = 31_536_000
"""1971-01-01: earlier times are zeros, or numbers of another kind read as seconds."""
LATEST = 4_102_444_800
"""2100-01-01: later times are milliseconds read as seconds, or mistakes."""

BLANKS = literal(" \t\r\n\u00a0")


@dataclass(frozen=True, slots=True)
class Check:
    """A kind of fault: `column` is the mapping's key, `source` the column it is mapped to."""

    table: str
    kind: str
    column: str
    source: str
    predicate: str
    error: bool = True


def make_tables(staging: Staging) -> list[Check]:
    """Create the typed tables; return the checks, whose bits in `faults` are their order in each table."""
    _macros(staging)
    checks = _items(staging)
    if staging.dataset.description.users is not None:
        checks += _users(staging)
    return checks + _events(staging)


def error_mask(checks: list[Check], table: str) -> int:
    """The bits of `faults` that make a row of `table` unusable."""
    return sum(1 << bit for bit, check in enumerate(of_table(checks, table)) if check.error)


def of_table(checks: list[Check], table: str) -> list[Check]:
    """The checks of one table, in the order of their bits."""
    return [check for check in checks if check.table == table]


def _macros(staging: Staging) -> None:
    for macro in (
        f"clean(x) AS nullif(trim(x, {BLANKS}), '')",
        "listed(x) AS starts_with(x, '[') AND json_valid(x)",
        # The strings in a JSON list, and in the lists inside it (Amazon's paths of categories).
        "leaves(x) AS list_concat(list_transform(list_filter(json_extract(x, '$[*]'), "
        "lambda e: json_type(e) <> 'ARRAY'), lambda e: e ->> '$'), json_extract_string(x, '$[*][*]'))",
        "tidy(l) AS list_filter(list_transform(l, lambda e: clean(e)), lambda e: e IS NOT NULL)",
        "once(l) AS list_filter(l, lambda e, i: list_position(l, e) = i)",
        "words(x) AS CASE WHEN listed(x) THEN array_to_string(tidy(leaves(x)), ' ') ELSE clean(x) END",
    ):
        staging.connection.execute(f"CREATE MACRO {macro}")


def _create(staging: Staging, table: str, select: str, checks: list[Check], more: str = "") -> None:
    bits = " | ".join(
        f"(CAST(coalesce({c.predicate}, false) AS UINTEGER) << {n})" for n, c in enumerate(checks)
    )
    staging.connection.execute(
        f"CREATE TABLE {table} AS SELECT *, {bits or '0::UINTEGER'} AS faults{more} FROM ({select}) "
    )


def _attributes(
    staging: Staging, table: str, attributes: Mapping[str, AttributeColumn]
) -> tuple[str, list[Check]]:
    """SQL for the columns a0, a1, ... of a table, and the checks of those that are numbers."""
    parts, checks = [], []
    for position, (name, attribute) in enumerate(attributes.items()):
        raw = staging.raw(table, attribute.column)
        if attribute.type == "number":
            parts.append(f", clean({raw}) AS t{position}, try_cast(clean({raw}) AS DOUBLE) AS a{position}")
            predicate = f"t{position} IS NOT NULL AND (a{position} IS NULL OR NOT isfinite(a{position}))"
            checks.append(Check(table, "attribute not a number", name, attribute.column, predicate))
        else:
            parts.append(f", words({raw}) AS a{position}")
    return "".join(parts), checks


def _items(staging: Staging) -> list[Check]:
    table = staging.dataset.description.items.columns
    identity = staging.raw("items", table.id.column)
    title = f"clean({staging.raw('items', table.title.column)})" if table.title else "NULL::VARCHAR"
    price = f"clean({staging.raw('items', table.price.column)})" if table.price else "NULL::VARCHAR"
    attributes, more_checks = _attributes(staging, "items", table.attributes)
    checks = [
        Check("items", "missing id", "id", table.id.column, "id IS NULL"),
        Check("items", "duplicate item", "id", table.id.column, "id IS NOT NULL AND turn > 1"),
    ]
    if table.title is not None:
        empty = Check("items", "empty title", "title", table.title.column, "name IS NULL", error=False)
        checks.append(empty)
    if table.price is not None:
        column = table.price.column
        checks += [
            Check("items", "price not a number", "price", column, "price_text IS NOT NULL AND price IS NULL"),
            Check("items", "price not finite", "price", column, "price IS NOT NULL AND NOT isfinite(price)"),
            Check("items", "negative price", "price", column, "isfinite(price) AND price < 0"),
        ]
    checks += more_checks
    others = [name for name in table.text if table.title is None or name != table.title.column]
    words = "".join(f", words({staging.raw('items', name)})" for name in others)
    select = (
        f"SELECT *, coalesce(name, id) AS title, "
        f"coalesce(nullif(concat_ws(E'\\n', name{words}), ''), id) AS text "
        f"FROM (SELECT *, clean({identity}) AS id, {title} AS name, {price} AS price_text, "
        f"try_cast({price} AS DOUBLE) AS price, {_categories(staging)} AS categories{attributes}, "
        f"row_number() OVER (PARTITION BY clean({identity}) ORDER BY _file, _row) AS turn FROM raw_items)"
    )
    _create(staging, "items_checked", select, checks)
    usable = f"faults & {error_mask(checks, 'items')} = 0"
    if staging.dataset.description.items.keep == "with-events":
        named = staging.raw("events", staging.dataset.description.events.columns.item.column)
        usable += f" AND id IN (SELECT clean({named}) FROM raw_events)"
    staging.connection.execute(
        "CREATE TABLE items AS SELECT c.*, i.ix FROM items_checked c LEFT JOIN (SELECT _file, _row, "
        "CAST(row_number() OVER (ORDER BY id) - 1 AS INTEGER) AS ix "
        f"FROM items_checked WHERE {usable}) i USING (_file, _row)"
    )
    staging.connection.execute("DROP TABLE items_checked")
    return checks


def _categories(staging: Staging) -> str:
    column = staging.dataset.description.items.columns.categories
    if column is None:
        return "CAST([] AS VARCHAR[])"
    raw = staging.raw("items", column.column)
    whole = f"string_split({raw}, {literal(column.separator)})" if column.separator else f"[{raw}]"
    return f"coalesce(once(tidy(CASE WHEN listed({raw}) THEN leaves({raw}) ELSE {whole} END)), [])"


def _users(staging: Staging) -> list[Check]:
    table = staging.dataset.description.users
    assert table is not None
    identity = staging.raw("users", table.columns.id.column)
    attributes, more = _attributes(staging, "users", table.columns.attributes)
    checks = [
        Check("users", "missing id", "id", table.columns.id.column, "id IS NULL"),
        Check("users", "duplicate user", "id", table.columns.id.column, "id IS NOT NULL AND turn > 1"),
        *more,
    ]
    select = (
        f"SELECT *, clean({identity}) AS id{attributes}, "
        f"row_number() OVER (PARTITION BY clean({identity}) ORDER BY _file, _row) AS turn FROM raw_users"
    )
    _create(staging, "users", select, checks)
    return checks


def _events(staging: Staging) -> list[Check]:
    events = staging.dataset.description.events
    columns = events.columns
    kind = (
        f"clean({staging.raw('events', columns.type.column)})"
        if columns.type
        else literal(events.type or "event")
    )
    parts = {
        "user": f"clean({staging.raw('events', columns.user.column)})",
        "name": f"clean({staging.raw('events', columns.item.column)})",
        "type": kind,
    }
    checks = [
        Check("events", "missing user", "user", columns.user.column, "user IS NULL"),
        Check("events", "missing item", "item", columns.item.column, "name IS NULL"),
        Check("events", "unknown item", "item", columns.item.column, "name IS NOT NULL AND known IS NULL"),
        Check(
            "events", "item with errors", "item", columns.item.column, "known IS NOT NULL AND item IS NULL"
        ),
    ]
    if columns.type is not None:
        checks.append(Check("events", "missing type", "type", columns.type.column, "type IS NULL"))
    if columns.time is not None:
        raw = f"clean({staging.raw('events', columns.time.column)})"
        staging.time_format = columns.time.format if columns.time.format != "auto" else _decide(staging, raw)
        parts |= {"time_text": raw, "time": seconds(raw, staging.time_format)}
        unreadable, strange = (
            "time_text IS NOT NULL AND time IS NULL",
            f"time < {EARLIEST} OR time >= {LATEST}",
        )
        checks.append(Check("events", "time not readable", "time", columns.time.column, unreadable))
        checks.append(Check("events", "impossible time", "time", columns.time.column, strange))
    if columns.value is not None:
        raw = f"clean({staging.raw('events', columns.value.column)})"
        parts |= {"value_text": raw, "value": f"try_cast({raw} AS FLOAT)"}
        unusable = "value_text IS NOT NULL AND (value IS NULL OR NOT isfinite(value))"
        checks.append(Check("events", "value not a number", "value", columns.value.column, unusable))
    if columns.order is not None:
        parts["rank"] = f"try_cast(clean({staging.raw('events', columns.order.column)}) AS DOUBLE)"
        unusable = "rank IS NULL OR NOT isfinite(rank)"
        checks.append(Check("events", "order not a number", "order", columns.order.column, unusable))
    for absent, sql in (("time", "NULL::BIGINT"), ("value", "NULL::FLOAT"), ("rank", "NULL::DOUBLE")):
        parts.setdefault(absent, sql)
    scenarios = [f"s{position}" for position in range(len(columns.scenarios))]
    for name, column in zip(scenarios, columns.scenarios.values(), strict=True):
        parts[name] = f"clean({staging.raw('events', column.column)})"
    select = ", ".join(f'{sql} AS "{part}"' for part, sql in parts.items())
    staging.connection.execute(
        "CREATE TABLE item_index AS SELECT id AS known, max(ix) AS item FROM items "
        "WHERE id IS NOT NULL GROUP BY id"
    )
    bits = " | ".join(
        f"(CAST(coalesce({c.predicate}, false) AS UINTEGER) << {n})" for n, c in enumerate(checks)
    )
    staging.connection.execute(
        f'CREATE TABLE events AS SELECT _file, _row, "user", item, "time", "type", "value", "rank", '
        f"{''.join(name + ', ' for name in scenarios)}{bits} AS faults "
        f"FROM (SELECT _file, _row, {select} FROM raw_events) "
        "LEFT JOIN item_index ON name = known"
    )
    return checks


def _decide(staging: Staging, raw: str) -> str:
    """How a column of times is written: what most of its rows read as."""
    numbers, large, moments = staging.rows(
        f"SELECT count(try_cast(t AS DOUBLE)), count(*) FILTER (abs(try_cast(t AS DOUBLE)) >= 1e11), "
        f"count(try_cast(t AS TIMESTAMPTZ)) FROM (SELECT {raw} AS t FROM raw_events)"
    )[0]
    if numbers and numbers >= moments:
        return "unix-ms" if large * 2 > numbers else "unix"
    return "iso"


def seconds(text: str, form: str) -> str:
    """SQL for whole seconds since 1970 UTC of a text expression; null where it cannot be read."""
    if form in ("unix", "unix-ms"):
        number = f"try_cast({text} AS DOUBLE)"
        return f"try_cast(floor({number}{' / 1000' if form == 'unix-ms' else ''}) AS BIGINT)"
    moment = f"try_cast({text} AS TIMESTAMPTZ)" if form == "iso" else f"try_strptime({text}, {literal(form)})"
    return f"try_cast(floor(epoch({moment})) AS BIGINT)"
