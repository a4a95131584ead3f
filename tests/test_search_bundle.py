"""Bundles that are searched: made with an index or given one, and whole whatever happens to their items."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contract import RecommenderContract
from tiny_bundles import tiny_recipe
from tiny_models import save_checkpoint, tiny_prepared

from llmrec.bundle import INDEX, Bundle
from llmrec.change_items import add_items, retire_items, update_items
from llmrec.data.fact_columns import FACTS
from llmrec.decode.contract import Filters, Request
from llmrec.errors import BundleError, LlmrecError
from llmrec.fit import fit
from llmrec.index_bundle import index_bundle
from llmrec.language_recommender import LanguageRecommender
from llmrec.recommend import Shop
from llmrec.versions import list_versions

Run = Callable[..., tuple[int, str, str]]
INDEXED = {"kind": "hnsw", "exact_up_to": 0, "storage": "float16"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of one recipe but for the search: "plain" without a word of it, "indexed"; read only."""
    folder = tmp_path_factory.mktemp("bundles")
    base = save_checkpoint("llama", folder / "base")
    data = tiny_prepared(folder / "shop", users=12).directory
    changes = {"plain": {}, "indexed": {"search": INDEXED}}
    return {
        name: fit(tiny_recipe(data, folder / name, base, **change)).directory
        for name, change in changes.items()
    }


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Path:
    """An indexed bundle of a test's own."""
    return Path(shutil.copytree(made["indexed"], tmp_path / "bundle"))


def asked(bundle: Bundle) -> list[Request]:
    histories = bundle.prepared.histories
    return [
        Request(histories.history(user), words, user=user)
        for user, words in enumerate(["", "a red mug", "", "something under 5"])
    ]


@pytest.fixture(scope="module")
def exploring(made: dict[str, Path]) -> LanguageRecommender:
    """A recommender that explores: of 24 items it reaches each."""
    found = LanguageRecommender(Bundle(made["indexed"]))
    assert found.search.index is not None
    return found


class TestContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, exploring: LanguageRecommender) -> LanguageRecommender:
        return exploring

    @pytest.fixture
    def requests_of_users(self, exploring: LanguageRecommender) -> list[Request]:
        return asked(exploring.bundle)


def test_a_bundle_is_searched_as_its_recipe_says(made: dict[str, Path]):
    plain, indexed = Bundle(made["plain"]), Bundle(made["indexed"])
    assert plain.search().index is None and not (made["plain"] / INDEX).exists()
    assert plain.item_matrix().dtype == np.float32 and indexed.item_matrix().dtype == np.float16
    np.testing.assert_allclose(indexed.item_matrix(), plain.item_matrix(), rtol=1e-3, atol=1e-6)
    index = indexed.search().index
    assert index is not None and (index.kind, index.items, index.inner) == ("hnsw", 24, 8 + len(FACTS))
    parts = [name for name in indexed.manifest["parts"] if name.startswith(f"{INDEX}/")]
    names = ("index.json", "landmarks.npy", "neighbours.npy", "proposal.faiss")
    assert parts == [f"{INDEX}/{name}" for name in names]
    lists = [[each.item for each in row] for row in LanguageRecommender(indexed).recommend(asked(indexed), 5)]
    assert lists == [
        [each.item for each in row] for row in LanguageRecommender(plain).recommend(asked(plain), 5)
    ]


def test_a_bundle_from_before_there_was_search_is_searched_exactly(made: dict[str, Path], tmp_path: Path):
    directory = Path(shutil.copytree(made["plain"], tmp_path / "bundle"))
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["recipe"]["search"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    assert Bundle(directory).search().index is None
    assert len(Shop.open(directory).ask(user="u0", k=3).items) == 3


def test_a_large_catalogue_is_never_scored_whole(copy: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither for lists nor for wishes: what scores all items is not called."""
    recommender = LanguageRecommender(Bundle(copy))

    def never(*_: object) -> np.ndarray:
        raise AssertionError("all items were scored")

    monkeypatch.setattr(LanguageRecommender, "score", never)
    monkeypatch.setattr(LanguageRecommender, "_scores", never)
    assert all(len(row) == 4 for row in recommender.recommend(asked(recommender.bundle), 4))
    shop = Shop(recommender.bundle)
    assert len(shop.ask(user="u1", say="something under 5, not red", k=3).items) == 3


def test_altered_or_lost_indexes_are_refused(copy: Path):
    for name in ("neighbours.npy", "proposal.faiss"):
        path = copy / INDEX / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"x")
        with pytest.raises(BundleError, match="was altered"):
            Bundle(copy)
        path.unlink()
        with pytest.raises(BundleError, match="is missing"):
            Bundle(copy)
        path.write_bytes(content)
    Bundle(copy)


def test_an_index_follows_items_that_come_and_go(copy: Path, tmp_path: Path):
    """Items added are found at once although the index lacks them; a new index has them."""

    def rows(*values: dict) -> Path:
        path = tmp_path / "items.jsonl"
        path.write_text("\n".join(map(json.dumps, values)))
        return path

    add_items(copy, rows({"id": "n0", "title": "violet mug", "price": 3}, {"id": "n1", "title": "red cup"}))
    retire_items(copy, rows({"id": "i4"}))
    for turn in ("old index", "new index"):
        bundle = Bundle(copy)
        recommender = LanguageRecommender(bundle)
        index = recommender.search.index
        # Two rows of 26 are few: the index stays as it was until it is asked for anew.
        assert index is not None and index.items == (24 if turn == "old index" else 26)
        for row in recommender.recommend(asked(bundle), 30):
            assert {each.index for each in row} == set(range(26)) - {bundle.catalog.index("i4")}
        only = replace(asked(bundle)[0], filters=Filters(allowed_items=(24, 25)))
        assert {each.item for each in recommender.recommend([only], 5)[0]} == {"n0", "n1"}
        index_bundle(copy)
    # More than a tenth is many: the index is made anew at once.
    update_items(copy, rows(*({"id": f"i{at}", "title": "a wholly other thing"} for at in (3, 5, 6))))
    index = LanguageRecommender(Bundle(copy)).search.index
    assert index is not None and index.items == 26


def test_the_command_makes_another_index_as_a_new_version(made: dict[str, Path], tmp_path: Path, run: Run):
    directory = Path(shutil.copytree(made["plain"], tmp_path / "bundle"))
    before = LanguageRecommender(Bundle(directory)).recommend(asked(Bundle(directory)), 5)
    code, out, _ = run("index", str(directory), "--kind", "hnsw")
    assert code == 0 and "hnsw over 24 items" in out and "version 2" in out
    bundle = Bundle(directory)
    assert bundle.recipe.search.kind == "hnsw" and (directory / INDEX / "index.json").is_file()
    assert [version.change["kind"] for version in list_versions(directory)] == ["fit", "index"]
    again = LanguageRecommender(bundle).recommend(asked(bundle), 5)
    assert [[each.item for each in row] for row in again] == [[each.item for each in row] for row in before]
    code, out, _ = run("index", str(directory), "--kind", "exact")
    assert code == 0 and "every item is scored" in out
    assert not (directory / INDEX).exists() and Bundle(directory).search().index is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [("annoy", "must be one of: auto, exact, hnsw, ivfpq"), ("ivfpq", "needs 1,000 items")],
)
def test_an_index_that_cannot_be_made_leaves_the_bundle_as_it_was(copy: Path, run: Run, kind: str, said: str):
    code, _, err = run("index", str(copy), "--kind", kind)
    assert code == 2 and said in err and err.count("\n") == 1
    assert Bundle(copy).version == 1 and [path.name for path in copy.parent.iterdir() if path != copy] in (
        [],
        [f".{copy.name}.lock"],
    )
    assert run("index", str(copy.parent / "nothing"))[0] == 2


def test_a_recipe_that_no_index_fits_fails_before_training(made: dict[str, Path], tmp_path: Path):
    recipe = Bundle(made["plain"]).recipe
    few = replace(recipe, out=str(tmp_path / "bundle"), search=replace(recipe.search, kind="ivfpq"))
    with pytest.raises(LlmrecError, match="ivfpq needs 1,000 items, the catalogue has 24: choose auto"):
        fit(few)
    assert not (tmp_path / "bundle.work" / "run").exists()
