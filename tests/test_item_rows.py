"""Items files: every fault with its place, all of them at once; what rows make of an item's words."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.catalog import Catalog, Item
from llmrec.data.item_plans import applied, plan_added, plan_retired, plan_updated
from llmrec.data.item_rows import RowsError, read_item_rows
from llmrec.errors import DataError

SHOP = Catalog(
    [
        Item(
            "a", "Red Mug", "Red Mug\nA mug of stoneware", 4.5, ("Mugs",), {"colour": "red", "year": 1995.0}
        ),
        Item("b", "b", "b"),
        Item("c", "c", "words without a title", retired=True, added=7),
    ],
    "GBP",
)


def written(folder: Path, *rows: Any) -> Path:
    """A file with a row a line; text goes in as it is."""
    path = folder / "items.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    return path


WRONG: list[tuple[Any, str, str]] = [
    ("{", "malformed row", "'not JSON'"),
    ("[1]", "malformed row", "'not a JSON object'"),
    ('"a"', "malformed row", "'not a JSON object'"),
    ("{" * 100_000, "malformed row", "'not JSON'"),
    ('{"id": ' + "9" * 10_000 + "}", "malformed row", "'not JSON'"),
    ('{"id": "x", "id": "y"}', "field given twice", "'id'"),
    ('{"id": "x", "attributes": {"year": 1, "year": 2}}', "field given twice", "'year'"),
    ({"title": "T"}, "missing id (column id)", "empty"),
    ({"id": None}, "missing id (column id)", "empty"),
    ({"id": " \u00a0"}, "missing id (column id)", "' \\xa0'"),
    ({"id": True}, "not a text (column id)", "'true'"),
    ({"id": 1.5}, "not a text (column id)", "'1.5'"),
    ({"id": ["x"]}, "not a text (column id)", "'[\"x\"]'"),
    ({"id": "x", "titel": "T"}, "unknown field", "'titel'"),
    ({"id": "x", "title": 7}, "not a text (column title)", "'7'"),
    ('{"id": "x", "title": "\\ud800"}', "not a text (column title)", "'\\\\ud800'"),
    ({"id": "x", "text": ["T"]}, "not a text (column text)", "'[\"T\"]'"),
    ({"id": "x", "price": "4.50"}, "price not a number (column price)", "'4.50'"),
    ({"id": "x", "price": True}, "price not a number (column price)", "'true'"),
    ({"id": "x", "price": -0.01}, "negative price (column price)", "'-0.01'"),
    ('{"id": "x", "price": 1e999}', "price not finite (column price)", "'Infinity'"),
    ('{"id": "x", "price": NaN}', "price not finite (column price)", "'NaN'"),
    ('{"id": "x", "price": 1' + "0" * 400 + "}", "price not finite (column price)", "..."),
    ({"id": "x", "categories": {"a": 1}}, "not a list of texts (column categories)", "'{\"a\": 1}'"),
    ({"id": "x", "categories": ["a", 2]}, "not a text (column categories)", "'2'"),
    ({"id": "x", "attributes": ["year"]}, "not an object (column attributes)", "'[\"year\"]'"),
    ({"id": "x", "attributes": {"size": 1}}, "unknown attribute (items have: colour, year)", "'size'"),
    ({"id": "x", "attributes": {"year": "1995"}}, "attribute not a number (column year)", "'1995'"),
    ({"id": "x", "attributes": {"colour": ["red"]}}, "not a text (column colour)", "'[\"red\"]'"),
]


@pytest.mark.parametrize(("row", "kind", "value"), WRONG)
def test_a_fault_is_named_with_its_place(tmp_path: Path, row: Any, kind: str, value: str):
    path = written(tmp_path, {"id": "fine"}, "", row)
    with pytest.raises(RowsError) as error:
        read_item_rows(path, SHOP)
    first, example = error.value.lines()
    assert first == f"error: items: {kind}: 1 row"
    assert example.startswith(f"  {path} row 3: ") and value in example and len(example) < 400
    assert "1 error, nothing was changed" in str(error.value) and "\n" not in str(error.value)


def test_all_faults_are_reported_with_the_first_examples_of_each(tmp_path: Path):
    rows = [{"id": f"n{n}", "price": -n} for n in range(9)]
    path = written(tmp_path, *rows, {"id": "n3"}, {"price": "x", "size": 3})
    with pytest.raises(
        RowsError, match=r"11 errors, nothing was changed; first: items: negative price"
    ) as error:
        read_item_rows(path, SHOP)
    lines = list(error.value.lines())
    assert [line for line in lines if line.startswith("error")] == [
        "error: items: negative price (column price): 8 rows",
        "error: items: unknown field: 1 row",
        "error: items: missing id (column id): 1 row",
        "error: items: price not a number (column price): 1 row",
    ]
    assert sum(line.startswith(f"  {path}") for line in lines) == 5 + 3


def test_bytes_that_are_no_text_and_files_without_rows(tmp_path: Path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'{"id": "x"}\n{"id": "\xff"}\n')
    with pytest.raises(RowsError, match=r"malformed row: 1 row, the first in .* row 2"):
        read_item_rows(path, SHOP)
    path.write_bytes(b" \n\n")
    with pytest.raises(DataError, match="has no rows"):
        read_item_rows(path, SHOP)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty|has no rows"):
        read_item_rows(path, SHOP)
    with pytest.raises(DataError, match="does not exist"):
        read_item_rows(tmp_path / "nowhere", SHOP)
    with pytest.raises(DataError, match="does not exist"):
        read_item_rows(tmp_path, SHOP)


def test_a_byte_order_mark_and_numbers_as_ids(tmp_path: Path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 85123}\r\n{"id": "85123A", "title": " T "}\r\n')
    rows = read_item_rows(path, SHOP)
    assert [(row.row, row.id, dict(row.given)) for row in rows] == [
        (1, "85123", {}),
        (2, "85123A", {"title": "T"}),
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["id", "title", "text", "price", "categories", "attributes", "colour"])
ROWS = st.lists(st.dictionaries(FIELDS, VALUES, max_size=7) | VALUES, min_size=1, max_size=4)


@given(ROWS)
def test_any_rows_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]):
    """Whatever stands in the file: a catalogue that can be saved and read, or an error of one line."""
    folder = tmp_path_factory.mktemp("rows")
    path = written(folder, *rows)
    try:
        plan = plan_added(path, read_item_rows(path, SHOP), SHOP, 9)
    except DataError as error:
        assert "\n" not in str(error)
        return
    changed = applied(SHOP, plan)
    assert changed.items[: len(SHOP)] == SHOP.items or plan.keys() & {"c"}
    changed.save(folder / "items.parquet")
    assert Catalog.load(folder / "items.parquet", "GBP").items == changed.items


@pytest.mark.parametrize(
    ("given", "title", "text"),
    [
        ({}, "Red Mug", "Red Mug\nA mug of stoneware"),
        ({"title": "Big Mug"}, "Big Mug", "Big Mug\nA mug of stoneware"),
        ({"text": "Now of glass"}, "Red Mug", "Red Mug\nNow of glass"),
        ({"text": "Red Mug\nNow of glass"}, "Red Mug", "Red Mug\nNow of glass"),
        ({"text": None}, "Red Mug", "Red Mug"),
        ({"title": None}, "a", "A mug of stoneware"),
        ({"title": None, "text": None}, "a", "a"),
        ({"title": "Cup", "text": "Small"}, "Cup", "Cup\nSmall"),
    ],
)
def test_an_update_makes_the_words_that_prepare_would(tmp_path: Path, given: Any, title: str, text: str):
    path = written(tmp_path, {"id": "a", **given}, {"id": "b", **given})
    plan = plan_updated(path, read_item_rows(path, SHOP), SHOP)
    assert (("a" in plan), ("b" in plan)) == (bool(given) and text != SHOP[0].text, any(given.values()))
    item = plan.get("a", SHOP[0])
    assert (item.title, item.text) == (title, text)
    assert (item.price, item.categories, item.attributes) == (4.5, ("Mugs",), SHOP[0].attributes)


def test_an_update_changes_what_is_given_and_null_is_unknown(tmp_path: Path):
    given = {"id": "a", "price": None, "categories": "Cups", "attributes": {"colour": 7, "year": None}}
    path = written(tmp_path, given, {"id": "b", "attributes": {"year": 1}}, {"id": "c", "title": "Late"})
    plan = plan_updated(path, read_item_rows(path, SHOP), SHOP)
    assert plan["a"] == Item("a", "Red Mug", SHOP[0].text, None, ("Cups",), {"colour": "7"})
    assert plan["b"].attributes == {"year": 1.0}
    assert plan["c"] == Item("c", "Late", "Late\nwords without a title", retired=True, added=7)
    assert applied(SHOP, plan).retired.tolist() == [False, False, True]


def test_items_come_in_order_and_back_at_their_place(tmp_path: Path):
    path = written(tmp_path, {"id": "z", "title": "Z"}, {"id": "c", "title": "C again"}, {"id": "y"})
    changed = applied(SHOP, plan_added(path, read_item_rows(path, SHOP), SHOP, 9))
    assert [item.id for item in changed.items] == ["a", "b", "c", "z", "y"]
    assert changed[2] == Item("c", "C again", "C again", added=7)
    assert changed[3] == Item("z", "Z", "Z", added=9) and changed[4] == Item("y", "y", "y", added=9)
    assert not changed.retired.any() and changed.currency == "GBP"


def test_what_is_there_is_not_added_and_what_is_not_there_not_changed(tmp_path: Path):
    path = written(tmp_path, {"id": "a"}, {"id": "c"}, {"id": "x"}, {"id": "b"})
    rows = read_item_rows(path, SHOP)
    with pytest.raises(RowsError, match=r"in the catalogue already \(use `llmrec items update`\).*: 2 rows"):
        plan_added(path, rows, SHOP, 9)
    with pytest.raises(RowsError, match=r"not in the catalogue \(column id\): 1 row, the first in .* row 3"):
        plan_updated(path, rows, SHOP)
    with pytest.raises(RowsError, match="2 errors, nothing was changed; first: items: retired already"):
        plan_retired(path, rows, SHOP)


def test_ids_to_retire_are_bare_or_objects(tmp_path: Path):
    path = written(tmp_path, "a", '{"id": "b"}')
    rows = read_item_rows(path, SHOP, ids_only=True)
    assert [row.id for row in rows] == ["a", "b"]
    with pytest.raises(DataError, match="retires every item"):
        plan_retired(path, rows, SHOP)
    assert plan_retired(path, rows[:1], SHOP)["a"].retired
    path = written(tmp_path, '{"id": "b", "price": 3}', "a", "a")
    with pytest.raises(RowsError, match="2 errors, nothing was changed; first: items: unknown field: 1 row"):
        read_item_rows(path, SHOP, ids_only=True)
