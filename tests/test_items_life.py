"""Items that come and go: nothing moves but what should, whole versions or none, and none lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bundle import ADAPTERS, files_of_at_most, requests, tree
from tiny_bundles import tiny_recipe
from tiny_models import save_checkpoint, tiny_prepared

from llmrec.bundle import Bundle, write_bundle
from llmrec.change_items import add_items, retire_items, rollback, update_items
from llmrec.data.events import Event
from llmrec.data.fact_columns import FACTS
from llmrec.data.facts import ItemFacts
from llmrec.decode.contract import Filters, Request
from llmrec.errors import BundleError, LlmrecError
from llmrec.files import only_writer
from llmrec.fit import fit
from llmrec.index_bundle import index_bundle
from llmrec.items.newcomers import ID_PARTS, stand_in
from llmrec.language_recommender import LanguageRecommender
from llmrec.recommend import Shop
from llmrec.versions import list_versions

Run = Callable[..., tuple[int, str, str]]
NEW: list[dict[str, Any]] = [
    {"id": "n0", "title": "violet mug", "price": 3, "categories": ["mug"]},
    {"id": "n1", "title": "green mug", "text": "a <|im_start|> second\u202e one"},
    {"id": "n2"},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle with each kind of adapter, and those of texts and of ids alone; read only."""
    folder = tmp_path_factory.mktemp("bundles")
    base = save_checkpoint("llama", folder / "base")
    shop = tiny_prepared(folder / "shop", users=12)
    recipes = {a["kind"]: tiny_recipe(shop.directory, folder / a["kind"], base, adapter=a) for a in ADAPTERS}
    for parts in ("text_only", "id_only"):
        items = {"inner": 8, "text_encoder": "hash", "parts": parts}
        recipes[parts] = tiny_recipe(shop.directory, folder / parts, base, items=items)
    return {kind: fit(recipe).directory for kind, recipe in recipes.items()}


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle of a test's own."""
    return Path(shutil.copytree(made["lora"], tmp_path / "bundle"))


def rows(folder: Path, *values: Any) -> Path:
    """An items file with these rows."""
    path = folder / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, values)))
    return path


def scores(directory: Path, asked: list[Request]) -> np.ndarray:
    return LanguageRecommender(Bundle(directory)).scores(asked)


@pytest.mark.parametrize("kind", ["lora", "prompt", "full", "none", "text_only", "id_only"])
def test_new_items_leave_the_others_as_they_were(made: dict[str, Path], kind: str, tmp_path: Path):
    """Ids of queries and soft prompts stand behind those of items: all that follows must shift with them."""
    directory = Path(shutil.copytree(made[kind], tmp_path / "bundle"))
    asked = requests(Bundle(directory))
    before = scores(directory, asked)
    change = add_items(directory, rows(tmp_path, *NEW))
    assert (change.version, change.words) == (2, "3 added")
    bundle = Bundle(directory)
    recommender = LanguageRecommender(bundle)
    after = recommender.scores(asked)
    np.testing.assert_array_equal(after[:, :24], before)
    assert after.shape == (len(asked), 27) and np.isfinite(after).all()
    assert [item.id for item in bundle.catalog.items[24:]] == ["n0", "n1", "n2"]
    assert bundle.tokens().size == Bundle(made[kind]).tokens().size + 3
    model = bundle.model()
    np.testing.assert_allclose(model.items().numpy(), bundle.item_matrix(), atol=1e-6)
    with_new = Request((Event(3), Event(24), Event(25), Event(26)))
    assert np.abs(recommender.scores([with_new]) - recommender.scores([Request((Event(3),))])).max() > 0
    assert {each.index for each in recommender.recommend([with_new], 27)[0]} == set(range(27))


@pytest.mark.parametrize("how", ID_PARTS)
def test_what_stands_in_for_an_id_part(copy: Path, tmp_path: Path, how: str):
    old = Bundle(copy).model().items
    add_items(copy, rows(tmp_path, *NEW), how, 0.25)
    bundle = Bundle(copy)
    new, ids = bundle.model().items, old.id_part.numpy()
    events = np.unique(bundle.prepared.train("leave-last-out").items)
    known, vectors = old.text_vectors.numpy()[events], new.text_vectors.numpy()[24:]
    expected = stand_in(vectors, known, ids[events], how, strength=0.25)
    np.testing.assert_allclose(new.id_part.numpy()[24:], expected, atol=1e-6)
    np.testing.assert_array_equal(new.id_part.numpy()[:24], ids)
    if how == "zero":
        assert not expected.any()
    if how == "mean":
        np.testing.assert_allclose(expected[2], ids[events].mean(axis=0), atol=1e-6)
    assert bundle.manifest["change"]["id_part"] == how and bundle.manifest["trained_items"] == 24


@pytest.mark.parametrize("how", ID_PARTS)
def test_what_stands_in_follows_the_text(copy: Path, tmp_path: Path, how: str):
    """An added item that is then called something else is as if it had been added so; a learnt part stays."""
    other = tmp_path / "other"
    shutil.copytree(copy, other)
    add_items(copy, rows(tmp_path, {"id": "n0", "title": "red garden mug"}), how, 0.25)
    update_items(copy, rows(tmp_path, {"id": "n0", "title": "silver teapot"}, {"id": "i3", "title": "lamp"}))
    add_items(other, rows(tmp_path, {"id": "n0", "title": "silver teapot"}), how, 0.25)
    changed, at_once = Bundle(copy).model().items.id_part, Bundle(other).model().items.id_part
    np.testing.assert_array_equal(changed.numpy(), at_once.numpy())
    assert "id_part" not in Bundle(copy).manifest["change"]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12))
def test_neighbours_are_the_nearest_texts(seed: int, new: int, known: int, neighbours: int):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((n, 4)).astype(np.float32) for n in (new, known))
    ids = rng.standard_normal((known, 3)).astype(np.float32)
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))
    plain, half, full = (stand_in(a, b, ids, "neighbours", neighbours, s) for s in (0, 0.5, 1))
    for row, vector in enumerate(a):
        similar = b @ vector
        nearest = np.argsort(-similar)[:neighbours]
        weights = np.clip(similar[nearest], 0, None) ** 8
        if weights.sum() == 0:
            assert (plain[row] == full[row]).all() and np.allclose(full[row], ids.mean(axis=0), atol=1e-6)
            continue
        weights /= weights.sum()
        np.testing.assert_allclose(plain[row], weights @ ids[nearest], rtol=1e-3, atol=1e-5)
        lengths = [np.linalg.norm(each[row]) for each in (plain, half, full)]
        wanted = weights @ np.linalg.norm(ids[nearest], axis=1)
        np.testing.assert_allclose(lengths[1:], [np.sqrt(lengths[0] * wanted), wanted], rtol=1e-2, atol=1e-5)


def test_a_retired_item_is_never_recommended_and_still_remembered(copy: Path, tmp_path: Path):
    five, six, seven = Bundle(copy).catalog.indices(["i5", "i6", "i7"])
    two = Request((Event(five), Event(six)), filters=Filters(allowed_items=(five, seven)))
    asked = [*requests(Bundle(copy)), two]
    before = scores(copy, asked)
    path = tmp_path / "gone.txt"
    path.write_text("i5\ni6\n")
    assert retire_items(copy, path).words == "2 retired"
    recommender = LanguageRecommender(Bundle(copy))
    np.testing.assert_array_equal(recommender.scores(asked), before)
    for answers in recommender.recommend(asked, 24):
        assert not {each.item for each in answers} & {"i5", "i6"}
    assert [each.item for each in recommender.recommend(asked[-1:], 24)[0]] == ["i7"]
    back = add_items(copy, rows(tmp_path, {"id": "i5", "title": "blue bag"}, {"id": "n0"}))
    assert back.words == "1 added, 1 brought back"
    bundle = Bundle(copy)
    assert bundle.catalog.index("i5") == five and bundle.catalog.retired.nonzero()[0].tolist() == [six]
    assert bundle.manifest["data"]["items"] == bundle.prepared.manifest["counts"]["items"] == 25
    assert bundle.prepared.manifest["counts"]["items_retired"] == 1


def test_an_update_reaches_filters_words_and_one_row(copy: Path, tmp_path: Path):
    old = np.array(Bundle(copy).item_matrix())
    change = update_items(copy, rows(tmp_path, {"id": "i1", "price": 99}, {"id": "i2", "categories": "new"}))
    assert change.words == "2 updated"
    bundle = Bundle(copy)
    price = np.arange(old.shape[1]) >= old.shape[1] - len(FACTS)  # what of a row a price is part of
    different = ~np.isclose(bundle.item_matrix(), old, atol=1e-6)
    assert different[1].any() and not different[:, ~price].any() and not np.delete(different, 1, axis=0).any()
    old = np.array(bundle.item_matrix())
    dear = Filters(min_price=90)
    assert [
        each.item for each in LanguageRecommender(bundle).recommend([Request((), filters=dear)], 5)[0]
    ] == ["i1"]
    update_items(copy, rows(tmp_path, {"id": "i2", "title": "silver teapot"}))
    bundle = Bundle(copy)
    changed = (bundle.item_matrix() != old).any(axis=1)
    place = bundle.catalog.index("i2")
    assert changed.nonzero()[0].tolist() == [place]
    assert [a.title for a in Shop(bundle).ask(history=["i1"], say="a teapot").items] == ["silver teapot"]
    assert bundle.catalog[place].categories == ("new",) and bundle.version == 3
    same = update_items(copy, rows(tmp_path, {"id": "i2", "title": "silver teapot"}))
    assert (same.version, same.words) == (3, "") and len(list_versions(copy)) == 3


def test_versions_are_listed_loadable_cheap_and_current_again(run: Run, copy: Path, tmp_path: Path):
    asked = requests(Bundle(copy))
    first = scores(copy, asked)
    assert run("items", "add", copy, rows(tmp_path, *NEW), "--id-part", "mean")[0] == 0
    ids = tmp_path / "gone.txt"
    ids.write_text("n1")
    assert run("items", "retire", copy, ids)[1] == f"1 retired: {copy} is now version 3\n"
    third = tree(copy)
    code, out, err = run("items", "versions", copy)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "24 items  fit" in lines[0] and "27 items  retire: 1 retired (n1)" in lines[2]
    assert "27 items  add: 3 added (n0, n1, n2), id part: mean" in lines[1]
    older = Path(f"{copy}.versions")
    np.testing.assert_array_equal(scores(older / "1", asked), first)
    assert not Bundle(older / "2").catalog.retired.any()
    for name in ("adapter/adapter_model.safetensors", "data/events.parquet", "tokenizer/tokenizer.json"):
        assert (copy / name).stat().st_ino == (older / "1" / name).stat().st_ino
    assert (copy / "item_matrix.npy").stat().st_ino == (older / "2" / "item_matrix.npy").stat().st_ino
    assert run("items", "rollback", copy, "1")[1] == f"{copy} is now version 4, with what version 1 has\n"
    np.testing.assert_array_equal(scores(copy, asked), first)
    assert tree(older / "3") == third and "rollback: as version 1" in run("items", "versions", copy)[1]
    add_items(copy, rows(tmp_path, NEW[0]))
    assert Bundle(copy).version == 5 and len(Bundle(copy).catalog) == 25
    rollback(copy, 3)
    assert len(Bundle(copy).catalog) == 27 and Bundle(copy).version == 6


def test_mistakes_are_one_line_and_change_nothing(run: Run, copy: Path, tmp_path: Path):
    before = tree(copy)
    good, wrong = rows(tmp_path, *NEW), tmp_path / "wrong.jsonl"
    wrong.write_text('{"id": "i1"}\n{"id": "x", "price": "\\u001b[2J9"}\n')
    code, out, err = run("items", "add", copy, wrong)
    assert code == 2 and out == "" and "\x1b" not in err
    assert err.splitlines() == [
        "error: items: price not a number (column price): 1 row",
        f"  {wrong} row 2: '\\x1b[2J9'",
        f"llmrec: {wrong}: 1 error, nothing was changed; first: items: price not a number (column price): "
        f"1 row, the first in {wrong} row 2",
    ]
    told = [
        (("add", copy, tmp_path / "nowhere"), "does not exist"),
        (("add", copy, good, "--id-part", "best"), "choose one of: neighbours, mean, zero"),
        (("add", copy, good, "--strength", "1.5"), "the strength is 1.5, it must be from 0 to 1"),
        (("add", copy, good, "--strength", "nan"), "the strength is nan"),
        (("add", tmp_path / "nowhere", good), "is no version of a bundle"),
        (("add", copy / "data", good), "is no version of a bundle"),
        (("update", copy, good), "not in the catalogue (column id): 3 rows"),
        (("retire", copy, good), "unknown field"),
        (("versions", tmp_path), "is no version of a bundle"),
        (("rollback", copy, "1"), "has no older version 1, it has: none"),
        (("rollback", copy, "x"), "valid integer"),
    ]
    for arguments, said in told:
        code, out, err = run("items", *arguments)
        assert code == 2 and out == "" and said in err and "Traceback" not in err, (arguments, err)
    with only_writer(copy):
        code, _, err = run("items", "add", copy, good)
    assert code == 2 and f"another run is writing {copy}" in err
    assert tree(copy) == before and not Path(f"{copy}.versions").exists()
    add_items(copy, good)
    with pytest.raises(BundleError, match=r"is an older version of .*bundle: .*llmrec items rollback .* 1`"):
        add_items(Path(f"{copy}.versions/1"), good)


def test_a_full_disk_leaves_the_version_as_it_was(copy: Path, tmp_path: Path):
    path = rows(tmp_path, *NEW)
    add_items(copy, path)
    before = tree(copy)
    path = rows(tmp_path, {"id": "n9", "title": "a red violin"})
    for size in (0, 100, 1000, 3000, 20_000, 40_000):
        with files_of_at_most(size), pytest.raises(LlmrecError, match="cannot write|no space left") as error:
            add_items(copy, path)
        assert "\n" not in str(error.value)
        assert tree(copy) == before
        assert not [each for each in tmp_path.rglob("*") if each.name.endswith((".part", ".old"))]
    add_items(copy, path)
    assert [version.number for version in list_versions(copy)] == [1, 2, 3]


CRASHES = """
import json, os, shutil, sys
from pathlib import Path

from llmrec.bundle import Bundle
from llmrec.change_items import add_items
from llmrec.versions import list_versions

MUTATIONS = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod", "shutil.copyfile"}
place, items, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
add_items(shutil.copytree(place, place.with_name("first")), items)  # so that all is imported
found, moment = [], 1
while moment < most:
    child = os.fork()
    if child == 0:
        left = moment

        def watch(event, arguments):
            global left
            if event != "open" and event not in MUTATIONS:
                return
            reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            if not reads and "bundle" in str(arguments[0]):
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(watch)
        add_items(place, items)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    versions = [(v.number, v.items) for v in list_versions(place)]
    found.append([os.waitstatus_to_exitcode(status), len(Bundle(place).catalog), versions])
    if found[-1][0] == 0 or len(Bundle(place).catalog) > 24:
        break
    moment += 6
print(json.dumps([moment, found]))
"""


def test_whenever_it_is_killed_a_whole_version_is_there(copy: Path, tmp_path: Path):
    """The process dies at every sixth change of the file system; after each the bundle opens as it was."""
    command = [sys.executable, "-W", "ignore", "-c", CRASHES, str(copy), str(rows(tmp_path, *NEW)), "200"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert result.returncode == 0, result.stderr
    moment, found = json.loads(result.stdout)
    assert moment > 30 and {code for code, *_ in found[:-1]} == {9}
    for _, items, versions in found[:-1]:
        assert items == 24 and versions == [[1, 24]]
    assert found[-1][1:] == [27, [[1, 24], [2, 27]]]
    assert len(Bundle(Path(f"{copy}.versions/1")).catalog) == 24


def test_parts_of_two_versions_are_never_mixed(copy: Path, tmp_path: Path):
    bundle = Bundle(copy)
    add_items(copy, rows(tmp_path, *NEW))
    for part in (bundle.item_matrix, bundle.head, bundle.model, bundle.engine):
        with pytest.raises(BundleError, match="was changed while it was being read: run this again"):
            part()


def test_training_anew_goes_on_with_the_numbers(made: dict[str, Path], copy: Path, tmp_path: Path):
    bundle = Bundle(made["full"])
    parts = (bundle.recipe, bundle.prepared, bundle.templates, bundle.tokens(), bundle.model())
    manifest = bundle.manifest
    add_items(copy, rows(tmp_path, *NEW))
    again = write_bundle(copy, *parts, manifest["base"], manifest["training"])
    assert again.version == 3 and len(again.catalog) == 24
    assert [(v.number, v.items) for v in list_versions(copy)] == [(1, 24), (2, 27), (3, 24)]


def test_versions_of_another_bundle_are_not_mixed_in(made: dict[str, Path], copy: Path, tmp_path: Path):
    add_items(copy, rows(tmp_path, *NEW))
    shutil.rmtree(copy)
    shutil.copytree(made["full"], copy)
    shutil.rmtree(f"{copy}.versions/1")
    assert add_items(copy, rows(tmp_path, *NEW)).version == 2
    with pytest.raises(LlmrecError, match="is a version of another bundle: move"):
        shutil.rmtree(copy)
        shutil.copytree(made["none"], copy)
        add_items(copy, rows(tmp_path, *NEW))


def test_another_encoder_is_refused(made: dict[str, Path], tmp_path: Path):
    """Texts of one catalogue must be read by one encoder; here a tiny model, then one of other weights."""
    encoder = save_checkpoint("llama", tmp_path / "encoder")
    old = Bundle(made["none"])
    items = {"inner": 8, "text_encoder": str(encoder)}
    recipe = tiny_recipe(
        old.prepared.directory, tmp_path / "bundle", old.recipe.model, items=items, adapter={"kind": "none"}
    )
    directory = fit(recipe).directory
    add_items(directory, rows(tmp_path, NEW[0]))
    shutil.rmtree(encoder)
    save_checkpoint("llama", encoder, seed=9)
    with pytest.raises(BundleError, match="text encoder .* found here is not the one"):
        add_items(directory, rows(tmp_path, NEW[1]))
    update_items(directory, rows(tmp_path, {"id": "n0", "price": 1}))  # no text is read


def test_new_items_are_fresh_and_unknown_to_the_many(copy: Path, tmp_path: Path):
    add_items(copy, rows(tmp_path, *NEW))
    bundle = Bundle(copy)
    facts = ItemFacts.from_histories(bundle.catalog, bundle.prepared.train("leave-last-out"))
    assert facts.fresh()[24:].all() and not facts.fresh()[:24].any()
    assert facts.tail[24:].all() and not facts.counts[24:].any()
    assert not facts.fresh(int(bundle.prepared.histories.times.max()))[24:].any()


def test_the_search_index_follows(copy: Path, tmp_path: Path):
    """A few changed rows are searched beside the index; more make it anew, here 3 of 28 items."""
    index_bundle(copy, "hnsw")
    indexed = (copy / "index" / "index.json").stat().st_ino
    add_items(copy, rows(tmp_path, NEW[0]))
    update_items(copy, rows(tmp_path, {"id": "i3", "title": "silver teapot"}))
    assert (copy / "index" / "index.json").stat().st_ino == indexed
    assert Bundle(copy).manifest["stale_rows"] == 2 and Bundle(copy).search().index.items == 24
    asked = [Request((Event(at),)) for at in range(24)]
    recommender = LanguageRecommender(Bundle(copy))
    every = [{each.index for each in answers} for answers in recommender.recommend(asked, 25)]
    assert every == [set(range(25))] * 24
    update_items(copy, rows(tmp_path, {"id": "i3", "categories": "Tea"}))
    assert Bundle(copy).manifest["stale_rows"] == 2  # no row changed
    add_items(copy, rows(tmp_path, *NEW[1:]))
    assert Bundle(copy).manifest["stale_rows"] == 0 and Bundle(copy).search().index.items == 27
    add_items(copy, rows(tmp_path, {"id": "n9", "title": "red kite"}))
    retire_items(copy, rows(tmp_path, {"id": "n9"}))
    index_bundle(copy)
    assert Bundle(copy).manifest["stale_rows"] == 0
    assert "n9" not in [each.item for each in LanguageRecommender(Bundle(copy)).recommend(asked, 28)[0]]
