"""What rows of an items file make of a catalogue: items that come, change or go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmrec.data.catalog import Catalog, Item, Value
from llmrec.data.item_rows import ItemRow, RowFaults
from llmrec.errors import DataError


def plan_added(path: Path, rows: list[ItemRow], catalog: Catalog, now: int) -> dict[str, Item]:
    """The items to add or to bring back, by id; `now` in seconds.

    Raises `RowsError` for items that are there already and not retired.
    """
    faults = RowFaults(path)
    for row in rows:
        if row.id in catalog and not catalog.retired[catalog.index(row.id)]:
            faults.add("in the catalogue already (use `llmrec items update`)", "id", row.row, row.id)
    faults.check(path)
    plan = {}
    for row in rows:
        item = Item(row.id, row.id, row.id, added=now)
        if row.id in catalog:
            item = replace(item, added=catalog[catalog.index(row.id)].added)
        plan[row.id] = _with(item, row.given)
    return plan


def plan_updated(path: Path, rows: list[ItemRow], catalog: Catalog) -> dict[str, Item]:
    """The items that change, by id. Raises `RowsError` for items that the catalogue does not have."""
    known = _known(path, rows, catalog, unless_retired=False)
    plan = {row.id: _with(catalog[index], row.given) for row, index in zip(rows, known, strict=True)}
    return {name: item for name, item in plan.items() if item != catalog[catalog.index(name)]}


def plan_retired(path: Path, rows: list[ItemRow], catalog: Catalog) -> dict[str, Item]:
    """The items to retire, by id. Raises `RowsError` for unknown and for retired items."""
    known = _known(path, rows, catalog, unless_retired=True)
    if int(catalog.retired.sum()) + len(rows) == len(catalog):
        raise DataError(f"{path} retires every item: at least one must stay")
    return {row.id: replace(catalog[index], retired=True) for row, index in zip(rows, known, strict=True)}


def _known(path: Path, rows: list[ItemRow], catalog: Catalog, unless_retired: bool) -> list[int]:
    faults = RowFaults(path)
    for row in rows:
        if row.id not in catalog:
            faults.add("not in the catalogue", "id", row.row, row.id)
        elif unless_retired and catalog.retired[catalog.index(row.id)]:
            faults.add("retired already", "id", row.row, row.id)
    faults.check(path)
    return catalog.indices([row.id for row in rows])


def _with(item: Item, given: Mapping[str, Any]) -> Item:
    """`item` with the fields that are given; its text is made as `llmrec prepare` makes it."""
    attributes: dict[str, Value] = {**item.attributes, **given.get("attributes", {})}
    return replace(
        item,
        title=(given["title"] or item.id) if "title" in given else item.title,
        text=_words(item, given) if given.keys() & {"title", "text"} else item.text,
        price=given.get("price", item.price),
        categories=given.get("categories", item.categories),
        attributes={name: value for name, value in attributes.items() if value is not None},
    )


def _words(item: Item, given: Mapping[str, Any]) -> str:
    """All words of an item: its title if it has one, then its text; its id if it has neither."""
    old_title = "" if item.title == item.id else item.title
    title = (given["title"] or "") if "title" in given else old_title
    rest = (given["text"] or "") if "text" in given else _behind(old_title or item.id, item.text)
    return "\n".join(part for part in (title, _behind(title, rest)) if part) or item.id


def _behind(title: str, text: str) -> str:
    """`text` without the line of the title before it."""
    if text == title:
        return ""
    return text.removeprefix(f"{title}\n") if title else text


def applied(catalog: Catalog, plan: Mapping[str, Item]) -> Catalog:
    """`catalog` with the items of a plan: known ids at their index, new ones at the end, in order."""
    items = [plan.get(item.id, item) for item in catalog.items]
    items += [item for name, item in plan.items() if name not in catalog]
    return Catalog(items, catalog.currency)
