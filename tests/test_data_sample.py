"""The bundled sample: its size, its figures, its order and its licence."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml


def test_figures(sample: Prepared) -> None:
    assert (len(sample.histories), len(sample.catalog), len(sample.histories.items)) == (800, 500, 19_556)
    assert len(sample.cases("leave-last-out", "test")) == 800
    assert len(sample.cases("leave-last-out", "valid")) == 800
    assert sample.catalog.currency == "GBP"
    assert all(item.title and item.text and item.price for item in sample.catalog.items)


def test_order_is_the_position(sample: Prepared) -> None:
    table = pq.read_table(sample_yaml().parent / "events.parquet").sort_by(
        [("user", "ascending"), ("position", "ascending")]
    )
    rows = list(zip(table.column("user").to_pylist(), table.column("item").to_pylist(), strict=True))
    ours = [(user, sample.catalog[event.item].id) for user, history in sample.histories for event in history]
    assert ours == rows
    assert max(Counter(rows).values()) == 1


def test_it_is_small_and_says_whose_it_is() -> None:
    files = [path for path in sample_yaml().parent.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
    readme = (sample_yaml().parent / "README.md").read_text()
    assert all(words in readme for words in ("CC0", "Daqing Chen", "10.1057/dbm.2012.17"))


def test_paths_exist_beside_the_description() -> None:
    assert {"data.yaml", "items.jsonl.gz", "events.parquet"} <= {
        p.name for p in Path(sample_yaml()).parent.iterdir()
    }
