"""`llmrec ids` from texts, events and files; mistakes are one line; docs/ids.md holds."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.main import get_command

from llmrec import cli
from llmrec.baselines.sasrec import SasrecSettings
from llmrec.baselines.sasrec_training import fit_sasrec
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.fit import text_vectors
from llmrec.items.fusion import fused
from llmrec.items.id_files import load_ids, save_ids
from llmrec.items.quantise.settings import KINDS
from llmrec.make_ids import SOURCES, VectorSettings, item_vectors, read_vectors

Run = Callable[..., tuple[int, str, str]]
PAGE = (Path(__file__).parents[1] / "docs" / "ids.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def build(run: Run, slice_of_sample: Prepared, tmp_path: Path) -> Run:
    """`llmrec ids build` of a slice of the sample into a directory IDS, by hashed words."""

    def call(*options: str | Path) -> tuple[int, str, str]:
        out = ("--out", tmp_path / "IDS", "--encoder", "hash")
        return run("ids", "build", slice_of_sample.directory, *out, *options)

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_every_quantiser_builds(build: Run, run: Run, slice_of_sample: Prepared, tmp_path: Path, kind: str):
    levels = () if kind == "tree" else ("--levels", "8,8,8")
    epochs = ("--epochs", "2", "--device", "cpu") if kind == "rqvae" else ()
    code, out, err = build("--quantiser", kind, *epochs, *levels)
    assert code == 0, err
    items = len(slice_of_sample.catalog)
    assert f"{items} IDs, generation 1" in out
    ids = load_ids(tmp_path / "IDS", [item.id for item in slice_of_sample.catalog.items])
    assert len(ids) == items and ids.quantiser.settings.kind == kind
    code, out, _ = run("ids", "report", tmp_path / "IDS", "--json")
    found = json.loads(out)
    assert code == 0 and found["quality"]["quantiser"] == kind and found["crowding"]["added"] == 0
    assert found["vectors"] == {"source": "text", "encoder": "hash"}


def test_the_pages_are_shown(build: Run, run: Run, slice_of_sample: Prepared, tmp_path: Path):
    built = build("--levels", "8,8", "--collisions", "token", "--reserve", "3", "--quantiser", "kmeans")
    assert built[0] == 0, built
    assert run("ids", "report", tmp_path / "IDS")[1].startswith(built[1][:200])
    page = run("ids", "report", tmp_path / "IDS", "--codes")[1]
    titles = {item.title for item in slice_of_sample.catalog.items}
    assert "typical words" in page and any(title in page for title in titles)
    ids = load_ids(tmp_path / "IDS")
    assert ids.collisions == "token" and len(ids.sizes) == 3
    save_ids(ids.added(np.zeros((1, 384), np.float32)), tmp_path / "more", ["x"] * (len(ids) + 1))
    code, page, _ = run("ids", "report", tmp_path / "more")  # it has no pages of its own
    assert code == 0 and page.startswith(built[1].splitlines()[0]) and "| new items | 1 |" in page
    assert page.splitlines()[-1].startswith("The books still hold: 1 item was added, 0% of them")
    code, page, err = run("ids", "report", tmp_path / "more", "--codes")
    assert (code, page) == (2, "") and "has no codes.md, and is in no bundle" in err
    (tmp_path / "IDS" / "report.md").unlink()
    code, page, err = run("ids", "report", tmp_path / "IDS")
    assert (code, page) == (2, "") and "the pages of" in err


def test_another_build_is_another_generation(build: Run, tmp_path: Path):
    assert build("--levels", "8,8,8")[0] == 0
    code, out, _ = build("--levels", "16,16", "--seed", "1")
    assert code == 0 and "generation 2" in out
    assert load_ids(tmp_path / "IDS").sizes == (16, 16)
    (tmp_path / "IDS" / "manifest.json").write_text("{}")
    code, _, err = build()
    assert code == 2 and "names no generation" in err


@pytest.mark.parametrize("source", SOURCES)
def test_vectors_of_texts_and_events(build: Run, tmp_path: Path, source: str):
    code, _, err = build("--vectors", source, "--levels", "8,8,8")
    assert code == 0, err
    manifest = json.loads((tmp_path / "IDS" / "manifest.json").read_text())
    assert manifest["vectors"]["source"] == source
    assert (
        set(manifest["vectors"])
        == {"source"}
        | {
            "text": {"encoder"},
            "events": {"split", "width"},
            "text+events": {"encoder", "split", "width", "weight"},
        }[source]
    )


def test_vectors_from_files(build: Run, tmp_path: Path, slice_of_sample: Prepared):
    items = len(slice_of_sample.catalog)
    rows = np.random.default_rng(0).standard_normal((items + 1, 6)).astype(np.float32)
    np.save(tmp_path / "matrix.npy", rows[:-1].astype(np.float16))
    save_file({"table.weight": rows}, tmp_path / "sasrec.safetensors")
    found = [read_vectors(tmp_path / name, items) for name in ("matrix.npy", "sasrec.safetensors")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-2)
    code, _, err = build("--vectors", tmp_path / "matrix.npy", "--levels", "8,8,8")
    assert code == 0, err
    assert load_ids(tmp_path / "IDS").quantiser.width == 6


def test_a_tree_is_learnt_anew_from_the_items_of_a_tuned_model(build: Run, tmp_path: Path, tiny_bundle: Path):
    assert build("--quantiser", "tree")[0] == 0
    before = load_ids(tmp_path / "IDS")
    code, out, err = build("--quantiser", "tree", "--vectors", tiny_bundle / "item_matrix.npy")
    assert code == 0 and "generation 2" in out, err
    after = load_ids(tmp_path / "IDS")
    matrix = np.load(tiny_bundle / "item_matrix.npy")
    assert after.quantiser.width == matrix.shape[1] and after.sizes == before.sizes
    assert len(np.unique(after.codes, axis=0)) == len(matrix) and (after.codes != before.codes).any()


def test_texts_are_fused_with_the_items_of_a_sasrec(build: Run, tmp_path: Path, slice_of_sample: Prepared):
    settings = SasrecSettings(width=8, blocks=1, heads=1, length=10, epochs=1)
    train, catalog = slice_of_sample.train("leave-last-out"), slice_of_sample.catalog
    fit_sasrec(train, catalog, settings).save(tmp_path / "sasrec.safetensors")
    learnt = read_vectors(tmp_path / "sasrec.safetensors", len(catalog))
    assert learnt.shape == (len(catalog), 8) and learnt.std() > 0
    source = f"text+{tmp_path / 'sasrec.safetensors'}"
    code, _, err = build("--vectors", source, "--weight", "0.25", "--levels", "8,8,8")
    assert code == 0, err
    manifest = json.loads((tmp_path / "IDS" / "manifest.json").read_text())
    assert manifest["vectors"] == {"source": source, "encoder": "hash", "weight": 0.25}
    vectors = item_vectors(slice_of_sample, VectorSettings(**manifest["vectors"]), tmp_path / "work")
    texts = text_vectors(slice_of_sample, "hash", tmp_path / "work")
    np.testing.assert_array_equal(vectors, fused(texts, learnt, 0.25))
    assert load_ids(tmp_path / "IDS").quantiser.width == vectors.shape[1] == texts.shape[1] + 8


def test_files_that_are_no_item_vectors(tmp_path: Path):
    (tmp_path / "text.npy").write_text("no")
    (tmp_path / "text.safetensors").write_text("no")
    save_file({"other": np.zeros((3, 2), np.float32)}, tmp_path / "other.safetensors")
    np.save(tmp_path / "small.npy", np.zeros((3, 2), np.float32))
    for name, said in (
        ("none.npy", "there is no file"),
        ("text.npy", "cannot be read as item vectors"),
        ("text.safetensors", "no item table of a SASRec"),
        ("other.safetensors", "no item table of a SASRec"),
        ("small.npy", r"has shape \(3, 2\), the catalogue has 4 items"),
        ("title", "come from text, events, text"),
    ):
        with pytest.raises(LlmrecError, match=said):
            read_vectors(tmp_path / name, 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--levels", "a,b"), "--levels are numbers with commas"),
        (("--levels", "4"), "items do not fit into the 4 codes"),
        (("--levels", "0,4"), "llmrec: balanced: every level needs a code, got levels 0,4"),
        (("--weight", "0.5"), "--weight says something with --vectors text+events or text+FILE alone: leave"),
        (("--weight", "0.5", "--vectors", "events"), "--weight says something with"),
        (("--reserve", "9"), "--reserve says something with --collisions token alone"),
        (("--epochs", "9"), "--epochs says something with --quantiser rqvae alone"),
        (("--gradient", "rotation"), "--gradient says something with --quantiser rqvae alone"),
        (("--quantiser", "lsh", "--device", "cpu"), "--device says something with --quantiser rqvae alone"),
        (("--quantiser", "magic"), "no quantiser 'magic'"),
        (("--quantiser", "lsh", "--levels", "10,10"), "10 is no power of two"),
        (("--quantiser", "rqvae", "--gradient", "up"), "gradient is 'up'"),
        (("--quantiser", "rqvae", "--device", "cuda:99"), "there is no device cuda:99"),
        (("--collisions", "ignore"), "one of relocate, token"),
        (("--vectors", "words"), "item vectors come from"),
        (("--vectors", "text+events", "--weight", "2"), "share from 0 to 1"),
        (("--vectors", "text+none.npy"), "there is no file none.npy"),
        (("--split", "none", "--vectors", "events"), "has no split 'none'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(build: Run, tmp_path: Path, options: tuple, said: str):
    code, _, err = build(*options)
    (line,) = [line for line in err.splitlines() if line.startswith("llmrec: ")]
    assert code == 2 and said in line
    assert not (tmp_path / "IDS").exists()


def test_other_directories_are_no_prepared_dataset(build: Run, run: Run, tmp_path: Path, tiny_bundle: Path):
    assert build("--quantiser", "lsh", "--levels", "16,16")[0] == 0
    for command in (("ids", "build", "{}", "--out", tmp_path / "zz"), ("prompt", "{}", "--user", "0")):
        for directory, said in (
            (tmp_path / "IDS", "it holds item IDs: give the prepared dataset whose items they name"),
            (tiny_bundle, f"it is a bundle: give the data in it, {tiny_bundle / 'data'}"),
        ):
            if command[0] == "prompt" and directory == tiny_bundle:  # it has prompts of its own
                continue
            code, _, err = run(*(directory if part == "{}" else part for part in command))
            assert code == 2 and err.rstrip() == f"llmrec: {directory} is not a prepared dataset, {said}"
    (tmp_path / "IDS" / "manifest.json").write_text("[]")
    with pytest.raises(LlmrecError, match="it has a manifest.json of another kind: run `llmrec prepare"):
        Prepared(tmp_path / "IDS")
    assert not (tmp_path / "zz").exists()


def test_a_bundle_with_the_ids_of_other_items_is_not_reported_on(run: Run, code_bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(code_bundle, tmp_path / "bundle"))
    assert run("ids", "report", copy)[0] == 0
    ids = load_ids(copy / "ids")
    shutil.rmtree(copy / "ids")
    save_ids(ids, copy / "ids", [f"other {item}" for item in range(len(ids))])
    for options in ((), ("--json",), ("--codes",)):
        code, out, err = run("ids", "report", copy, *options)
        assert (code, out) == (2, "") and "are of another catalogue than these" in err
    assert run("ids", "report", copy / "ids")[0] == 0  # of which nothing says what they should name


def test_a_prepared_dataset_is_not_written_over(run: Run, slice_of_sample: Prepared):
    directory = slice_of_sample.directory
    code, _, err = run("ids", "build", directory, "--out", directory, "--encoder", "hash")
    assert code == 2 and "other files" in err
    assert Prepared(directory).name == slice_of_sample.name
    code, _, err = run("ids", "report", directory)
    assert code == 2 and "has no item IDs (no ids.safetensors): give a directory that" in err


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(BLOCKS[1])
    runpy.run_path("example.py")
    assert "305 The books still hold" in capsys.readouterr().out


def test_the_sasrec_of_the_page_is_made_and_read(
    build: Run, slice_of_sample: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PREPARED").symlink_to(slice_of_sample.directory, target_is_directory=True)
    (tmp_path / "example.py").write_text(BLOCKS[0])
    runpy.run_path("example.py")
    (source,) = re.findall(r"^    llmrec ids build PREPARED --vectors (\S+) --out IDS$", PAGE, re.MULTILINE)
    code, _, err = build("--vectors", source, "--levels", "16,16,16")
    assert code == 0, err
    assert load_ids(tmp_path / "IDS").quantiser.width == 384 + SasrecSettings().width


def test_the_page_names_what_there_is():
    command = get_command(cli.app).commands["ids"]
    options = {option for part in command.commands.values() for each in part.params for option in each.opts}
    assert set(re.findall(r"(--[a-z]+)", PAGE)) <= options
    assert set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) >= {*KINDS, "text", "events"}
    for command in re.findall(r"^    llmrec (ids \w+)", PAGE, re.MULTILINE):
        assert command.split()[1] in ("build", "report")
