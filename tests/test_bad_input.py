"""Mistakes on the command line: one line that says what, where and what to do; nothing half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_slice import UNTITLED
from tables import ITEMS, describe, events_of, write_table
from tiny_bundles import recipe_values, write_recipe

from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared

Run = Callable[..., tuple[int, str, str]]


def files_below(folder: Path) -> set[Path]:
    """All that is there but locks, which stay."""
    return {path for path in folder.rglob("*") if not path.name.endswith(".lock")}


def assert_refused(answer: tuple[int, str, str], *said: str) -> None:
    """The exit code is 2, and one line on stderr has all the words of `said`."""
    code, out, err = answer
    assert code == 2 and out == "", (code, out, err)
    assert err.startswith("llmrec: ") and err.count("\n") == 1 and len(err) < 600, err
    for words in said:
        assert words in err, err


# --- questions --------------------------------------------------------------------------------------------

ASKER = ("--history", "85123A")
QUESTIONS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ("either --user ID or --history ID,ID",)),
    (("--user", "12562", *ASKER), ("either --user ID or --history ID,ID",)),
    (("--user", "nobody"), ("user 'nobody' is not in the events", "give a known user")),
    (("--user", ""), ("user '' is not in the events",)),
    (("--history", "85123A,nothing"), ("item 'nothing' is not in the catalogue",)),
    ((*ASKER, "--exclude", "85123A, nothing"), ("item 'nothing' is not in the catalogue",)),
    ((*ASKER, "-k", "0"), ("k is 0, it must be at least 1",)),
    ((*ASKER, "-k", "-3"), ("k is -3",)),
    ((*ASKER, "-k", "many"), ("'-k'", "valid integer")),
    ((*ASKER, "--max-price", "nan"), ("the highest price is nan", "finite")),
    ((*ASKER, "--min-price", "inf"), ("the lowest price is inf", "finite")),
    ((*ASKER, "--max-price", "1e400"), ("the highest price is inf",)),
    (
        (*ASKER, "--max-price", "2", "--min-price", "3"),
        ("price at most 2 pounds; price at least 3", "ask for less"),
    ),
    ((*ASKER, "--max-price", "-1"), ("no item", "price at most -1 pounds")),
    ((*ASKER, "--word", "nonexistent"), ("no item", 'with the word "nonexistent"', "ask for less")),
    ((*ASKER, "--word", "?!"), ("the filter word '?!' has nothing to look for",)),
    ((*ASKER, "--say", "bags over 900 pounds"), ("price at least 900 pounds", "--no-enforce")),
    ((*ASKER, "--category", "bags"), ("no item is of the category 'bags'", "Bags & shoppers", "Baking")),
    ((*ASKER, "--not-category", "bags"), ("no item is of the category 'bags'",)),
    ((*ASKER, "--attribute", "size=1"), ("no attribute 'size'", "colour")),
    ((*ASKER, "--attribute", "colour"), ("--attribute 'colour' must be NAME=VALUE",)),
    ((*ASKER, "--attribute", "colour=Mauve"), ("no item", "colour is Mauve")),
]


@pytest.mark.parametrize(("options", "said"), QUESTIONS, ids=lambda value: " ".join(value))
def test_a_question_that_cannot_be_asked(
    run: Run, tiny_bundle: Path, options: tuple[str, ...], said: tuple[str, ...]
):
    assert_refused(run("recommend", tiny_bundle, *options), *said)
    assert_refused(run("recommend", tiny_bundle, "--json", *options), *said)


@pytest.mark.parametrize(("options", "said"), QUESTIONS[:5], ids=lambda value: " ".join(value))
def test_a_prompt_that_cannot_be_asked(
    run: Run, tiny_bundle: Path, options: tuple[str, ...], said: tuple[str, ...]
):
    assert_refused(run("prompt", tiny_bundle, *options), *said)


def test_a_prompt_counted_by_two_tokenizers(run: Run, tiny_bundle: Path):
    assert_refused(run("prompt", tiny_bundle, *ASKER, "--model", "x"), "leave --model out")


@pytest.mark.parametrize(
    "options",
    [
        ("--history", ""),
        ("--history", " , "),
        ("--history", UNTITLED),
        ("--user", "one-time"),
        ("--user", "one-time", "-k", "10000"),
        ("--history", "", "--say", "", "--no-enforce", "--no-hear", "--seen", "--no-why"),
        ("--history", "85123A", "--say", "\udcff bag", "--max-price", "1000000", "--attribute", "colour=red"),
    ],
)
def test_unusual_questions_are_answered(run: Run, tiny_bundle: Path, options: tuple[str, ...]):
    code, out, err = run("recommend", tiny_bundle, *options)
    assert code == 0 and err == "" and "score" in out
    code, out, err = run("recommend", tiny_bundle, "--json", *options)
    assert code == 0 and json.loads(out)["items"]


# --- bundles ----------------------------------------------------------------------------------------------


def changed_manifest(bundle: Path, **changes: Any) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def absent(bundle: Path) -> None:
    shutil.rmtree(bundle)


def a_file(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.write_text("not a directory")


def empty(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.mkdir()


def altered(name: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        data = (bundle / name).read_bytes()
        (bundle / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    return change


BUNDLES: list[tuple[str, Callable[[Path], object], tuple[str, ...]]] = [
    ("absent", absent, ("is not a bundle",)),
    ("a file", a_file, ("is not a bundle",)),
    ("empty", empty, ("is not a bundle (no manifest.json)",)),
    (
        "prepared data",
        lambda bundle: shutil.rmtree(bundle) or shutil.copytree(bundle.parent / "data", bundle),
        ("is not a bundle",),
    ),
    ("not JSON", lambda bundle: (bundle / "manifest.json").write_text("{"), ("cannot be read as JSON",)),
    ("a list", lambda bundle: (bundle / "manifest.json").write_text("[]"), ("is not a bundle",)),
    ("other kind", lambda bundle: changed_manifest(bundle, kind="zoo"), ("is not a bundle",)),
    ("other format", lambda bundle: changed_manifest(bundle, format=99), ("has bundle format 99", "reads 1")),
    (
        "other recipe",
        lambda bundle: changed_manifest(bundle, recipe={}),
        ("cannot be used", "data is missing"),
    ),
    ("no matrix", lambda bundle: (bundle / "item_matrix.npy").unlink(), ("item_matrix.npy is missing",)),
    (
        "no template",
        lambda bundle: (bundle / "prompts" / "retrieve.jinja").unlink(),
        ("retrieve.jinja is missing",),
    ),
    ("altered matrix", altered("item_matrix.npy"), ("item_matrix.npy was altered",)),
    ("altered parts", altered("new_parts.safetensors"), ("new_parts.safetensors was altered",)),
    ("altered events", altered("data/events.parquet"), ("events.parquet was altered",)),
]


@pytest.mark.parametrize(
    ("change", "said"), [case[1:] for case in BUNDLES], ids=[case[0] for case in BUNDLES]
)
def test_a_bundle_that_cannot_be_used(
    run: Run, tiny_bundle: Path, tmp_path: Path, change: Callable[[Path], object], said: tuple[str, ...]
):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    shutil.copytree(tiny_bundle / "data", tmp_path / "data")
    change(bundle)
    before = files_below(tmp_path)
    for command in (("recommend", bundle, *ASKER), ("evaluate", bundle)):
        answer = run(*command)
        assert_refused(answer, str(bundle), *said)
        assert "finetune" in answer[2]  # which makes the bundle again
    assert files_below(tmp_path) == before


# --- evaluation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--baselines", "popularity,magic"),
            ("no baseline is named 'magic'", "there are: popularity, item-knn"),
        ),
        (("--fold", "next"), ("there is no fold 'next'", "test, valid")),
        (("--fold", "train"), ("there is no fold 'train' to measure on",)),
        (("--wish-questions", "-1"), ("'--wish-questions'", "greater than or equal to 0")),
        (("--seed", "-1"), ("'--seed'", "greater than or equal to 0")),
    ],
)
def test_an_evaluation_that_cannot_be_done(
    run: Run, tiny_bundle: Path, tmp_path: Path, options: tuple[str, ...], said: tuple[str, ...]
):
    assert_refused(run("evaluate", tiny_bundle, "--out", tmp_path / "report", *options), *said)
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize("out", ["file", "file/report"])
def test_a_report_that_cannot_be_written(run: Run, tiny_bundle: Path, tmp_path: Path, out: str):
    (tmp_path / "file").write_text("mine")
    assert_refused(
        run("evaluate", tiny_bundle, "--out", tmp_path / out, "--baselines", ""), str(tmp_path / "file")
    )
    assert (tmp_path / "file").read_text() == "mine"


# --- recipes ----------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(slice_of_sample: Prepared, checkpoints: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe that would train, with some keys changed."""

    def write(**changes: Any) -> Path:
        values = recipe_values(slice_of_sample.directory, tmp_path / "bundle", checkpoints["llama"])
        return write_recipe(tmp_path / "recipe.yaml", values | changes)

    return write


RECIPES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"modle": "x"}, ("recipe.yaml", "unknown key 'modle'", "known: ")),
    ({"version": 2}, ("recipe.yaml", "version is 2", "reads 1")),
    ({"train": {"epochs": "ten"}}, ("train: epochs must be int, got 'ten'",)),
    ({"train": {"epochs": 0}}, ("epochs is 0, it must be at least 1",)),
    ({"adapter": {"kind": "magic"}}, ("kind is 'magic', it must be one of",)),
    ({"model": "no-such-model"}, ("no model 'no-such-model'", "smollm2-135m")),
    ({"model": ""}, ("no model is named",)),
    ({"items": {"text_encoder": "no-such-encoder"}}, ("no-such-encoder",)),
    ({"layers": 99}, ("layers is 99", "choose from 1 to 2")),
    ({"data": "nowhere"}, ("there is no data at nowhere",)),
    ({"split": "sideways"}, ("no split 'sideways'", "leave-last-out")),
    ({"prompts": "nowhere"}, ("no folder of prompt templates at nowhere",)),
    ({"prompt": {"template": "poem"}}, ("no template 'poem'", "retrieve")),
]


@pytest.mark.parametrize(("changes", "said"), RECIPES, ids=[str(case[0]) for case in RECIPES])
def test_a_recipe_that_cannot_be_followed(
    run: Run, recipe: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], said: tuple[str, ...]
):
    code, out, err = run("finetune", recipe(**changes))
    assert_refused((code, out, f"llmrec: {err.rpartition('llmrec: ')[2]}"), *said)
    assert "Traceback" not in err
    assert not (tmp_path / "bundle").exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be read as YAML"),
        ("", "expected keys and values, got NoneType"),
        ("- a", "expected keys and values, got list"),
        ("\x00", "cannot be read as YAML"),
        ("model: x", "data is missing"),
    ],
)
def test_a_recipe_that_cannot_be_read(run: Run, tmp_path: Path, text: str, said: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert_refused(run("finetune", path), str(path), said)
    assert files_below(tmp_path) == {path}


def test_a_recipe_that_is_not_there(run: Run, tmp_path: Path):
    assert_refused(run("finetune", tmp_path / "none.yaml"), "there is no recipe", "none.yaml")
    assert_refused(run("finetune", tmp_path), "cannot be read", str(tmp_path))
    assert_refused(
        run("demo", "--directory", tmp_path / "demo", "--recipe", tmp_path / "none.yaml"), "no recipe"
    )
    assert files_below(tmp_path) == set()


def test_a_bundle_is_never_written_over_other_things(
    run: Run, recipe: Callable[..., Path], slice_of_sample: Prepared, tmp_path: Path
):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("years of work")
    assert_refused(run("finetune", recipe()), "bundle exists and is not a bundle", "choose another name")
    data = slice_of_sample.directory
    assert_refused(run("finetune", recipe(), "--out", data), f"{data} exists and is not a bundle")
    assert (tmp_path / "bundle" / "thesis.txt").read_text() == "years of work"
    assert Prepared(data).name == "slice"


def test_a_bundle_that_cannot_be_written(run: Run, recipe: Callable[..., Path], tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    assert_refused(run("finetune", recipe(), "--out", tmp_path / "file" / "bundle"), str(tmp_path / "file"))
    assert_refused(run("finetune", recipe(), "--out", tmp_path / "file"), str(tmp_path / "file"))


def test_another_recipe_in_the_same_workspace(run: Run, recipe: Callable[..., Path], tmp_path: Path):
    assert run("finetune", recipe(train={"epochs": 1, "batch": 64, "precision": "no"}))[0] == 0
    whole = files_below(tmp_path / "bundle")
    assert_refused(run("finetune", recipe(), "--seed", "7"), "bundle.work", "another recipe", "remove it")
    assert_refused(run("finetune", recipe(), "--seed", "-7"), "seed is -7")
    assert files_below(tmp_path / "bundle") == whole


# --- data -------------------------------------------------------------------------------------------------


def small_data(folder: Path, histories: dict[str, list[int]]) -> Path:
    """Prepare six items and some histories; returns the prepared directory."""
    write_table(folder / "items.csv", ITEMS)
    write_table(folder / "events.csv", events_of(histories))
    prepare(describe(folder), folder / "prepared")
    return folder / "prepared"


def test_nobody_with_two_events(run: Run, recipe: Callable[..., Path], tmp_path: Path):
    data = small_data(tmp_path, {"a": [0], "b": [1]})
    code, out, err = run("finetune", recipe(data=str(data)))
    assert_refused((code, out, f"llmrec: {err.rpartition('llmrec: ')[2]}"), "nothing to learn", str(data))
    assert not (tmp_path / "bundle").exists()


def test_a_fold_without_questions(run: Run, recipe: Callable[..., Path], tmp_path: Path):
    """Users with two events have nothing to validate on; the run trains all its epochs, and measures."""
    data = small_data(tmp_path, {"a": [0, 1], "b": [1, 2]})
    assert Prepared(data).cases("leave-last-out", "valid") == []
    assert run("finetune", recipe(data=str(data)))[0] == 0
    for fold in ("test", "valid"):
        answer = run("evaluate", tmp_path / "bundle", "--fold", fold, "--baselines", "")
        assert_refused(answer, "leave-last-out", f"has no {fold} events")
    assert run("recommend", tmp_path / "bundle", "--user", "a")[0] == 0
