"""Validation: planted faults are found, counted and placed, and the cleaned copy has none."""

import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import ITEMS, describe, events_of, write_table
from typer.testing import CliRunner

from llmrec.cli import app
from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.validate import Validation, validate
from llmrec.errors import DataError

GOOD_EVENTS = events_of({f"u{n}": range(6) for n in range(5)})
GOOD_EVENT_LINES = [f"{row['user']},{row['item']},{row['time']}" for row in GOOD_EVENTS]
GOOD_ITEM_LINES = [json.dumps(row) for row in ITEMS]
EVENT_FAULTS = {
    "unknown item": "u1,nothing,1300000000",
    "missing user": ",i1,1300000000",
    "missing item": "u1, ,1300000000",
    "time not readable": "u1,i1,yesterday",
    "impossible time": "u1,i1,77",
    "malformed row": "u1,i1",
}
ITEM_FAULTS = {
    "missing id": '{"id": "", "title": "x", "price": 1}',
    "duplicate item": '{"id": "i0", "title": "again", "price": 1}',
    "price not a number": '{"id": "%s", "title": "x", "price": "cheap"}',
    "price not finite": '{"id": "%s", "title": "x", "price": NaN}',
    "negative price": '{"id": "%s", "title": "x", "price": -1}',
    "empty title": '{"id": "%s", "title": " ", "price": 1}',
    "malformed row": '{"id": "%s", "title": ',
}


def write(folder: Path, items: list[str], events: list[str]) -> Path:
    (folder / "items.jsonl").write_text("\n".join(items) + "\n")
    (folder / "events.csv").write_text("\n".join(["user,item,time", *events]) + "\n")
    return describe(folder, "items.jsonl").path


def found(report: Validation) -> Counter[tuple[str, str]]:
    return Counter({(f.table, f.kind): f.count for f in report.findings if f.kind != "duplicate event"})


@given(
    st.lists(st.sampled_from(sorted(EVENT_FAULTS)), max_size=12),
    st.lists(st.sampled_from(sorted(ITEM_FAULTS)), max_size=12),
    st.randoms(use_true_random=False),
)
@settings(max_examples=6, deadline=None)
def test_counts_and_places_are_those_planted(
    event_faults: list[str], item_faults: list[str], rng: random.Random
) -> None:
    events = [(line, None) for line in GOOD_EVENT_LINES] + [(EVENT_FAULTS[k], k) for k in event_faults]
    rng.shuffle(events)
    bad = [(ITEM_FAULTS[kind].replace("%s", f"bad{n}"), kind) for n, kind in enumerate(item_faults)]
    rng.shuffle(bad)
    items = [*((line, None) for line in GOOD_ITEM_LINES), *bad]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder, [line for line, _ in items], [line for line, _ in events])
        report = validate(load_description(path), folder / "clean")
        expected = Counter([("events", k) for k in event_faults] + [("items", k) for k in item_faults])
        assert found(report) == expected
        for finding in report.findings:
            if finding.kind == "duplicate event":
                continue
            rows, first = (events, 2) if finding.table == "events" else (items, 1)
            places = [number for number, (_, kind) in enumerate(rows, first) if kind == finding.kind]
            assert [example.row for example in finding.examples] == places[:5]
        assert report.kept == {"items": 6 + item_faults.count("empty title"), "events": len(GOOD_EVENTS)}
        again = validate(load_description(folder / "clean" / "data.yaml"))
        assert again.errors == 0
        assert again.rows == report.kept
        if report.errors:
            with pytest.raises(DataError, match="llmrec validate"):
                prepare(load_description(path), folder / "out")
            assert not (folder / "out").exists()
        dropped = prepare(load_description(path), folder / "out", drop_bad=True).manifest
        cleaned = prepare(load_description(folder / "clean" / "data.yaml"), folder / "out2").manifest
        assert dropped["counts"] == cleaned["counts"]
        assert sum(dropped["dropped"].values()) == report.errors


def test_the_sample_has_no_fault() -> None:
    from llmrec.data.sample import sample_yaml

    report = validate(load_description(sample_yaml()))
    assert report.findings == ()
    assert report.rows == {"items": 500, "events": 19_556}


def test_events_of_an_item_with_errors(tmp_path: Path) -> None:
    items = [*GOOD_ITEM_LINES[1:], '{"id": "i0", "title": "x", "price": -1}']
    report = validate(load_description(write(tmp_path, items, GOOD_EVENT_LINES)))
    assert found(report) == Counter({("items", "negative price"): 1, ("events", "item with errors"): 5})


def test_duplicate_events_are_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD_ITEM_LINES, [*GOOD_EVENT_LINES, GOOD_EVENT_LINES[3], "u9,i1,", "u9,i1,"])
    report = validate(load_description(path))
    (finding,) = report.findings
    assert (finding.kind, finding.count, finding.error) == ("duplicate event", 1, False)
    assert finding.examples[0].row == len(GOOD_EVENT_LINES) + 2


def test_bytes_and_quotes_that_break_rows(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD_ITEM_LINES, [])
    lines = [
        b"user,item,time",
        b"u1,i1,1300000000",
        b"\xff,i1,1300000000",
        b'u2,i1,"1300000000',
        b"u3,i1,1300000000",
    ]
    (tmp_path / "events.csv").write_bytes(b"\n".join(lines) + b"\n")
    (finding,) = validate(load_description(path)).findings
    assert finding.count == 2
    assert [(example.row, example.value) for example in finding.examples] == [
        (3, "column user is not UTF-8"),
        (4, "a quote opens and never closes: the rest of the file stands in this row"),
    ]


def test_numbers_that_are_none(tmp_path: Path) -> None:
    write_table(
        tmp_path / "items.csv", [{**row, "weight": "heavy" if row["id"] == "i2" else 1} for row in ITEMS]
    )
    rows = [{**row, "value": "inf", "rank": n or ""} for n, row in enumerate(GOOD_EVENTS[:3])]
    write_table(tmp_path / "events.csv", rows)
    weight = {"weight": {"column": "weight", "type": "number"}}
    changes = {
        "items": {"source": "items.csv", "columns": {"id": "id", "attributes": weight}},
        "events": {
            "source": "events.csv",
            "columns": {"user": "user", "item": "item", "value": "value", "order": "rank"},
        },
    }
    assert found(validate(describe(tmp_path, changes=changes))) == Counter(
        {
            ("items", "attribute not a number"): 1,
            ("events", "value not a number"): 3,
            ("events", "order not a number"): 1,
            ("events", "item with errors"): 1,
        }
    )


def test_nothing_left_to_write(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD_ITEM_LINES, ["u1,nothing,1300000000"])
    with pytest.raises(DataError, match="no row of the events table"):
        validate(load_description(path), tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_command(tmp_path: Path) -> None:
    good = write(tmp_path, GOOD_ITEM_LINES, GOOD_EVENT_LINES)
    runner = CliRunner()
    assert runner.invoke(app, ["validate", str(good)]).exit_code == 0
    bad = write(tmp_path, GOOD_ITEM_LINES, [*GOOD_EVENT_LINES, "u1,nothing,1300000000"])
    result = runner.invoke(app, ["validate", str(bad), "--json", str(tmp_path / "report.json")])
    assert result.exit_code == 1
    assert f"events.csv row {len(GOOD_EVENT_LINES) + 2}: 'nothing'" in result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["errors"], report["findings"][0]["column"]) == (1, "item")
    arguments = ["validate", str(bad), "--fix", "drop", "--out", str(tmp_path / "clean")]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert "dropped from events: 1 for unknown item" in result.output
    assert runner.invoke(app, ["validate", str(tmp_path / "clean" / "data.yaml")]).exit_code == 0
