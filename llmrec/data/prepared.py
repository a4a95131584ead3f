"""A prepared dataset: the directory that `llmrec prepare` writes and every later stage reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from llmrec.data.catalog import Catalog, Value
from llmrec.data.events import NO_TIME, NO_VALUE, Event, Histories, History, Scenario
from llmrec.errors import DataError, LlmrecError
from llmrec.files import read_json

FORMAT = 2
"""Version of the prepared layout; it steps with every change of a file or a column."""
READABLE = (1, FORMAT)
"""Versions that can be read: 1 is 2 without scenarios."""
FOLDS = ("train", "valid", "test")
"""Names of the fold numbers 0, 1, 2 in `splits/NAME.parquet`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question of an evaluation: after the first `cut` events of a user comes `target`."""

    user: int
    cut: int
    target: int


class Prepared:
    """A prepared dataset, read from its directory.

    manifest.json   format, name, currency, event_types (list), scenarios (column to list of values),
                    splits (list of names), counts, sources
    items.parquet   see `Catalog.save`
    users.parquet   id, then one `attr_NAME` column each
    events.parquet  user int32, item int32 (indices), time int64 (seconds, null: unknown),
                    type uint8 (index into event_types), value float32 (null: none), then one
                    `scenario_NAME` uint16 column each (index into its values, null: unknown);
                    sorted by user, then in the order of the user's history
    splits/NAME.parquet   fold uint8, one row an event, in the order of events.parquet
    card.md, card.json    statistics
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        manifest = self.directory / "manifest.json"
        if not manifest.is_file():
            raise DataError(
                f"{self.directory} is not a prepared dataset (no manifest.json): "
                "run `llmrec prepare data.yaml --out DIR`"
            )
        self.manifest: dict[str, Any] = read_json(manifest, "prepared dataset")
        self._check_kind()
        if self.manifest.get("format") not in READABLE:
            raise DataError(
                f"{self.directory} has format {self.manifest.get('format')!r}, this llmrec reads "
                f"{' and '.join(map(str, READABLE))}: run `llmrec prepare` again"
            )
        self.name: str = self.manifest["name"]
        self.catalog = Catalog.load(self._part("items.parquet"), self.manifest.get("currency") or "")
        users = pq.read_table(self._part("users.parquet"))
        self.histories = self._read_events(users.column("id").to_pylist())
        self._users = users

    def _check_kind(self) -> None:
        """Raise `DataError` for the manifest of something else, which may have the same format number."""
        known = self.manifest if isinstance(self.manifest, dict) else {}
        if {"name", "event_types", "splits"} <= known.keys():
            return
        if known.get("kind") == "llmrec bundle":
            what, give = "is a bundle", f"give the data in it, {self.directory / 'data'}"
        elif "quantiser" in known:
            what, give = "holds item IDs", "give the prepared dataset whose items they name"
        else:
            what, give = "has a manifest.json of another kind", "run `llmrec prepare data.yaml --out DIR`"
        raise DataError(f"{self.directory} is not a prepared dataset, it {what}: {give}")

    def _part(self, name: str) -> Path:
        path = self.directory / name
        if not path.is_file():
            raise DataError(f"{path} is missing: run `llmrec prepare` again")
        return path

    def _read_events(self, users: list[str]) -> Histories:
        try:
            table = pq.read_table(self._part("events.parquet"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.directory}/events.parquet cannot be read: {error}") from error
        counts = np.bincount(table.column("user").to_numpy(), minlength=len(users))
        return Histories(
            users,
            np.concatenate([[0], np.cumsum(counts)]),
            table.column("item").to_numpy(),
            table.column("time").fill_null(NO_TIME).to_numpy(),
            table.column("type").to_numpy(),
            table.column("value").fill_null(float("nan")).to_numpy(),
            self.manifest["event_types"],
            {
                name: Scenario(tuple(values), table.column(f"scenario_{name}").fill_null(NO_VALUE).to_numpy())
                for name, values in self.manifest.get("scenarios", {}).items()
            },
        )

    def attributes(self, user: int) -> Mapping[str, Value]:
        """Known attributes of the user at position `user`."""
        row = self._users.slice(user, 1).to_pylist()[0]
        return {name[5:]: value for name, value in row.items() if name != "id" and value is not None}

    def asker(self, user: str | None, items: Sequence[str] | None) -> tuple[History, int | None]:
        """Who asks: a user's history and position, or events of item ids (oldest first) and None.

        The list of items may be empty: a person of whom nothing is known. Raises `LlmrecError` when both or
        neither are given, `UnknownIdError` for a user or an item that is not in the data.
        """
        if (user is None) == (items is None):
            raise LlmrecError("say who asks: either --user ID or --history ID,ID,...")
        if user is not None:
            position = self.histories.index(user)
            return self.histories.history(position), position
        return tuple(Event(item) for item in self.catalog.indices(items or ())), None

    def folds(self, split: str) -> np.ndarray:
        """Fold number of each event, uint8 [events]; see `FOLDS`."""
        if split not in self.manifest["splits"]:
            raise LlmrecError(
                f"{self.directory} has no split {split!r}, it has: {', '.join(self.manifest['splits'])}"
            )
        fold = pq.read_table(self._part(f"splits/{split}.parquet")).column("fold")
        return np.asarray(fold.to_numpy(), dtype=np.uint8)

    def train(self, split: str) -> Histories:
        """The histories with nothing of the valid and test folds in them."""
        return self.histories.select(self.folds(split) == 0)

    def cases(self, split: str, fold: str) -> list[Case]:
        """For each user with events in `fold`, the first of them, after all that came before it.

        Raises `LlmrecError` for a fold that is none of `FOLDS`.
        """
        if fold not in FOLDS:
            raise LlmrecError(f"there is no fold {fold!r}, choose one of: {', '.join(FOLDS)}")
        rows = np.flatnonzero(self.folds(split) == FOLDS.index(fold))
        users = np.searchsorted(self.histories.offsets, rows, side="right") - 1
        _, first = np.unique(users, return_index=True)
        return [
            Case(int(user), int(row - self.histories.offsets[user]), int(self.histories.items[row]))
            for user, row in zip(users[first], rows[first], strict=True)
        ]
