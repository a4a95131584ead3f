"""Changes of the catalogue: checked, logged in the store, made in the bundle, and then answered with."""

from __future__ import annotations

import itertools
import json
import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrec.change_items import Change, add_items, retire_items, update_items
from llmrec.data.catalog import Catalog
from llmrec.data.item_plans import plan_added, plan_retired, plan_updated
from llmrec.data.item_rows import RowsError, read_item_rows
from llmrec.errors import DataError
from llmrec.serving.live import Bundles, Live
from llmrec.serving.problems import Refused
from llmrec.serving.store.contract import ItemChange, LoggedChange, Store
from llmrec.versions import read_version

_LOG = logging.getLogger("llmrec.serving")
_FOUND = 3


class CatalogueChanges:
    """Makes changes one after the other in the newest version of the bundle that the service began with."""

    def __init__(self, bundles: Bundles, store: Store) -> None:
        self._bundles, self._store = bundles, store
        self._lock = threading.Lock()

    def make(self, changes: Sequence[ItemChange]) -> Live:
        """Check, log and make `changes`, all of one kind; the bundle that answers with them.

        Raises `RowsError` for rows that cannot be, and nothing is done; `StoreUnavailable`, and nothing is
        done unless the store did it nevertheless; `Refused` while an older version answers.
        """
        with self._lock:
            self._newest()  # or catching up would let another version answer than was chosen
            self._catch_up()
            live = self._newest()
            _check(changes, live.prepared.catalog)
            self._store.change_items(changes)
            return self._catch_up()

    def catch_up(self) -> Live:
        """Make what the store's log has and the bundle has not; raises `Refused` as `make` does."""
        with self._lock:
            self._newest()
            return self._catch_up()

    def _newest(self) -> Live:
        live, root = self._bundles.current, self._bundles.root
        if live.directory != root or live.version != read_version(root).number:
            raise Refused(
                409,
                f"{live.id} answers, items change in the newest version of {root.name}: switch to it first",
            )
        return live

    def _catch_up(self) -> Live:
        root, made = self._bundles.root, False
        number = read_version(root).log
        while logged := self._store.changes(number):
            for kind, group in itertools.groupby(logged, key=lambda each: each.change.kind):
                made |= _apply(root, kind, list(group))
            number = logged[-1].number
        if made:
            self._bundles.switch(self._bundles.load(root).id)
        return self._bundles.current


def _apply(root: Path, kind: str, group: Sequence[LoggedChange]) -> bool:
    """Make logged changes of one kind; those that cannot be made (any more) are left out. Whether any was."""
    try:
        _made(root, kind, group)
        return True
    except DataError as error:
        if len(group) == 1:
            _LOG.warning("change %d of the catalogue cannot be made: %s", group[0].number, error)
            return False
    return any([_apply(root, kind, [each]) for each in group])


def _made(root: Path, kind: str, group: Sequence[LoggedChange]) -> Change:
    with tempfile.TemporaryDirectory(prefix="llmrec-") as folder:
        path = _rows(Path(folder), [each.change for each in group])
        number = group[-1].number
        if kind == "add":
            return add_items(root, path, log=number)
        return (update_items if kind == "update" else retire_items)(root, path, log=number)


def _rows(folder: Path, changes: Sequence[ItemChange]) -> Path:
    """The changes as an items file (docs/items.md)."""
    path = folder / "items.jsonl"
    rows: list[Mapping[str, Any]] = [{"id": each.item, **each.fields} for each in changes]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _check(changes: Sequence[ItemChange], catalog: Catalog) -> None:
    """Raise `DataError` with the first faults of rows that cannot be."""
    kind = changes[0].kind
    with tempfile.TemporaryDirectory(prefix="llmrec-") as folder:
        path = _rows(Path(folder), changes)
        try:
            rows = read_item_rows(path, catalog, ids_only=kind == "retire")
            if kind == "add":
                plan_added(path, rows, catalog, 0)
            elif kind == "update":
                plan_updated(path, rows, catalog)
            else:
                plan_retired(path, rows, catalog)
        except RowsError as error:
            said = [_fault(finding) for finding in error.findings[:_FOUND]]
            raise DataError(f"nothing was changed: {'; '.join(said)}") from None


def _fault(finding: Any) -> str:
    where = ", ".join(f"item {each.row}: {each.value}" for each in finding.examples[:_FOUND])
    return f"{finding.kind}{f' ({finding.column})' if finding.column else ''} at {where}"
