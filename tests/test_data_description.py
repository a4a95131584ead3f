"""data.yaml: what it accepts, and the one line that a mistake becomes."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrec.data import description as schema
from llmrec.data.description import SUFFIXES, Source, load_description, parse_description, split_moment
from llmrec.data.staging import mapped_columns
from llmrec.errors import DataError

DOCS = Path(__file__).parent.parent / "docs" / "data.md"
GOOD: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "items": {"source": "items.csv", "columns": {"id": "sku"}},
    "events": {"source": "events.csv", "columns": {"user": "u", "item": "i"}},
}


def changed(*path: str, value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(GOOD)
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "not a mapping"),
        ({**GOOD, "version": 2}, "version 2 of the format; this llmrec reads 1"),
        ({k: v for k, v in GOOD.items() if k != "events"}, "events is missing"),
        ({k: v for k, v in GOOD.items() if k != "version"}, "version is missing"),
        ({**GOOD, "event": 1}, "event is not a known field"),
        (changed("events", "columns", "item", value=None), "events.columns.item"),
        (changed("events", "columns", "itm", value="i"), "events.columns.itm is not a known field"),
        (
            changed("events", "source", value={"path": "a", "sql": "b"}),
            "exactly one of path, huggingface, sql",
        ),
        (changed("events", "source", value={"sql": "b", "header": ["a"]}), "go with path"),
        (changed("events", "source", value={"path": "b", "database": "c"}), "database goes with sql"),
        (changed("events", "source", value={"path": "b", "quote": "''"}), "quote is one character"),
        (
            changed("events", "columns", "time", value={"column": "t", "format": "isoo"}),
            "events.columns.time: format is",
        ),
        (changed("events", "source", value={"path": "b", "encoding": "x"}), "source: unknown encoding: x"),
        (changed("splits", value={"random": {}}), "splits.random is not a known field"),
        (changed("splits", value={"global-time": {"date": "soon"}}), "splits.global-time.date"),
        (
            changed("items", "columns", "attributes", value={"a": {"column": "a", "type": "date"}}),
            "attributes.a.type",
        ),
        (changed("splits", value={"leave-last": {"n": 0}}), "splits.leave-last.n"),
        (changed("splits", value={"leave-last": 10}), "splits.leave-last"),
        (changed("events", "columns", "scenarios", value="country"), "events.columns.scenarios"),
        (changed("events", "columns", "scenarios", value={"": "country"}), "events.columns.scenarios"),
        (
            changed("events", "columns", "scenarios", value={"a": {"name": "b"}}),
            "scenarios.a.column is missing",
        ),
        (changed("items", "columns", "attributes", value=[1]), "items.columns.attributes"),
        (changed("items", "keep", value="some"), "items.keep"),
    ],
)
def test_mistakes_are_one_line_that_names_the_field(value: Any, words: str) -> None:
    with pytest.raises(DataError) as error:
        parse_description(value, Path("data.yaml"))
    assert str(error.value).startswith("data.yaml: ") and words in str(error.value)
    assert "\n" not in str(error.value) and "pydantic" not in str(error.value)


def test_a_type_is_given_once() -> None:
    value = changed("events", "columns", "type", value="kind")
    value["events"]["type"] = "purchase"
    with pytest.raises(DataError, match="either type or columns.type"):
        parse_description(value, Path("data.yaml"))


def test_files_that_are_no_description(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_description(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(DataError, match="is not YAML") as error:
        load_description(tmp_path / "bad.yaml")
    assert "\n" not in str(error.value)
    (tmp_path / "twice.yaml").write_text("name: a\nname: b\n")
    with pytest.raises(DataError, match="'name' twice"):
        load_description(tmp_path / "twice.yaml")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(DataError, match="is not YAML"):
        load_description(tmp_path / "code.yaml")
    with pytest.raises(DataError, match="cannot be read"):
        load_description(tmp_path)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(GOOD))
    with pytest.raises(DataError, match="--root"):
        load_description(tmp_path / "data.yaml", tmp_path / "nowhere")


def test_short_forms_mean_the_long_ones() -> None:
    value = copy.deepcopy(GOOD)
    value["items"]["columns"] |= {"text": "note", "attributes": ["brand"]}
    value["events"]["columns"] |= {"scenarios": ["country", "device"]}
    description = parse_description(value, Path("data.yaml"))
    assert mapped_columns(description.events) == ["u", "i", "country", "device"]
    assert description.items.source == Source(path="items.csv")
    assert mapped_columns(description.items) == ["sku", "note", "brand"]
    assert parse_description(description.model_dump(mode="json", by_alias=True), Path("x")) == description


def test_formats_by_suffix() -> None:
    source = Source(path="x")
    for suffix, form in SUFFIXES.items():
        assert source.format_of(Path(f"a.b{suffix}")) == form
        assert source.format_of(Path(f"a{suffix.upper()}.GZ")) == form
    for name in ("a", "a.gz", "a.json"):
        with pytest.raises(DataError, match="set `format`"):
            source.format_of(Path(name))


def test_moments() -> None:
    assert split_moment("2011-10-01").seconds == 1_317_427_200
    assert split_moment("2011-10-01T02:00:00+02:00").seconds == 1_317_427_200
    with pytest.raises(DataError, match="is not a date"):
        split_moment("someday")


def test_examples_of_the_documentation_are_sound() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), flags=re.S)
    assert len(examples) >= 4
    for text in examples:
        value = yaml.safe_load(text)
        parse_description(value if "version" in value else {**copy.deepcopy(GOOD), **value}, DOCS)


def test_every_field_is_documented() -> None:
    text = DOCS.read_text()
    models = [
        schema.Description,
        schema.Items,
        schema.Events,
        schema.ItemColumns,
        schema.EventColumns,
        schema.Source,
    ]
    models += [
        schema.HuggingFace,
        schema.TimeColumn,
        schema.ListColumn,
        schema.AttributeColumn,
        schema.Splits,
        schema.LeaveLast,
    ]
    for model in models:
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in text, (model.__name__, name)
