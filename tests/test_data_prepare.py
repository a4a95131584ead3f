"""Preparation: order, splits, counts, and directories that are whole or absent."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import ITEMS, Row, describe, events_of, write_table
from typer.testing import CliRunner

from llmrec.cli import app
from llmrec.data import card as cards
from llmrec.data.description import split_moment
from llmrec.data.events import NO_TIME
from llmrec.data.prepare import prepare
from llmrec.data.prepared import FOLDS, Prepared
from llmrec.data.sample import sample_yaml
from llmrec.data.validate import validate
from llmrec.errors import DataError, LlmrecError
from llmrec.files import only_writer

START = 1_300_000_000


def prepared(
    folder: Path, events: list[Row], changes: Row | None = None, date: str | None = None
) -> Prepared:
    write_table(folder / "items.csv", ITEMS)
    write_table(folder / "events.csv", events)
    moment = split_moment(date) if date else None
    prepare(describe(folder, changes=changes), folder / "out", moment)
    return Prepared(folder / "out")


def items_by_user(data: Prepared) -> dict[str, list[str]]:
    return {user: [data.catalog[event.item].id for event in history] for user, history in data.histories}


def test_users_and_items_are_sorted_by_id(tmp_path: Path) -> None:
    write_table(tmp_path / "items.csv", ITEMS[::-1])
    write_table(tmp_path / "events.csv", events_of({"b": [3], "a": [2], "B": [1]}))
    prepare(describe(tmp_path), tmp_path / "out")
    data = Prepared(tmp_path / "out")
    assert data.histories.users == ("B", "a", "b")
    assert [item.id for item in data.catalog.items] == [row["id"] for row in ITEMS]


def test_unknown_times_follow_the_row_before_them(tmp_path: Path) -> None:
    times = [START + 5, "", START + 1, "", START + 9]
    events = [{"user": "u", "item": f"i{n}", "time": time} for n, time in enumerate(times)]
    data = prepared(tmp_path, events)
    assert items_by_user(data) == {"u": ["i2", "i3", "i0", "i1", "i4"]}
    assert (data.histories.times == NO_TIME).tolist() == [False, True, False, True, False]


def test_an_explicit_order_wins_over_time(tmp_path: Path) -> None:
    events = [{"user": "u", "item": f"i{n}", "time": START + n, "rank": 10 - n} for n in range(5)]
    columns = {"user": "user", "item": "item", "time": "time", "order": "rank"}
    data = prepared(tmp_path, events, {"events": {"source": "events.csv", "columns": columns}})
    assert items_by_user(data) == {"u": ["i4", "i3", "i2", "i1", "i0"]}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 5), st.one_of(st.none(), st.integers(0, 9))),
        min_size=1,
        max_size=25,
    )
)
@settings(max_examples=8, deadline=None)
def test_nothing_is_lost_and_folds_keep_the_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, int | None]]
) -> None:
    events = [
        {"user": user, "item": f"i{item}", "time": "" if day is None else START + 86_400 * day}
        for user, item, day in rows
    ]
    data = prepared(tmp_path_factory.mktemp("data"), events)
    ours = [(user, data.catalog[e.item].id, e.time) for user, history in data.histories for e in history]
    given_ = [(row["user"], row["item"], row["time"] or None) for row in events]
    assert sorted(ours, key=str) == sorted(given_, key=str)
    for user, history in data.histories:
        known = [event.time for event in history if event.time is not None]
        assert known == sorted(known)
        # Rows of one time stay in the order of the file.
        for time in set(known):
            same = [row["item"] for row in events if row["user"] == user and row["time"] == time]
            assert [data.catalog[event.item].id for event in history if event.time == time] == same
    folds = data.folds("leave-last-out")
    assert len(folds) == len(events)
    for case in data.cases("leave-last-out", "test"):
        row = data.histories.offsets[case.user] + case.cut
        assert row == data.histories.offsets[case.user + 1] - 1
        assert data.train("leave-last-out").items_of(case.user).tolist() == [
            event.item for event in data.histories.history(case.user, case.cut - 1)
        ]


def test_global_time_from_the_description_and_by_hand(tmp_path: Path) -> None:
    events = [{"user": f"u{n % 3}", "item": "i1", "time": START + 86_400 * n} for n in range(100)]
    data = prepared(tmp_path, events, {"splits": {"global-time": {"date": "2011-06-01"}}})
    assert data.manifest["splits"] == ["leave-last-out", "global-time"]
    counts = np.bincount(data.folds("global-time")).tolist()
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["splits"]["global-time"] == dict(zip(FOLDS, counts, strict=True))
    times = data.histories.times
    assert data.manifest["split_times"]["global-time"]["test_from"] == 1_306_886_400
    assert ((data.folds("global-time") == 2) == (times >= 1_306_886_400)).all()
    later = prepared(tmp_path, events, {"splits": {"global-time": {"date": "2011-06-01"}}}, date="2011-06-10")
    assert (later.folds("global-time") == 2).sum() == counts[2] - 9


def test_users_attributes_and_those_without_events(tmp_path: Path) -> None:
    write_table(tmp_path / "users.jsonl", [{"id": "a", "age": 31}, {"id": "z", "age": 5}])
    users = {
        "source": "users.jsonl",
        "columns": {"id": "id", "attributes": {"age": {"column": "age", "type": "number"}}},
    }
    data = prepared(tmp_path, events_of({"a": [1], "b": [2]}), {"users": users})
    assert [data.attributes(user) for user in range(2)] == [{"age": 31.0}, {}]
    assert data.manifest["counts"]["described_users_without_events"] == 1
    assert data.manifest["counts"]["users_without_description"] == 1


def test_words_categories_and_attributes_of_items(tmp_path: Path) -> None:
    rows = [
        {"id": "i0", "title": " Cup ", "tags": '[["A","B"],["A","C"]]', "brand": "Acme", "note": "blue"},
        {"id": "i1", "title": "", "tags": "", "brand": "", "note": ""},
        {"id": "i2", "title": "Pot", "tags": "A|B| ", "brand": "", "note": '["x", "y"]'},
    ]
    write_table(tmp_path / "items.csv", rows)
    write_table(tmp_path / "events.csv", events_of({"a": [1]}))
    columns = {
        "id": "id",
        "title": "title",
        "text": ["note", "title", "brand"],
        "categories": {"column": "tags", "separator": "|"},
        "attributes": {"maker": "brand"},
    }
    result = prepare(
        describe(tmp_path, changes={"items": {"source": "items.csv", "columns": columns}}), tmp_path / "out"
    )
    cup, none, pot = Prepared(tmp_path / "out").catalog.items
    assert (cup.title, cup.text, cup.categories, cup.attributes) == (
        "Cup",
        "Cup\nblue\nAcme",
        ("A", "B", "C"),
        {"maker": "Acme"},
    )
    assert (none.title, none.text, none.categories, none.attributes) == ("i1", "i1", (), {})
    assert (pot.text, pot.categories) == ("Pot\nx y", ("A", "B"))
    assert result.manifest["warnings"] == {"items: empty title": 1}
    assert result.manifest["counts"]["items_without_title"] == 1


def test_items_without_events_can_be_left_out(tmp_path: Path) -> None:
    items = {"source": "items.csv", "keep": "with-events", "columns": {"id": "id"}}
    data = prepared(tmp_path, events_of({"a": [1, 4]}), {"items": items})
    assert [item.id for item in data.catalog.items] == ["i1", "i4"]
    assert data.manifest["counts"]["items_left_out_without_events"] == 4


@pytest.mark.parametrize(
    ("form", "text", "read_as"),
    [
        ("auto", "1300000000.9", "unix"),
        ("auto", "1300000000123", "unix-ms"),
        ("auto", "2011-03-13T07:06:40Z", "iso"),
        ("auto", "2011-03-13 08:06:40+01:00", "iso"),
        ("%d.%m.%Y %H:%M:%S", "13.03.2011 07:06:40", "%d.%m.%Y %H:%M:%S"),
    ],
)
def test_times(form: str, text: str, read_as: str, tmp_path: Path) -> None:
    columns = {"user": "user", "item": "item", "time": {"column": "time", "format": form}}
    events = [{"user": "u", "item": "i1", "time": text}]
    data = prepared(tmp_path, events, {"events": {"source": "events.csv", "columns": columns}})
    assert data.histories.times.tolist() == [START]
    assert data.manifest["time_format"] == read_as


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    prepared(tmp_path, events_of({"a": [1]}))
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="unknown item"):
        prepared(tmp_path, [{"user": "a", "item": "nothing", "time": START}])
    with pytest.raises(DataError, match="at or after its date"):
        prepared(tmp_path, events_of({"a": [1]}), date="2030-01-01")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    left = {path.name for path in tmp_path.iterdir()} - {
        "items.csv",
        "events.csv",
        "data.yaml",
        "out",
        ".out.lock",
    }
    assert not left


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    events = events_of({f"u{n % 7}{n}": [n % 6, (n + 1) % 6] for n in range(50)})
    prepared(tmp_path, events)
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]
    prepared(tmp_path, events)
    assert [path.read_bytes() for path in files] == before


def test_two_runs_into_one_directory(tmp_path: Path) -> None:
    with only_writer(tmp_path / "out"), pytest.raises(LlmrecError, match="another run"):
        prepared(tmp_path, events_of({"a": [1]}))


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    write_table(tmp_path / "items.csv", ITEMS)
    write_table(tmp_path / "events.csv", events_of({"a": [1]}))
    before = sorted(tmp_path.iterdir())
    dataset = describe(tmp_path)
    for run in (prepare, validate):
        with pytest.raises(LlmrecError, match="has other files in it"):
            run(dataset, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([dataset.path, *before])
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmrecError, match="exists already"):
        prepare(dataset, tmp_path / "file")


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Stood in for by a limit on the size of files, which the same system call reports."""
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (50_000,) * 2); import llmrec.cli as c; c.main()"
    )
    command = [sys.executable, "-c", code, "prepare", str(sample_yaml()), "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert re.fullmatch(r"llmrec: cannot write in .*: .*\n", run.stderr)
    assert {path.name for path in tmp_path.iterdir()} <= {".out.lock"}


def test_hostile_names_of_types_stay_in_their_cell(tmp_path: Path) -> None:
    events = {"source": "events.csv", "type": "buy\n| \x1b[2J|", "columns": {"user": "user", "item": "item"}}
    prepared(tmp_path, events_of({"a": [1]}), {"events": events})
    lines = (tmp_path / "out" / "card.md").read_text().splitlines()
    assert "| event types | buy \\| ?[2J\\| 1 |" in lines


def test_too_many_types(tmp_path: Path) -> None:
    columns = {"user": "user", "item": "item", "type": "type"}
    events = [{"user": "u", "item": "i1", "type": f"t{n}"} for n in range(256)]
    with pytest.raises(DataError, match="256 types"):
        prepared(tmp_path, events, {"events": {"source": "events.csv", "columns": columns}})


def test_empty_tables(tmp_path: Path) -> None:
    write_table(tmp_path / "items.csv", ITEMS)
    (tmp_path / "events.csv").write_text("user,item,time\n")
    with pytest.raises(DataError, match="events table has no rows"):
        prepare(describe(tmp_path), tmp_path / "out")


def test_command(tmp_path: Path) -> None:
    write_table(tmp_path / "items.csv", ITEMS)
    write_table(
        tmp_path / "events.csv", [*events_of({"a": [1, 2, 3]}), {"user": "a", "item": "no", "time": START}]
    )
    path = str(describe(tmp_path).path)
    out = str(tmp_path / "out")
    assert isinstance(CliRunner().invoke(app, ["prepare", path, "--out", out]).exception, DataError)
    result = CliRunner().invoke(app, ["prepare", path, "--out", out, "--drop-bad"])
    assert result.exit_code == 0
    assert "| dropped: events: unknown item | 1 |" in result.output
    assert Prepared(tmp_path / "out").manifest["dropped"] == {"events: unknown item": 1}


def test_scenarios_are_coded_and_come_back(tmp_path: Path) -> None:
    rows = events_of({"a": [1, 2, 3], "b": [2]})
    for row, (country, device) in zip(
        rows, [("France", "phone"), ("", "web"), ("EIRE", ""), (" France ", "")], strict=True
    ):
        row |= {"country": country, "device": device}
    columns = {
        "user": "user",
        "item": "item",
        "time": "time",
        "scenarios": {"place": "country", "by": "device"},
    }
    data = prepared(tmp_path, rows, {"events": {"source": "events.csv", "columns": columns}})
    assert data.manifest["scenarios"] == {"place": ["EIRE", "France"], "by": ["phone", "web"]}
    said = {user: [event.scenario for event in history] for user, history in data.histories}
    assert said == {
        "a": [(("by", "phone"), ("place", "France")), (("by", "web"),), (("place", "EIRE"),)],
        "b": [(("place", "France"),)],
    }
    train = data.train("leave-last-out")
    assert [event.scenario for event in train.history(0)] == said["a"][:1]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["scenarios"]["place"] == {"values": 2, "known_share": 0.75, "most": {"France": 2, "EIRE": 1}}
    assert (
        "| scenario place | 2 values, 75.0% known: France 2, EIRE 1 |"
        in (tmp_path / "out" / "card.md").read_text()
    )


def test_a_scenario_of_ids_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrec.data.prepare.MOST_VALUES", 2)
    rows = [row | {"session": n} for n, row in enumerate(events_of({"a": [1, 2, 3]}))]
    columns = {"user": "user", "item": "item", "scenarios": ["session"]}
    with pytest.raises(DataError, match="'session' has 3 different values, at most 2"):
        prepared(tmp_path, rows, {"events": {"source": "events.csv", "columns": columns}})
    assert not (tmp_path / "out").exists()


def test_leave_last_n_is_named_by_its_count(tmp_path: Path) -> None:
    rows = events_of({"a": [1, 2, 3, 4, 5, 0] * 4, "b": [1, 2, 3]})
    data = prepared(tmp_path, rows, {"splits": {"leave-last": {"n": 4}}})
    assert data.manifest["splits"] == ["leave-last-out", "leave-last-4"]
    assert np.diff(data.train("leave-last-4").offsets).tolist() == [16, 1]


def test_the_first_format_is_read_as_one_without_scenarios(tmp_path: Path) -> None:
    data = prepared(tmp_path, events_of({"a": [1, 2, 3]}))
    manifest = data.directory / "manifest.json"
    values = json.loads(manifest.read_text())
    assert values.pop("scenarios") == {}
    manifest.write_text(json.dumps({**values, "format": 1}))
    assert Prepared(data.directory).histories.history(0) == data.histories.history(0)
    manifest.write_text(json.dumps({**values, "format": 3}))
    with pytest.raises(DataError, match="has format 3, this llmrec reads 1 and 2"):
        Prepared(data.directory)


def test_a_split_may_leave_events_out(tmp_path: Path):
    """As benchmarks do, and as items of such data are then changed."""
    path = tmp_path / "split.parquet"
    pq.write_table(pa.table({"fold": pa.array([0, 0, 3, 2], pa.uint8())}), path)
    assert cards._folds(path) == {"train": 2, "valid": 0, "test": 1}
