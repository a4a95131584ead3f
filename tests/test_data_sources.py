"""Sources: the same tables in every format give the same prepared data."""

import gzip
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import FORMATS, ITEMS, Row, describe, events_of, write_table

from llmrec.data.description import Source
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.data.sources import read_source
from llmrec.errors import DataError

EVENTS = events_of({"u1": [0, 1, 2], "u2": [3, 4]})
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\x1f\r"), max_size=20)


def prepared_tables(folder: Path, form: str, items: list[Row], events: list[Row], changes: Row) -> list[Any]:
    write_table(folder / f"items.{form}", items)
    write_table(folder / f"events.{form}", events)
    out = folder / "out"
    prepare(describe(folder, f"items.{form}", f"events.{form}", changes), out)
    return [pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("items", "users", "events")]


@given(
    st.lists(
        st.tuples(words, st.floats(0, 1e6), st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=4
    )
)
@settings(max_examples=5, deadline=None)
def test_every_format_gives_the_same(drawn: list[tuple[str, float, list[str]]]) -> None:
    items = [{"id": f"i{n}", "title": t, "price": p, "tags": tags} for n, (t, p, tags) in enumerate(drawn)]
    events = [{"user": "u,\n1", "item": row["id"], "time": 1_300_000_000} for row in items]
    changes = {
        "items": {
            "columns": {"id": "id", "title": "title", "text": "tags", "price": "price", "categories": "tags"}
        }
    }
    results = {}
    for form in FORMATS:
        with tempfile.TemporaryDirectory() as name:
            changes["items"]["source"] = f"items.{form}"
            results[form] = prepared_tables(Path(name), form, items, events, changes)
    assert all(result == results["parquet"] for result in results.values())
    assert results["csv"][1] == [{"id": "u,\n1"}]
    for row, (title, price, _) in zip(results["csv"][0], drawn, strict=True):
        assert row["title"] == (title.strip(" \t\r\n\u00a0") or row["id"])
        assert math.isclose(row["price"], price)


def test_several_files_and_patterns(tmp_path: Path) -> None:
    write_table(tmp_path / "items.csv", ITEMS)
    for number, event in enumerate(EVENTS):
        write_table(tmp_path / f"part-{number}.jsonl", [event])
    columns = {"user": "user", "item": "item", "time": "time"}
    for source in ("part-*.jsonl", {"path": [f"part-{n}.jsonl" for n in range(len(EVENTS))]}):
        out = tmp_path / "out"
        result = prepare(describe(tmp_path, changes={"events": {"source": source, "columns": columns}}), out)
        assert len(Prepared(out).histories.items) == len(EVENTS)
        assert [mark["path"] for mark in result.manifest["sources"]["events"]] == [
            f"part-{n}.jsonl" for n in range(len(EVENTS))
        ]


def test_relative_paths_start_from_root(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_table(tmp_path / "elsewhere" / "items.csv", ITEMS)
    dataset = describe(tmp_path, "items.csv", "items.csv")
    assert dataset.root == tmp_path
    with pytest.raises(DataError, match=r"items\.csv does not exist.*--root"):
        list(read_source(dataset.description.items.source, ["id"], dataset.root))
    chunks = list(read_source(dataset.description.items.source, ["id"], tmp_path / "elsewhere"))
    assert chunks[0].table.column("id").to_pylist() == [row["id"] for row in ITEMS]


def test_sql_and_a_database(tmp_path: Path) -> None:
    write_table(tmp_path / "events.csv", EVENTS)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE items AS SELECT 'i' || i AS id, 'Thing' AS title FROM range(6) r(i)")
    items = {"sql": "SELECT * FROM items", "database": "shop.duckdb"}
    events = {
        "sql": "SELECT item, user, make_timestamp(time * 1000000) AS moment "
        "FROM 'events.csv' WHERE item <> 'i4'"
    }
    changes = {
        "items": {"source": items, "columns": {"id": "id", "title": "title"}},
        "events": {"source": events, "columns": {"user": "user", "item": "item", "time": "moment"}},
    }
    dataset = describe(tmp_path, changes=changes)
    result = prepare(dataset, tmp_path / "out")
    assert result.manifest["time_format"] == "iso"
    histories = Prepared(tmp_path / "out").histories
    assert histories.times.tolist() == [row["time"] for row in EVENTS if row["item"] != "i4"]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DROP TABLE x", "not one SELECT"),
        ("SELECT 1; SELECT 2", "not one SELECT"),
        ("SELECT nothing FROM nowhere", "nowhere does not exist"),
        ("SELECT 1 AS other", "no column 'id'; it has other"),
    ],
)
def test_sql_mistakes_are_one_line(sql: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as error:
        list(read_source(Source(sql=sql), ["id"], tmp_path))
    assert "\n" not in str(error.value)


def test_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    write_table(tmp_path / "items.jsonl", [{**row, "tags": ["a", "b"]} for row in ITEMS])
    source = Source.model_validate({"huggingface": {"name": "json", "data_files": "items.jsonl"}})
    (chunk,) = read_source(source, ["title", "tags"], tmp_path)
    assert chunk.table.column("title").to_pylist() == [row["title"] for row in ITEMS]
    assert chunk.rows.tolist() == list(range(1, 7))
    with pytest.raises(DataError, match="no column 'nope'"):
        list(read_source(source, ["nope"], tmp_path))


def test_delimiters_of_several_characters(tmp_path: Path) -> None:
    """Also where a block ends inside a delimiter, and with single colons in the text."""
    lines = [f"{n}::Caf\u00e9: {':' * (n % 4)}x {'y' * (n % 13)}::a|b" for n in range(3000)]
    (tmp_path / "movies.dat").write_bytes(("\r\n".join(lines) + "\r\n").encode("latin-1"))
    source = Source(
        path="movies.dat",
        format="csv",
        delimiter="::",
        quote="",
        encoding="latin-1",
        header=["id", "title", "genres"],
    )
    chunks = list(read_source(source, ["title", "id"], tmp_path))
    titles = [title for chunk in chunks for title in chunk.table.column("title").to_pylist()]
    # A run of colons is cut at its first two, as any reader that scans from the left does.
    expected = [line.split("::")[1] for line in lines if line.count("::") == 2]
    assert titles == expected
    rows = np.concatenate([chunk.rows for chunk in chunks])
    assert rows.tolist() == [n + 1 for n, line in enumerate(lines) if line.count("::") == 2]


def test_python_literals_are_read_and_not_run(tmp_path: Path) -> None:
    lines = [
        repr({"id": "i0", "title": "It's 5\"", "categories": [["A", "B"], ["A", "C"]], "price": 1.5}),
        "__import__('os').system('touch ' + 'broken')",
        "",
        "{'id': 'i1', 'title': None}",
    ]
    with gzip.open(tmp_path / "meta.json.gz", "wt") as file:
        file.write("\n".join(lines))
    chunks = list(read_source(Source(path="meta.json.gz", format="python-literal"), ["id"], tmp_path))
    assert [json.loads(line)["id"] for line in chunks[0].table.column("line").to_pylist()] == ["i0", "i1"]
    assert [(bad.row, bad.reason) for bad in chunks[0].malformed] == [(2, "not a Python literal")]
    assert chunks[0].rows.tolist() == [1, 4]
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"a,b\n1,2\n", "no column 'id'; it has a, b"),
        ("x.csv", b"id,id\n1,2\n", "two columns named 'id'"),
        ("x.csv.gz", b"id\n1\n", "cannot be read"),
        ("x.parquet", b"nonsense", "cannot be read as Parquet"),
        ("x.xlsx", b"", "does not tell the format"),
    ],
)
def test_unreadable_files(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        list(read_source(Source(path=name), ["id"], tmp_path))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("id\ncaf\u00e9\n".encode("latin-1"))
    (chunk,) = read_source(Source(path="x.csv", encoding="latin-1"), ["id"], tmp_path)
    assert chunk.table.column("id").to_pylist() == ["caf\u00e9"]
    with pytest.raises(DataError, match="is not ascii text.*set `encoding`"):
        list(read_source(Source(path="x.csv", encoding="ascii"), ["id"], tmp_path))
