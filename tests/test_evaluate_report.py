import json
import math
from pathlib import Path

import numpy as np
import pytest

from llmrec.baselines.ease import EASE
from llmrec.baselines.popularity import Popularity
from llmrec.errors import LlmrecError
from llmrec.evaluate.environment import environment
from llmrec.evaluate.protocol import comparison, evaluate
from llmrec.evaluate.report import read_report, schema, write_report

DOCS = Path(__file__).parent.parent / "docs"
COLUMNS = [
    "model",
    "dataset",
    "split",
    "objective",
    "filter_seen",
    "recall@5",
    "recall@10",
    "recall@20",
    "ndcg@5",
    "ndcg@10",
    "ndcg@20",
    "mrr",
    "coverage",
    "gini",
    "novelty",
    "users",
    "seconds",
    "seed",
]


@pytest.fixture(scope="session")
def evaluations(sample):
    train = sample.train("leave-last-out")
    models = Popularity.fit(train, sample.catalog), EASE.fit(train, sample.catalog)
    return [evaluate(model, sample, extra={"setting": model.setting}) for model in models]


@pytest.fixture(scope="session")
def written(evaluations, tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    rows = [each.row for each in evaluations]
    found = environment({"train": 61.5, "evaluate": 300.0}, peak_bytes=2**31)
    return write_report(directory, rows, found, [comparison(evaluations[1], evaluations[0])])


def test_rows_have_every_column_and_an_interval_around_each_mean(evaluations):
    for each in evaluations:
        assert set(COLUMNS) <= set(each.row)
        assert each.row["users"] == 800
        assert each.row["targets_seen"] == 0
        for name, (low, high) in each.row["intervals"].items():
            assert low <= each.row[name] <= high
            assert each.row[name] == each.per_user[name].mean()


def test_seen_filter_takes_seen_items_out_and_nothing_else(sample, evaluations):
    train = sample.train("leave-last-out")
    allowed = evaluate(Popularity.fit(train, sample.catalog), sample, filter_seen=False)
    # Without the filter everyone gets the same ten items.
    assert allowed.row["coverage"] == 10 / 500
    assert allowed.row["recall@10"] < evaluations[0].row["recall@10"]


def test_report_survives_the_disk(written, evaluations):
    value = read_report(written[0])
    assert value["version"] == 1
    assert value["environment"]["peak_memory_gib"] == 2.0
    for row, each in zip(value["rows"], evaluations, strict=True):
        assert row["recall@10"] == each.row["recall@10"]
        assert row["setting"] == each.row["setting"]
    (difference,) = value["comparisons"]
    assert (difference["first"], difference["second"]) == ("ease", "popularity")
    assert difference["difference"] > 0.1
    assert difference["p"] <= 0.01


def test_page_shows_every_model_with_its_interval(written, evaluations):
    text = written[1].read_text(encoding="utf-8")
    for each in evaluations:
        low, high = each.row["intervals"]["recall@10"]
        assert f"{each.row['recall@10']:.4f} ±{(high - low) / 2:.4f}" in text
    assert "online-retail-sample, leave-last-out, test fold, seen items left out, 800 users" in text
    assert "ease − popularity" in text
    assert "| train | 61.5 s |" in text
    assert "| evaluate | 5.0 min |" in text
    # Every table row has as many cells as its header.
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") - line.count("\\|") for line in block.splitlines()}) == 1


def test_hostile_names_stay_in_their_cell(evaluations, tmp_path):
    row = evaluations[0].row | {"model": "a|b\nc"}
    text = write_report(tmp_path, [row], {})[1].read_text(encoding="utf-8")
    assert "| a\\|b c |" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [({"recall@10": 1.5}, "recall@10"), ({"mrr": math.nan}, "mrr"), ({"users": None}, "users")],
)
def test_impossible_rows_write_nothing(evaluations, tmp_path, change, message):
    with pytest.raises(LlmrecError, match=message):
        write_report(tmp_path, [evaluations[0].row | change], {})
    assert not list(tmp_path.iterdir())


def test_reports_of_another_form_are_refused(written, tmp_path):
    value = json.loads(written[0].read_text(encoding="utf-8"))
    path = tmp_path / "report.json"
    path.write_text(json.dumps(value | {"version": 2}), encoding="utf-8")
    with pytest.raises(LlmrecError, match="not a report of version 1: version"):
        read_report(path)
    with pytest.raises(LlmrecError, match="missing"):
        read_report(tmp_path / "none.json")


def test_schema_in_the_docs_is_the_schema_of_the_code():
    assert json.loads((DOCS / "report.schema.json").read_text(encoding="utf-8")) == schema()


def test_docs_name_every_column():
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    for model in ("Row", "Comparison"):
        for name in schema()["$defs"][model]["properties"]:
            assert f"`{name}`" in text


def test_an_empty_fold_is_an_error(sample):
    model = Popularity.fit(sample.train("leave-last-out"), sample.catalog)
    with pytest.raises(LlmrecError, match="has no split 'weekly'"):
        evaluate(model, sample, split="weekly")


def test_different_questions_are_not_compared(evaluations):
    from dataclasses import replace

    other = replace(evaluations[0], row=evaluations[0].row | {"filter_seen": False})
    with pytest.raises(ValueError, match="different questions"):
        comparison(other, evaluations[1])


def test_environment_names_versions_and_machine():
    found = environment()
    assert found["versions"]["numpy"] == np.__version__
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0
    assert "stages" not in found
