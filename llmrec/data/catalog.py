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


@dataclass(frozen=True, slots=True)
class Item:
    """One item. `text` is all its words (title included); `price` is None when unknown."""

    id: str
    title: str
    text: str = ""
    price: float | None = None
    categories: tuple[str, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)


class Catalog:
    """Items in a fixed order; an item's index is its position. Immutable.

    `prices` is float64 [items], NaN where unknown.
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
        fixed = ("id", "title", "text", "price", "categories")
        names = [name for name in table.column_names if name not in fixed]
        items = []
        for row in table.to_pylist():
            attributes = {name[5:]: row[name] for name in names if row[name] is not None}
            items.append(
                Item(row["id"], row["title"], row["text"], row["price"], tuple(row["categories"]), attributes)
            )
        return cls(items, currency)

    def save(self, path: Path) -> None:
        """Write Parquet: id, title, text, price, categories (list), then one `attr_NAME` column each."""
        columns: dict[str, pa.Array] = {
            "id": pa.array([item.id for item in self.items], pa.string()),
            "title": pa.array([item.title for item in self.items], pa.string()),
            "text": pa.array([item.text for item in self.items], pa.string()),
            "price": pa.array([item.price for item in self.items], pa.float64()),
            "categories": pa.array([list(item.categories) for item in self.items], pa.list_(pa.string())),
        }
        for name in self.attribute_names:
            columns[f"attr_{name}"] = pa.array([item.attributes.get(name) for item in self.items])
        pq.write_table(pa.table(columns), path, compression="zstd")
