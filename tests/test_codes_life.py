"""Items that come and go in a bundle that writes codes: no ID moves, none comes back, no version is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundles import code_recipe
from tiny_models import save_checkpoint, tiny_prepared

from llmrec.change_items import add_items, retire_items, rollback, update_items
from llmrec.codes.bundle import CodeBundle
from llmrec.codes.fitting import fit_codes
from llmrec.codes.recommender import CodeRecommender
from llmrec.data.events import Event
from llmrec.decode.contract import Filters, Request
from llmrec.errors import BundleError, LlmrecError
from llmrec.fit import text_vectors
from llmrec.items.newcomers import stand_in
from llmrec.items.quantise.settings import QuantiserSettings
from llmrec.make_ids import VectorSettings, item_vectors, make_ids
from llmrec.recommend import Shop
from llmrec.versions import list_versions

Run = Callable[..., tuple[int, str, str]]
NEW: list[dict[str, Any]] = [
    {"id": "n0", "title": "red mug", "price": 3, "categories": ["mug"]},
    {"id": "n1", "title": "green mug", "text": "a <|code_1_0|> second\u202e one"},
    {"id": "n2"},
]
TRAIN = {"epochs": 1, "batch": 8, "dropout": 0.0, "precision": "no", "learning_rate": 0.01}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle whose IDs are of each kind of vectors; read only."""
    folder = tmp_path_factory.mktemp("bundles")
    base = save_checkpoint("llama", folder / "base")
    shop = tiny_prepared(folder / "shop", users=12)
    np.save(folder / "rows.npy", np.random.default_rng(0).standard_normal((24, 6)).astype(np.float32))
    found = {}
    for name, source, collisions in (
        ("text", "text", "relocate"),
        ("events", "events", "relocate"),
        ("text+events", "text+events", "token"),
        ("file", str(folder / "rows.npy"), "relocate"),
        ("text+file", f"text+{folder / 'rows.npy'}", "relocate"),
    ):
        ids, settings = folder / f"ids-{name}", QuantiserSettings("balanced", (4, 12))
        make_ids(shop, ids, settings, VectorSettings(source, "hash", width=8), collisions)
        codes = {"ids": str(ids), "beam": 5, "questions": 12}
        recipe = code_recipe(shop.directory, folder / name, base, codes=codes, train=TRAIN)
        found[name] = fit_codes(recipe).directory
    return found


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle of a test's own."""
    return Path(shutil.copytree(made["text"], tmp_path / "bundle"))


def rows(folder: Path, *values: Any) -> Path:
    """An items file with these rows."""
    path = folder / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, values)))
    return path


def requests(bundle: CodeBundle) -> list[Request]:
    histories = bundle.prepared.histories
    known = [Request(histories.history(user), user=user) for user in range(3)]
    return [*known, Request((), "a red mug"), Request((Event(3),), filters=Filters(exclude_seen=True))]


def scores(directory: Path, asked: list[Request]) -> np.ndarray:
    return CodeRecommender(CodeBundle(directory)).scores(asked)


@pytest.mark.parametrize("kind", ["text", "events", "text+events", "file", "text+file"])
def test_new_items_get_codes_and_nobody_moves(made: dict[str, Path], kind: str, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(made[kind], tmp_path / "bundle"))
    asked = requests(CodeBundle(directory))
    before, old = scores(directory, asked), CodeBundle(directory).ids()
    change = add_items(directory, rows(tmp_path, *NEW))
    assert (change.version, change.words, change.notes) == (2, "3 added", ())
    bundle = CodeBundle(directory)
    ids = bundle.ids()
    np.testing.assert_array_equal(ids.codes[:24], old.codes)
    assert len(ids) == 27 and (ids.built, ids.generation, ids.sizes) == (24, 1, old.sizes)
    assert [item.id for item in bundle.catalog.items[24:]] == ["n0", "n1", "n2"]
    recommender = CodeRecommender(bundle)
    after = recommender.scores(asked)
    np.testing.assert_allclose(after[:, :24], before, atol=1e-5)
    assert after.shape == (len(asked), 27) and np.isfinite(after).all()
    with_new = Request((Event(3), Event(24), Event(25), Event(26)))
    assert {each.index for each in recommender.recommend([with_new], 27)[0]} == set(range(27))
    again = add_items(directory, rows(tmp_path, {"id": "n9", "title": "blue bag"}))
    assert again.version == 3
    np.testing.assert_array_equal(CodeBundle(directory).ids().codes[:27], ids.codes)


def test_a_new_item_stands_where_its_vector_is(made: dict[str, Path], tmp_path: Path) -> None:
    """A new item with a known text wants the code of that text; without events, those of its neighbours."""
    for kind in made:
        directory = Path(shutil.copytree(made[kind], tmp_path / kind))
        bundle = CodeBundle(directory)
        ids, prepared = bundle.ids(), bundle.prepared
        source = json.loads((directory / "ids" / "manifest.json").read_text())["vectors"]
        vectors = item_vectors(prepared, VectorSettings(**source), tmp_path / "work")
        texts = text_vectors(prepared, "hash", tmp_path / "work")
        if kind in ("events", "file"):
            known = vectors.any(axis=1)
            vectors = stand_in(texts, texts[known], vectors[known], "neighbours")
        title = bundle.catalog[5].text
        add_items(directory, rows(tmp_path, {"id": "twin", "title": title}))
        wanted = CodeBundle(directory).ids().wanted[24]
        if not kind.startswith("text+"):  # where the twin has its neighbours' events, the other its own
            np.testing.assert_array_equal(wanted, ids.quantiser.codes(vectors[5:6])[0])


def test_a_retired_item_never_comes_back_and_keeps_its_codes(copy: Path, tmp_path: Path) -> None:
    five, six, seven = CodeBundle(copy).catalog.indices(["i5", "i6", "i7"])
    two = Request((Event(five),), filters=Filters(allowed_items=(five, seven)))
    asked = [*requests(CodeBundle(copy)), two]
    before, old = scores(copy, asked), CodeBundle(copy).ids()
    path = tmp_path / "gone.txt"
    path.write_text("i5\ni6\n")
    assert retire_items(copy, path).words == "2 retired"
    bundle = CodeBundle(copy)
    recommender = CodeRecommender(bundle)
    np.testing.assert_array_equal(bundle.ids().codes, old.codes)
    np.testing.assert_allclose(recommender.scores(asked), before, atol=1e-5)
    for answers in recommender.recommend(asked, 24):
        assert not {each.item for each in answers} & {"i5", "i6"}
    assert [each.item for each in recommender.recommend(asked[-1:], 24)[0]] == ["i7"]
    assert not {"i5", "i6"} & {answer.item for answer in Shop(bundle).ask(history=["i5"], k=22).items}
    back = add_items(copy, rows(tmp_path, {"id": "i5", "title": "blue bag"}, NEW[0]))
    assert back.words == "1 added, 1 brought back"
    bundle = CodeBundle(copy)
    np.testing.assert_array_equal(bundle.ids().codes[:24], old.codes)
    assert bundle.catalog.retired.nonzero()[0].tolist() == [six] and len(bundle.catalog) == 25


def test_an_update_moves_no_id_and_reaches_limits_and_words(copy: Path, tmp_path: Path) -> None:
    old = CodeBundle(copy).ids()
    changed = {"id": "i2", "title": "silver teapot", "price": 99}
    assert update_items(copy, rows(tmp_path, changed)).words == "1 updated"
    bundle = CodeBundle(copy)
    np.testing.assert_array_equal(bundle.ids().codes, old.codes)
    assert [a.item for a in Shop(bundle).ask(history=["i1"], say="a teapot").items] == ["i2"]
    assert [a.item for a in Shop(bundle).ask(history=[], filters=Filters(min_price=90)).items] == ["i2"]
    assert (copy / "ids" / "ids.safetensors").stat().st_nlink == 2  # shared with the version before
    add_items(copy, rows(tmp_path, *NEW))  # one known text in eight has changed


def test_versions_step_stay_loadable_and_come_back(run: Run, copy: Path, tmp_path: Path) -> None:
    asked = requests(CodeBundle(copy))
    first = scores(copy, asked)
    code, out, err = run("items", "add", copy, rows(tmp_path, *NEW))
    assert (code, out) == (0, f"3 added: {copy} is now version 2\n"), err
    ids = tmp_path / "gone.txt"
    ids.write_text("n1")
    assert run("items", "retire", copy, ids)[1] == f"1 retired: {copy} is now version 3\n"
    lines = run("items", "versions", copy)[1].splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"] and "24 items  fit" in lines[0]
    assert "27 items  add: 3 added (n0, n1, n2)" in lines[1] and "id part" not in lines[1]
    older = Path(f"{copy}.versions")
    np.testing.assert_array_equal(scores(older / "1", asked), first)
    assert len(CodeBundle(older / "2").ids()) == 27
    for name in ("backbone/model.safetensors", "data/events.parquet", "tokenizer/tokenizer.json"):
        assert (copy / name).stat().st_ino == (older / "1" / name).stat().st_ino
    assert rollback(copy, 1).version == 4
    np.testing.assert_array_equal(scores(copy, asked), first)
    with pytest.raises(BundleError, match="is an older version of"):
        add_items(older / "2", rows(tmp_path, NEW[0]))


def test_it_says_when_it_is_time_to_retrain(run: Run, copy: Path, tmp_path: Path) -> None:
    new = [{"id": f"x{at}", "title": "red mug"} for at in range(20)]
    code, out, err = run("items", "add", copy, rows(tmp_path, *new))
    assert code == 0, err
    first, second = out.splitlines()
    assert first == f"20 added: {copy} is now version 2"
    assert second.startswith("It is time for a new generation of item IDs, and to fine-tune on it: the ")
    codes = CodeBundle(copy).ids().codes
    assert len(np.unique(codes, axis=0)) == 44
    check_reports(run, copy, second)
    more = [{"id": f"y{at}"} for at in range(5)]
    with pytest.raises(LlmrecError, match="5 new items do not fit, levels 4,12 have 4 free IDs: build a new"):
        add_items(copy, rows(tmp_path, *more))
    assert CodeBundle(copy).version == 2


def check_reports(run: Run, bundle: Path, sentence: str) -> None:
    """`llmrec ids report` of a bundle with 24 items and 20 new ones, which ends with `sentence`."""
    for place in (bundle, bundle / "ids"):
        code, out, err = run("ids", "report", place)
        assert code == 0 and out.startswith("# Item IDs: balanced, levels 4,12, generation 1\n"), err
        lines = out.splitlines()
        assert {"| items | 44 |", "| new items | 20 |", "| free IDs | 4 |"} <= set(lines)
        assert "| reconstruction error | – |" in lines and lines[-1] == sentence
        found = json.loads(run("ids", "report", place, "--json")[1])
        assert (found["quality"]["items"], found["quality"]["neighbours_kept"]) == (44, None)
        assert (found["crowding"]["added"], found["crowding"]["built"]) == (20, 24)
        assert found["crowding"]["farther"] > 0.3 and found["crowding"]["sentence"] == sentence
        assert found["vectors"] == {"source": "text", "encoder": "hash"}
        code, out, _ = run("ids", "report", place, "--codes")
        assert code == 0 and "typical words" in out and "red mug" in out and out.endswith(f"{sentence}\n")
    code, out, _ = run("ids", "report", Path(f"{bundle}.versions") / "1")
    assert code == 0 and "| items | 24 |" in out and out.endswith("No items were added; 24 IDs are free.\n")


def test_a_new_fit_is_the_next_generation(made: dict[str, Path], tmp_path: Path) -> None:
    """Also when the bundle went back to older IDs."""
    base, out, data = made["text"].parent / "base", tmp_path / "bundle", tmp_path / "data"
    codes = {"levels": [4, 12], "beam": 5, "questions": 12}

    def fitted(source: Path) -> tuple[int, int]:
        shutil.rmtree(tmp_path / "bundle.work", ignore_errors=True)
        bundle = fit_codes(code_recipe(source, out, base, codes=codes, train=TRAIN))
        return bundle.ids().generation, bundle.ids().built

    assert fitted(made["text"] / "data") == (1, 24)
    add_items(out, rows(tmp_path, *NEW))
    assert CodeBundle(out).ids().generation == 1
    shutil.copytree(out / "data", data)
    assert fitted(data) == (2, 27)
    rollback(out, 1)
    assert fitted(data) == (3, 27)


def test_a_corrected_recipe_gets_ids_of_its_own(made: dict[str, Path], tmp_path: Path) -> None:
    """The first try failed after its IDs were made: they are not those that the corrected recipe asks for."""
    base, out, data = made["text"].parent / "base", tmp_path / "bundle", made["text"] / "data"
    wrong = code_recipe(data, out, base, codes={"levels": [4, 12]}, goals={"only": ["no-such-goal"]})
    with pytest.raises(LlmrecError, match="no-such-goal"):
        fit_codes(wrong)
    assert (tmp_path / "bundle.work" / "ids").is_dir() and not out.exists()
    codes = {"levels": [8, 8], "beam": 5, "questions": 12}
    assert fit_codes(code_recipe(data, out, base, codes=codes, train=TRAIN)).ids().sizes == (8, 8)


def test_mistakes_are_one_line_and_change_nothing(
    run: Run, made: dict[str, Path], copy: Path, tmp_path: Path
) -> None:
    good = rows(tmp_path, *NEW)
    for option in (("--id-part", "mean"), ("--strength", "0.5")):
        code, out, err = run("items", "add", copy, good, *option)
        assert code == 2 and out == "" and "leave --id-part and --strength out" in err
        assert len(err.splitlines()) == 1
    assert CodeBundle(copy).version == 1 and len(list_versions(copy)) == 1
    gone = Path(shutil.copytree(made["file"], tmp_path / "file"))
    source = made["file"].parent / "rows.npy"
    values = source.read_bytes()
    try:
        np.save(source, np.random.default_rng(9).standard_normal((24, 6)).astype(np.float32))
        with pytest.raises(BundleError, match="are not those that the IDs in .*file were made from") as error:
            add_items(gone, good)
        assert "\n" not in str(error.value)
        source.unlink()
        with pytest.raises(LlmrecError, match="there is no file .*rows.npy .*: put them back, or build new"):
            add_items(gone, good)
    finally:
        source.write_bytes(values)
    add_items(gone, good)
