"""`llmrec evaluate`: every model on the same questions, one valid report."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec.baselines.fitting import NAMES
from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.evaluate.report import read_report
from llmrec.measure import measure
from llmrec.recommend import Shop
from llmrec.verbalize.wishes import KINDS

Run = Callable[..., tuple[int, str, str]]
FIGURES = [f"{name}@{k}" for name in ("recall", "ndcg") for k in (5, 10, 20)] + [
    "mrr",
    "coverage",
    "gini",
    "novelty",
]


@pytest.fixture(scope="module")
def report(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report with every default, but few wishes; `read_report` holds it to the schema."""
    out = tmp_path_factory.mktemp("measure") / "report"
    paths = measure(Bundle(tiny_bundle), out, wish_questions=6)
    assert paths == (out / "report.json", out / "report.md")
    return read_report(paths[0])


def next_item(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if row["objective"] == "next-item"]


def test_every_model_is_asked_with_and_without_seen_items(report: dict[str, Any]):
    rows = next_item(report)
    models = [*NAMES, "llmrec"]
    assert [(row["model"], row["filter_seen"]) for row in rows] == [
        (m, f) for m in models for f in (True, False)
    ]
    for row in rows:
        assert set(FIGURES) <= row.keys()
        assert row["users"] == 60 and row["split"] == "leave-last-out" and row["fold"] == "test"
        assert row["dataset"] == "slice" and row["fit_seconds"] >= 0 and row["seconds"] >= 0
        assert 0 < row["coverage"] <= 1 and row["recall@5"] <= row["recall@10"] <= row["recall@20"]


def test_settings_are_kept(report: dict[str, Any]):
    settings = {row["model"]: row["setting"] for row in next_item(report)}
    assert settings["llmrec"] == "base, all layers, lora rank 2, 2 queries"
    assert all(settings[name] for name in ("item-knn", "ease", "sequential-rules", "sasrec"))
    assert {row["epochs"] for row in next_item(report) if row["model"] == "llmrec"} == {1}


def test_ours_is_compared_with_every_baseline(report: dict[str, Any]):
    found = Counter((row["second"], row["metric"], row["filter_seen"]) for row in report["comparisons"])
    assert found == Counter((n, m, f) for n in NAMES for m in ("recall@10", "ndcg@10") for f in (True, False))
    rows = {(row["model"], row["filter_seen"]): row for row in next_item(report)}
    for row in report["comparisons"]:
        mine, other = rows["llmrec", row["filter_seen"]], rows[row["second"], row["filter_seen"]]
        assert row["difference"] == pytest.approx(mine[row["metric"]] - other[row["metric"]])


def test_wishes_are_asked_in_every_kind_and_enforced_ones_are_honoured(report: dict[str, Any]):
    rows = [row for row in report["rows"] if row["objective"].startswith("wish:")]
    assert {row["objective"] for row in rows} == {f"wish:{kind}" for kind in KINDS}
    assert all(1 <= row["users"] <= 6 and row["model"] == "llmrec" for row in rows)
    for alone, enforced in zip(rows[::2], rows[1::2], strict=True):
        assert (alone["objective"], alone["enforced"], enforced["enforced"]) == (
            enforced["objective"],
            False,
            True,
        )
        kind = alone["objective"].removeprefix("wish:")
        if enforced["understood"] == 1 and kind not in ("season", "like"):
            assert enforced["honoured@10"] == 1.0
        assert enforced["honoured@10"] >= alone["honoured@10"]


def test_rows_are_what_people_are_answered(report: dict[str, Any], tiny_bundle: Path):
    """recall@10 of the report, counted again from the answers to histories of ids, one user at a time."""
    shop = Shop.open(tiny_bundle)
    prepared = shop.bundle.prepared
    hits = []
    for case in prepared.cases("leave-last-out", "test"):
        history = [shop.catalog[event.item].id for event in prepared.histories.history(case.user, case.cut)]
        answers = shop.ask(history=history, k=10)
        hits.append(shop.catalog[case.target].id in {answer.item for answer in answers.items})
    (row,) = (row for row in next_item(report) if row["model"] == "llmrec" and row["filter_seen"])
    assert row["recall@10"] == pytest.approx(np.mean(hits))


def test_the_command_writes_where_it_says(run: Run, tiny_bundle: Path, tmp_path: Path):
    out = tmp_path / "deep" / "report"
    options = (
        "--out",
        out,
        "--fold",
        "valid",
        "--baselines",
        "popularity,popularity",
        "--wish-questions",
        "0",
    )
    code, shown, _ = run("evaluate", tiny_bundle, *options)
    assert code == 0 and shown.endswith(f"wrote {out}/report.json and {out}/report.md\n")
    assert (out / "report.md").read_text() in shown
    rows = read_report(out / "report.json")["rows"]
    assert [row["model"] for row in rows] == ["popularity", "popularity", "llmrec", "llmrec"]
    assert {row["fold"] for row in rows} == {"valid"}


def test_a_report_of_the_bundle_alone_goes_beside_it(
    run: Run, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tiny_bundle)
    code, _, err = run("evaluate", ".", "--baselines", "", "--wish-questions", "0")
    assert code == 0, err
    report = read_report(tiny_bundle.with_name("bundle.report") / "report.json")
    assert len(report["rows"]) == 2 and not report.get("comparisons")


def test_lists_that_a_model_writes_are_no_longer_than_the_figures_need(
    report: dict[str, Any], code_bundle: Path, tmp_path: Path
):
    assert {row["depth"] for row in next_item(report)} == {100}
    written = measure(CodeBundle(code_bundle), tmp_path / "report", ["popularity"], wish_questions=0)
    assert {row["depth"] for row in next_item(read_report(written[0]))} == {20}
