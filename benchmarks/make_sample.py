"""Make the bundled sample from the packaged Online Retail data (see llmrec/data/sample/README.md).

    python benchmarks/make_sample.py FOLDER

FOLDER holds interactions.parquet (user_id, item_id, position, timestamp, quantity) and items.jsonl.gz
(item_id, title, price): 500 best-selling products and 800 customers drawn with seed 0.
"""

import gzip
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

SAMPLE = Path(__file__).parent.parent / "llmrec" / "data" / "sample"


def main(folder: Path) -> None:
    """Write items.jsonl.gz and events.parquet, byte for byte the same each time."""
    with gzip.open(folder / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    text = "".join(
        json.dumps({"id": item["item_id"], "title": item["title"], "price": item["price"]}) + "\n"
        for item in items
    )
    (SAMPLE / "items.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    events = pq.read_table(folder / "interactions.parquet").select(
        ["user_id", "item_id", "position", "timestamp", "quantity"]
    )
    events = events.rename_columns(["user", "item", "position", "time", "quantity"])
    pq.write_table(events, SAMPLE / "events.parquet", compression="zstd", compression_level=19)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
