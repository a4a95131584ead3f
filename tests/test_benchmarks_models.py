"""The benchmarks that train models, or ask trained ones, run on a tiny shop and write what they promise."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pages import table_after
from tiny_bundles import code_values, recipe_values, write_recipe

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.evaluate.report import read_report
from llmrec.files import read_json

Script = Callable[[str], ModuleType]

pytestmark = pytest.mark.usefixtures("own_threads")


@pytest.fixture
def recipe(slice_of_sample: Prepared, tiny_bundle: Path, tmp_path: Path) -> Path:
    """A recipe for retrieval over the slice."""
    values = recipe_values(slice_of_sample.directory, "unused", tiny_bundle.parent / "base")
    prompt = {"queries": 2, "max_events": 12, "gaps": False}
    return write_recipe(tmp_path / "recipe.yaml", {**values, "prompt": prompt})


@pytest.fixture
def codes(slice_of_sample: Prepared, code_bundle: Path, tmp_path: Path) -> Path:
    """A recipe for codes over the slice."""
    values = code_values(slice_of_sample.directory, "unused", code_bundle.parent / "base")
    return write_recipe(tmp_path / "codes.yaml", values)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def mean(cell: str) -> float:
    """0.25 of "0.2500 ±0.1000"."""
    return float(cell.split(" ±")[0])


def test_new_items_are_measured_beside_known_ones(
    script_of: Script, slice_of_sample: Prepared, recipe: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    run = [str(recipe), "--out", str(out), "--strength", "0.5", "--id-parts", "neighbours,zero"]
    script_of("cold_items").main([*run, "--share", "0.2"])
    shown = capsys.readouterr().out
    draw, whole = out / "draw-0", slice_of_sample
    items = [json.loads(line)["id"] for line in (draw / "items.jsonl").read_text().splitlines()]
    assert len(items) == 12 and shown.startswith("12 of 61 items held out, ")
    known = Prepared(draw / "data")
    assert {item.id for item in known.catalog.items} == {item.id for item in whole.catalog.items} - {*items}
    both = Bundle(draw / "both" / "with-new")
    assert [item.id for item in both.catalog.items[49:]] == items and len(both.catalog) == 61
    assert Bundle(draw / "text-only" / "bundle").recipe.items.parts == "text_only"
    rows = {row["name"]: row for row in read_json(draw / "rows.json", "rows")}
    before = {f"{name}: before they came" for name in ("both", "text only")}
    assert set(rows) == before | {
        "random order",
        "popularity",
        "nearest text",
        "both: id part neighbours, strength 0.5",
        "both: id part zero",
        "text only: added",
    }
    assert {row[0] for row in table_after(shown, "| ")} == set(rows)
    for name, row in rows.items():
        assert (row["all"] is None) == (name in before)
        assert (row["new"] is None) == (name in before or name == "popularity")
        for figures in filter(None, (row["all"], row["new"], row["known"])):
            (recall, low, high), (ndcg, *_) = figures["recall@10"], figures["ndcg@10"]
            assert 0 <= low <= recall <= high <= 1 and 0 <= ndcg <= recall
        if row["all"] and row["new"]:  # the fewer items there are, the better a right one stands
            assert row["all"]["recall@10"][0] <= row["new"]["recall@10"][0]
    assert rows["random order"]["new"]["recall@10"][0] == pytest.approx(10 / 12)
    kept = times(out)
    script_of("cold_items").main([*run, "--share", "0.2"])
    assert capsys.readouterr().out == shown
    later = {path for path, time in times(out).items() if kept[path] != time}
    assert later <= {draw / "items.jsonl"}
    with pytest.raises(LlmrecError, match="made with other settings"):
        script_of("cold_items").main([*run, "--share", "0.1"])


def test_public_sets_are_measured_over_seeds(
    script_of: Script, slice_of_sample: Prepared, recipe: Path, codes: Path, tmp_path: Path, capsys
) -> None:
    out, public = tmp_path / "out", script_of("public")
    run = [str(slice_of_sample.directory), "--out", str(out), "--baselines", "popularity"]
    public.main([*run, "--recipe", str(recipe), "--seeds", "0"])
    kept = times(out / "slice")
    public.main([*run, "--recipe", str(recipe), "--seeds", "0", "1"])
    assert kept.items() <= times(out / "slice").items()
    rows = read_report(out / "report.json")["rows"]
    wanted = {(model, seed, seen) for model in ("llmrec", "popularity") for seed in (0, 1) for seen in (0, 1)}
    assert len(rows) == len(wanted)
    assert {(row["model"], row["seed"], int(row["filter_seen"])) for row in rows} == wanted
    assert {row["recall@10"] for row in rows if row["model"] == "llmrec" and row["seed"] == 0} <= {
        row["recall@10"]
        for row in read_report(out / "slice" / "seed-0" / "evaluation" / "report.json")["rows"]
    }
    page = (out / "report.md").read_text()
    assert capsys.readouterr().out.endswith(page + "\n")
    table = table_after(page, "| dataset")
    assert [row[:4] for row in table] == [
        ["slice", seen, model, "2"] for seen in ("allowed", "left out") for model in ("llmrec", "popularity")
    ]
    for row in table:
        values = dict(zip(public.FIGURES, row[4:], strict=True))
        some = [
            each for each in rows if each["model"] == row[2] and each["filter_seen"] == (row[1] != "allowed")
        ]
        for name, cell in values.items():
            both = [each[name] for each in some]
            assert cell == f"{np.mean(both):.4f} ±{np.std(both, ddof=1):.4f}"
    with pytest.raises(LlmrecError, match="made by another recipe: choose another --out"):
        public.main([*run, "--recipe", str(codes), "--seeds", "0"])
    with pytest.raises(LlmrecError, match="was made without ease: remove it"):
        public.main([*run[:-1], "popularity,ease", "--recipe", str(recipe), "--seeds", "0"])


def test_models_that_write_codes_are_compared(
    script_of: Script, slice_of_sample: Prepared, codes: Path, tmp_path: Path, capsys
) -> None:
    out, script = tmp_path / "out", script_of("codes_trained")
    run = [str(slice_of_sample.directory), "--recipe", str(codes), "--out", str(out), "--epochs", "1"]
    run += ["--questions", "20"]
    script.main([*run, "--only", "tree"])
    kept = times(out / "slice" / "tree")
    script.main([*run, "--only", "balanced"])
    assert kept == times(out / "slice" / "tree")
    page = (out / "slice.quantiser.md").read_text()
    assert page.startswith("# quantiser: slice, 1 epochs, 20 questions\n")
    assert page in capsys.readouterr().out
    rows = [dict(zip(script.HEADER, row, strict=True)) for row in table_after(page, "| variant")]
    assert [(row["variant"], row["levels"]) for row in rows] == [("balanced", "8,16"), ("tree", "8,16")]
    for row in rows:
        bundle = CodeBundle(out.absolute() / "slice" / row["variant"] / "bundle")
        assert bundle.recipe.codes.quantiser == row["variant"] and bundle.recipe.train.epochs == 1
        assert all(0 <= float(row[name].rstrip("%")) <= 100 for name in ("colliding", "relocated"))
        assert 0 <= float(row["neighbours kept"]) <= 1
        assert row["validation"] == f"{bundle.manifest['training']['validation_ndcg@10']:.4f}"
        for suffix in ("", ", seen left out"):
            assert 0 <= mean(row[f"ndcg@10{suffix}"]) <= mean(row[f"recall@10{suffix}"]) <= 1
    with pytest.raises(LlmrecError, match="made with other settings: choose another --out"):
        script.main([*run, "--only", "tree", "--questions", "21"])
    for variant in ("balanced", "tree"):  # as if it had stopped when the models were there
        (out / "slice" / variant / "figures.json").unlink()
    with pytest.raises(LlmrecError, match="made by another recipe: choose another --out"):
        script.main([*run, "--only", "tree", "--seed", "1"])
    script.main([*run, "--axis", "beam-aware", "--only", "penalty"])
    assert (
        CodeBundle(out.absolute() / "slice" / "penalty" / "bundle").recipe.codes.beam_aware.form == "penalty"
    )
    with pytest.raises(SystemExit):
        script.main([*run, "--axis", "beam-aware", "--only", "tree"])
    assert "must be one of: none, penalty, weight" in capsys.readouterr().err


def test_every_convention_and_width_is_asked(script_of: Script, code_bundle: Path, capsys) -> None:
    script_of("conventions").main([str(code_bundle), "--questions", "12", "--widths", "10", "70"])
    shown = capsys.readouterr().out
    assert shown.startswith("12 questions of slice, fold test\n")
    rows = table_after(shown, "| scores")
    assert [tuple(row[:3]) for row in rows] == [
        (scores, width, seen)
        for scores in ("raw", "renormalised", "vocabulary")
        for width in ("10", "70")
        for seen in ("left out", "allowed")
    ]
    for row in rows:
        assert 0 <= mean(row[4]) <= mean(row[3]) <= 1 and float(row[5]) > 0


def test_a_small_decoder_is_timed_and_measured_beside_the_language_model(
    script_of: Script, code_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    script = script_of("small_decoder")
    monkeypatch.setattr(script, "ITEMS", 1_000)
    both = ["the language model", "small decoder"]
    options = ["--width", "16", "--states", "2"]
    script.main(["latency", "--model", str(code_bundle.parent / "base"), "--rounds", "1", *options])
    shown = capsys.readouterr().out
    assert "2 layers, prompts of 190 tokens, 1,000 items, 3 levels of 256, 20 beams" in shown
    assert [row[0] for row in table_after(shown, "| codes")] == both
    script.main(["quality", str(code_bundle), "--questions", "12", "--epochs", "2", *options])
    shown = capsys.readouterr().out
    epochs, said = shown.split("\n")[:2], shown.split("\n")[2]
    assert [line.split()[0] for line in epochs] == ["1", "2"] and said.endswith(", 12 questions")
    rows = table_after(shown, "| codes")
    assert [row[0] for row in rows] == both
    assert all(0 <= mean(row[2]) <= mean(row[1]) <= 1 for row in rows)
    with pytest.raises(SystemExit):
        script.main(["quality"])
    assert "quality is that of a bundle" in capsys.readouterr().err


def test_decoding_is_timed_without_the_tables_of_sizes(
    script_of: Script, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    small = "--items 40 --levels 2 --prompt 4 --beams 2 --batch 1 --rounds 1 --skip-batch"
    arguments = ["decoding.py", "--model", str(checkpoints["llama"]), *small.split()]
    for sizes, tables in (("--sizes --tries", 1), ("--sizes 50 --tries 50", 3)):
        monkeypatch.setattr(sys, "argv", [*arguments, *sizes.split()])
        script_of("decoding").main()
        assert capsys.readouterr().out.count("\n|---:|") == tables
