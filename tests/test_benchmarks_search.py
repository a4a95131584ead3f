"""The benchmarks of search and of many wishes run on a tiny bundle, and write what they promise."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from types import ModuleType

import numpy as np
import pytest
from pages import table_after

from llmrec.errors import LlmrecError
from llmrec.files import read_json
from llmrec.retrieve.search import ItemSearch
from llmrec.retrieve.settings import SearchSettings
from llmrec.retrieve.storage import open_vectors

Script = Callable[[str], ModuleType]
SIZE, USERS = 1_200, 6

pytestmark = pytest.mark.usefixtures("own_threads")


@pytest.fixture(scope="module")
def searched(script_of: Script, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What search.py writes for a catalogue of 1,200 items."""
    out = tmp_path_factory.mktemp("search")
    script_of("search").main(command(tiny_bundle, out, SIZE))
    return out


def command(bundle: Path, out: Path, *sizes: int) -> list[str]:
    return [str(bundle), "--out", str(out), "--sizes", ",".join(map(str, sizes)), "--users", str(USERS)]


def test_search_measures_every_kind_against_exact_lists(script_of: Script, searched: Path) -> None:
    script, folder = script_of("search"), searched / str(SIZE)
    vectors, queries = open_vectors(folder / "vectors.npy"), np.load(searched / "users.npy")
    inner = queries.shape[2]
    assert vectors.shape == (SIZE, inner) and vectors.dtype == np.float16 and queries.shape[:2] == (USERS, 2)
    best = np.load(folder / "truth.npz")
    lists, _ = script.timed(ItemSearch(vectors), queries, 100)
    assert script.precision(lists, best["all"]) == 1.0
    shifted = np.where(lists % 2, (lists + 1) % SIZE, lists)
    assert 0 < script.precision(shifted, best["all"]) < 1
    exact = read_json(folder / "exact.json", "results")
    assert [row["count"] for row in exact["allowed"]] == [1_000] and set(exact["took"]) == {"10", "100"}
    for kind in ("hnsw", "ivfpq"):
        found = read_json(folder / f"{kind}.json", "results")
        assert (found["kind"], found["items"], found["vectors_bytes"]) == (kind, SIZE, SIZE * inner * 2)
        assert found["index_bytes"] > 0 and found["build"]["threads"] == 1
        # The process that builds loads no torch, as this one does.
        assert 0 < found["build"]["peak_bytes"] < getrusage(RUSAGE_SELF).ru_maxrss * 1024 / 2
        for k in script.DEPTHS:
            rounds = [row["precision"] for row in found["rounds"] if row["k"] == k]
            assert len(rounds) == len(script.ROUNDS) and 0 < min(rounds) <= max(rounds) <= 1
            assert rounds[-1] >= rounds[0] and rounds[-1] > (0.99 if kind == "hnsw" else 0.95)
        allowed = {row["filter"]: row["allowed"] for row in found["filters"]}
        assert allowed == {
            f"{name} {share:.1%}": round(share * SIZE)
            for share in script.SHARES
            for name in ("random", "alike")
        }
        # So few allowed items are all scored.
        assert {row["precision"] for row in found["filters"]} == {1.0}


def test_the_report_of_search_has_a_row_of_each_kind(searched: Path) -> None:
    page = (searched / "report.md").read_text()
    for k in (10, 100):
        rows = table_after(page, f"Precision of the top {k} against")
        assert [row[:2] for row in rows] == [["1,200", "hnsw"], ["1,200", "ivfpq"]]
        assert all(0 < float(cell) <= 1 for row in rows for cell in row[2:]) and len(rows[0]) == 8
        assert [row[1] for row in table_after(page, f"Milliseconds a request for the top {k}")] == [
            "exact",
            "hnsw",
            "ivfpq",
        ]
    filters = table_after(page, "With filters")
    assert len(filters) == 2 * 6 and {row[3] for row in filters} == {"120", "12", "1"}
    assert f"{USERS} users with 2 queries each; seed 0" in page
    assert (searched / "search.svg").read_text().lstrip().startswith("<?xml")


def test_a_second_search_makes_nothing_again_and_smaller_catalogues_begin_larger_ones(
    script_of: Script, searched: Path, tiny_bundle: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (searched / str(SIZE)).rglob("*")}
    again = command(tiny_bundle, searched, 500, SIZE)
    script_of("search").main([*again, "--kinds", ""])
    assert before == {path: path.stat().st_mtime_ns for path in (searched / str(SIZE)).rglob("*")}
    small, large = (open_vectors(searched / str(size) / "vectors.npy") for size in (500, SIZE))
    np.testing.assert_array_equal(small, large[:500])
    rows = table_after((searched / "report.md").read_text(), "Milliseconds a request for the top 10,")
    assert [row[:2] for row in rows][:2] == [["500", "exact"], ["1,200", "exact"]]
    for other in (["--seed", "1"], ["--users", "7"]):
        with pytest.raises(LlmrecError, match="made with other settings"):
            script_of("search").main([*again, *other])


def test_latency_has_a_row_of_each_search(
    script_of: Script, searched: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    script = script_of("latency")
    # Else so small a catalogue is always scored whole.
    monkeypatch.setattr(script, "SearchSettings", partial(SearchSettings, exact_up_to=0))
    run = [str(tiny_bundle), "--search", str(searched), "--items", str(SIZE), "--requests", "3"]
    with pytest.raises(LlmrecError, match="no user of slice has 50 events"):
        script.main([*run, "--threads", "1"])
    monkeypatch.setattr(script, "EVENTS", 10)
    script.main([*run, "--threads", "1"])
    out = capsys.readouterr().out
    assert "; 3 requests of 10 events and a wish" in out
    rows = table_after(out, "| items")
    assert [row[:3] for row in rows] == [["1,200", "ivfpq", "1"], ["1,200", "exact", "1"]]
    for row in rows:
        assert len(row) == 7 and 0 < float(row[-1].rstrip("%")) < 100
        for taken in row[3:6]:
            middle, high = map(float, taken.split(" (")[0].split(" / "))
            assert 0 <= middle <= high
    script.main([*run, "--threads", "1", "--layers", "1"])
    out = capsys.readouterr().out
    assert out.startswith("first 1 layers, untrained; 3 requests") and len(table_after(out, "| items")) == 2


def test_wishes_of_one_user_have_the_same_lists_each_way(
    script_of: Script, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    script = script_of("goals_speed")
    run = [str(tiny_bundle), "--threads", "1", "--rounds", "1"]
    monkeypatch.setattr(script, "EVENTS", 10)
    script.main([*run, "--users", "2"])
    out = capsys.readouterr().out
    assert "; 61 items; 2 users with 10 events; mean tokens: head" in out
    rows = table_after(out, "| threads")
    assert [row[:2] for row in rows] == [["1", "1"], ["1", "4"], ["1", "16"]]
    assert all(len(row) == 10 and row[-1] == "yes" for row in rows)
    monkeypatch.setattr(script.WishMaker, "draw", lambda *_: None)
    with pytest.raises(LlmrecError, match="no user of slice has 10 events and a last one to wish for"):
        script.main([*run, "--users", "2"])
