"""Bundles: what is written is what is read, and what is not whole is refused in one line."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import tiny_recipe
from tiny_models import save_checkpoint, tiny_prepared

from llmrec.bundle import Bundle, write_bundle
from llmrec.data.events import Event
from llmrec.decode.contract import Filters, Request
from llmrec.errors import BundleError, LlmrecError
from llmrec.files import sha256_of
from llmrec.fit import fit
from llmrec.language_recommender import LanguageRecommender

ADAPTERS = ({"kind": "lora", "rank": 2}, {"kind": "prompt", "tokens": 3}, {"kind": "full"}, {"kind": "none"})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of our own, for tests that change it."""
    return save_checkpoint("llama", tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle with each kind of adapter; read only."""
    folder = tmp_path_factory.mktemp("bundles")
    shop = tiny_prepared(folder / "shop", users=12)
    recipes = (tiny_recipe(shop.directory, folder / a["kind"], base, adapter=a) for a in ADAPTERS)
    return {recipe.adapter.kind: fit(recipe).directory for recipe in recipes}


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle of a test's own."""
    return Path(shutil.copytree(made["lora"], tmp_path / "bundle"))


def requests(bundle: Bundle) -> list[Request]:
    histories = bundle.prepared.histories
    known = [Request(histories.history(user), user=user) for user in range(4)]
    return [
        *known,
        Request(()),
        replace(known[0], words="a red mug under 5"),
        Request((Event(3),), filters=Filters(exclude_seen=True)),
    ]


def tree(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): sha256_of(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def one_line(error: pytest.ExceptionInfo[LlmrecError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", ["lora", "prompt", "full", "none"])
def test_a_bundle_answers_the_same_wherever_it_lies_and_written_again(
    made: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    first = Bundle(made[kind])
    asked = requests(first)
    recommender = LanguageRecommender(first)
    scores, lists = recommender.scores(asked), recommender.recommend(asked, 7)
    moved = Bundle(shutil.copytree(made[kind], tmp_path / "moved"))
    np.testing.assert_array_equal(LanguageRecommender(moved).scores(asked), scores)
    assert LanguageRecommender(moved).recommend(asked, 7) == lists
    again = rewrite(first, tmp_path / "again")
    np.testing.assert_array_equal(LanguageRecommender(again).scores(asked), scores)
    assert again.recipe == first.recipe and again.templates.sources == first.templates.sources
    assert again.catalog.items == first.catalog.items


def rewrite(bundle: Bundle, directory: Path) -> Bundle:
    """Write what a bundle holds to another directory."""
    manifest = bundle.manifest
    return write_bundle(
        directory,
        bundle.recipe,
        bundle.prepared,
        bundle.templates,
        bundle.tokens(),
        bundle.model(),
        manifest["base"],
        manifest["training"],
    )


def test_the_manifest_says_what_it_is(made: dict[str, Path]) -> None:
    manifest = Bundle(made["lora"]).manifest
    assert manifest["kind"] == "llmrec bundle" and manifest["format"] == 1
    assert set(manifest["versions"]) == {"llmrec", "torch", "transformers", "peft"}
    assert manifest["data"]["items"] == 24 and len(manifest["base"]["fingerprint"]) == 16
    assert sorted(manifest["parts"]) == sorted(set(tree(made["lora"])) - {"manifest.json"})
    for kind, directory in made.items():
        names = {path.name for path in directory.iterdir()}
        assert ("backbone" in names) == (kind == "full")
        assert ("adapter" in names) == (kind in ("lora", "prompt"))
        assert not [path for path in directory.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".lock")]


@pytest.mark.parametrize("kind", ["lora", "prompt", "full"])
def test_every_part_that_is_missing_or_altered_is_named(
    made: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(made[kind], tmp_path / "bundle"))
    parts = Bundle(directory).manifest["parts"]
    assert len(parts) >= 12
    for name in parts:
        path = directory / name
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError, match="is missing: make the bundle again: llmrec finetune") as error:
            Bundle(directory)
        assert str(path) in one_line(error)
        path.mkdir()
        with pytest.raises(BundleError, match="is missing"):
            Bundle(directory)
        path.rmdir()
        for other in (content[:-1], content + b" ", bytes([content[0] ^ 1]) + content[1:], b""):
            path.write_bytes(other)
            with pytest.raises(BundleError, match="was altered .*: make the bundle again") as error:
                Bundle(directory)
            assert str(path) in one_line(error)
        path.write_bytes(content)
    Bundle(directory)


MANIFESTS = {
    "absent": (None, "is not a bundle"),
    "not json": ("{", "cannot be read as JSON"),
    "not text": (b"\xff\xfe\x00", "cannot be read as JSON"),
    "a list": ([], "of another kind"),
    "another kind": ({"kind": "prepared"}, "of another kind"),
    "another format": ({"format": 2}, "has bundle format 2, this llmrec .* reads 1"),
    "format of words": ({"format": "1"}, "has bundle format '1'"),
    "no parts": ({"parts": None}, "lists no parts"),
    "parts in a list": ({"parts": ["data"]}, "lists no parts"),
    "empty parts": ({"parts": {}}, "does not list"),
    "no recipe": ({"recipe": None}, "manifest.json: expected keys and values"),
    "a newer recipe": ({"recipe": {"novelty": 1}}, "unknown key 'novelty'"),
    "no base": ({"base": None}, "does not say its base model"),
}


@pytest.mark.parametrize(("change", "said"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_that_cannot_be_used_is_one_line(copy: Path, change: object, said: str) -> None:
    path = copy / "manifest.json"
    if change is None:
        path.unlink()
    elif isinstance(change, bytes | str):
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
    else:
        whole = json.loads(path.read_text())
        path.write_text(json.dumps({**whole, **change} if isinstance(change, dict) else change))
    with pytest.raises(BundleError, match=said) as error:
        Bundle(copy)
    line = one_line(error)
    assert str(copy) in line and "make the bundle again" in line


def test_what_is_no_directory_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BundleError, match="is not a bundle"):
            Bundle(path)


@pytest.mark.parametrize("other", ["llama", "gpt2"])
def test_an_adapter_meets_its_own_base_only(
    made: dict[str, Path], base: Path, tmp_path: Path, other: str
) -> None:
    saved = shutil.copytree(base, tmp_path / "saved")
    try:
        shutil.rmtree(base)
        save_checkpoint(other, base, seed=9)
        for kind in ("lora", "prompt", "none"):
            with pytest.raises(BundleError, match="trained on another .* than the one found here") as error:
                Bundle(made[kind]).model()
            assert str(base) in one_line(error)
        Bundle(made["full"]).model()  # it has its own
        shutil.rmtree(base)
        with pytest.raises(LlmrecError, match="no model"):
            Bundle(made["lora"]).model()
    finally:
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(saved, base)
    Bundle(made["lora"]).model()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to let any file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_full_disk_leaves_no_half_and_the_old_bundle_as_it_was(
    made: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    bundle = Bundle(made[kind])
    largest = max(path.stat().st_size for path in made[kind].rglob("*") if path.is_file())
    old = Path(shutil.copytree(made["none"], tmp_path / "old"))
    before = tree(old)
    for size in (0, 100, 2000, 6000, 10_000, 20_000, largest - 1):
        for target in (old, tmp_path / "new"):
            with files_of_at_most(size), pytest.raises(LlmrecError) as error:
                rewrite(bundle, target)
            assert "cannot write" in one_line(error) or "no space left" in one_line(error)
        assert tree(old) == before
        assert [path.name for path in tmp_path.iterdir()] == ["old"]
    rewrite(bundle, old)
    assert Bundle(old).recipe.adapter.kind == kind


def test_only_a_bundle_is_written_over(made: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle(made["none"])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    (tmp_path / "file").write_text("text")
    for name in ("photos", "file"):
        with pytest.raises(LlmrecError, match="exists and is not a bundle"):
            rewrite(bundle, tmp_path / name)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"
    assert (tmp_path / "file").read_text() == "text"
