"""The catalogue: the items that may be recommended, by index and by id."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.errors import DataError, UnknownIdError

Value = str | float | None
_ATTRIBUTE = "attr_"


@dataclass(frozen=True, slots=True)
class Item:
    """One item. `text` is all its words (title included); `price` is None when unknown.

    A `retired` item is never recommended; it keeps its index, so that histories with it still work. `added`
    is when it came into a finished model's catalogue, in seconds since 1970 UTC; None: it was there before.
    """

    id: str
    title: str
    text: str = ""
    price: float | None = None
    categories: tuple[str, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)
    retired: bool = False
    added: int | None = None


class Catalog:
    """Items in a fixed order; an item's index is its position. Immutable.

    `prices` is float64 [items], NaN where unknown; `retired` is bool [items].
    """

    def __init__(self, items: Iterable[Item], currency: str = "") -> None:
        self.items: tuple[Item, ...] = tuple(items)
        self.currency = currency
        self._index = {item.id: position for position, item in enumerate(self.items)}
        if len(self._index) != len(self.items):
            raise DataError("the catalogue has two items of one id: run `llmrec validate`")
        self.prices = np.array(
            [math.nan if item.price is None else item.price for item in self.items], dtype=np.float64
        )
        self.retired = np.array([item.retired for item in self.items], dtype=bool)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._index

    def index(self, item_id: str) -> int:
        """Position of an item id; raises `UnknownIdError`."""
        try:
            return self._index[item_id]
        except KeyError:
            raise UnknownIdError(f"item {item_id!r} is not in the catalogue of {len(self):,} items") from None

    def indices(self, item_ids: Sequence[str]) -> list[int]:
        """Positions of several item ids; raises `UnknownIdError` at the first unknown one."""
        return [self.index(item_id) for item_id in item_ids]

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the attribute columns, sorted."""
        return tuple(sorted({name for item in self.items for name in item.attributes}))

    @classmethod
    def load(cls, path: Path, currency: str = "") -> Catalog:
        """Read `items.parquet` of a prepared dataset or a bundle (columns: see `save`)."""
        table = pq.read_table(path)
        names = [name for name in table.column_names if name.startswith(_ATTRIBUTE)]
        items = []
        for row in table.to_pylist():
            attributes = {name.removeprefix(_ATTRIBUTE): row[name] for name in names if row[name] is not None}
            items.append(
                Item(
                    row["id"],
                    row["title"],
                    row["text"],
                    row["price"],
                    tuple(row["categories"]),
                    attributes,
                    row.get("retired") or False,
                    row.get("added"),
                )
            )
        return cls(items, currency)

    def save(self, path: Path) -> None:
        """Write Parquet: id, title, text, price, categories (list), then one `attr_NAME` column each.

        A catalogue that changed after its model was made also has `retired` (bool) and `added` (int64
        seconds, null: from the start).
        """
        columns: dict[str, pa.Array] = {
            "id": pa.array([item.id for item in self.items], pa.string()),
            "title": pa.array([item.title for item in self.items], pa.string()),
            "text": pa.array([item.text for item in self.items], pa.string()),
            "price": pa.array([item.price for item in self.items], pa.float64()),
            "categories": pa.array([list(item.categories) for item in self.items], pa.list_(pa.string())),
        }
        if self.retired.any():
            columns["retired"] = pa.array(self.retired)
        if any(item.added is not None for item in self.items):
            columns["added"] = pa.array([item.added for item in self.items], pa.int64())
        for name in self.attribute_names:
            columns[_ATTRIBUTE + name] = pa.array([item.attributes.get(name) for item in self.items])
        pq.write_table(pa.table(columns), path, compression="zstd")
