"""Item IDs: no two alike, for good; new items, full books, and directories that were tampered with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from llmrec.errors import DataError, LlmrecError, UnknownIdError
from llmrec.items.collisions import Room, Settler
from llmrec.items.id_crowding import FEW, crowding
from llmrec.items.id_files import generation_of, load_ids, save_ids
from llmrec.items.ids import COLLISIONS, ItemIds, build_ids
from llmrec.items.quantise.codebooks import Codebooks
from llmrec.items.quantise.residual import ResidualQuantiser
from llmrec.items.quantise.settings import KINDS, QuantiserSettings, RqVaeSettings

SMALL = RqVaeSettings(hidden=(6,), inner=3, epochs=2, batch=16)
NUMPY = tuple(kind for kind in KINDS if kind != "rqvae")


def vectors_of(most: int) -> st.SearchStrategy[np.ndarray]:
    """Vectors of width 3 of which many are equal."""
    shape = st.tuples(st.integers(1, most), st.just(3))
    return arrays.arrays(np.float32, shape, elements=st.integers(-2, 2).map(float))


def setting(kind: str, sizes: tuple[int, ...] = (4, 4, 4)) -> QuantiserSettings:
    return QuantiserSettings(kind, sizes, 4, SMALL)


def names(ids: ItemIds) -> list[str]:
    return [f"item {at}" for at in range(len(ids))]


def check(ids: ItemIds, items: int) -> None:
    """What always holds: distinct codes in range, found again, and no more items a code than it takes."""
    assert len(ids) == items and ids.codes.shape == (items, len(ids.sizes))
    assert len(np.unique(ids.codes, axis=0)) == items
    assert (ids.codes >= 0).all() and (ids.codes < np.array(ids.sizes)).all()
    np.testing.assert_array_equal(ids.items_of(ids.codes), np.arange(items))
    _, counts = np.unique(ids.quantised, axis=0, return_counts=True)
    assert counts.max() <= ids.capacity
    if ids.collisions == "token":
        np.testing.assert_array_equal(ids.quantised[: ids.built], ids.wanted[: ids.built])


@pytest.mark.parametrize("collisions", COLLISIONS)
@pytest.mark.parametrize("kind", NUMPY)
@settings(deadline=None, max_examples=20)
@given(first=vectors_of(40), more=st.lists(vectors_of(8), max_size=3))
def test_ids_differ_and_never_move(kind: str, collisions: str, first: np.ndarray, more: list[np.ndarray]):
    ids = build_ids(first, setting(kind), collisions, reserve=30)
    check(ids, len(first))
    for new in more:
        grown = ids.added(new)
        check(grown, len(ids) + len(new))
        np.testing.assert_array_equal(grown.codes[: len(ids)], ids.codes)
        np.testing.assert_array_equal(grown.wanted[len(ids) :], ids.quantiser.codes(new))
        assert (grown.sizes, grown.built, grown.generation) == (ids.sizes, len(first), 1)
        ids = grown


@pytest.mark.parametrize("collisions", COLLISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_ids_are_the_same(kind: str, collisions: str, tmp_path: Path):
    rng = np.random.default_rng(0)
    first, new = (
        rng.standard_normal((50, 6)).astype(np.float32),
        rng.standard_normal((9, 6)).astype(np.float32),
    )
    sizes = (8, 8, 8)
    ids = build_ids(np.concatenate([first, first[:3]]), setting(kind, sizes), collisions, generation=4).added(
        new
    )
    save_ids(ids, tmp_path / "ids", names(ids))
    kept = load_ids(tmp_path / "ids", names(ids))
    for name in ("codes", "wanted", "costs"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(ids, name))
    for name in ("sizes", "collisions", "generation", "built"):
        assert getattr(kept, name) == getattr(ids, name)
    assert kept.quantiser.settings == ids.quantiser.settings
    np.testing.assert_array_equal(kept.added(first[:5]).codes, ids.added(first[:5]).codes)
    assert generation_of(tmp_path / "ids") == 4 and generation_of(tmp_path) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("collisions", COLLISIONS)
@pytest.mark.parametrize("items", [1, 2, 40])
def test_equal_vectors_get_different_ids(kind: str, collisions: str, items: int):
    for vectors in (np.zeros((items, 2), np.float32), np.full((items, 5), 3.0, np.float32)):
        check(build_ids(vectors, setting(kind), collisions), items)


def by_hand(*books: list[float]) -> ResidualQuantiser:
    """A quantiser of numbers."""
    arrays_ = tuple(np.array(book, dtype=np.float32)[:, None] for book in books)
    prices = tuple(np.zeros(len(book), dtype=np.float32) for book in books)
    return ResidualQuantiser(setting("kmeans", tuple(map(len, books))), Codebooks(arrays_, prices))


def settled(quantiser: ResidualQuantiser, numbers: list[float], capacity: int = 1) -> list[list[int]]:
    """Codes of numbers that come at once."""
    vectors = np.array(numbers, dtype=np.float32)[:, None]
    room = Room(quantiser.settings.sizes, capacity, np.zeros((0, len(quantiser.settings.sizes)), np.int32))
    return Settler(quantiser, room).settle(vectors, quantiser.codes(vectors)).tolist()


def test_the_nearest_keeps_its_code_and_the_others_take_the_next_best():
    quantiser = by_hand([0, 100], [0, 1, 5, -9])
    # All three want 0; the second is nearest, the first has the shorter way to 1.
    assert settled(quantiser, [0.2, 0.0, -0.3]) == [[0, 1], [0, 0], [0, 2]]
    assert settled(quantiser, [0.0, 0.0, 0.0]) == [[0, 0], [0, 1], [0, 2]]  # equal: in their order
    assert settled(quantiser, [0.2, 0.0, -0.3], capacity=2) == [[0, 0], [0, 0], [0, 1]]
    # Who has to move farthest moves last: -0.4 is turned down at 1 and 5.
    assert settled(quantiser, [0.0, -0.4, 0.1, 0.3]) == [[0, 0], [0, 3], [0, 2], [0, 1]]


def test_a_full_prefix_sends_items_one_level_up():
    quantiser = by_hand([0, 10, 100], [0, 1])
    # 0.0 and 1.0 keep what is theirs; of the others, 10 is nearer than 100.
    codes = settled(quantiser, [0.0, 1.0, 1.2, -0.4])
    assert codes[:2] == [[0, 0], [0, 1]] and sorted(codes[2:]) == [[1, 0], [1, 1]]
    # Two levels up, and below it again the best that is free; 0.2 has the shortest way to 3.
    assert settled(by_hand([0, 50], [0, 3], [0]), [0.0, 0.1, 0.2]) == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_full_books_take_nobody():
    vectors = np.concatenate([np.zeros((6, 2)), np.full((2, 2), 9.0)]).astype(np.float32)
    ids = build_ids(vectors, setting("kmeans", (2, 4)))
    check(ids, 8)
    with pytest.raises(LlmrecError, match=r"1 new items do not fit, levels 2,4 have 0 free IDs.*generation"):
        ids.added(vectors[:1])
    np.testing.assert_array_equal(ids.added(vectors[:0]).codes, ids.codes)


def test_a_last_token_has_numbers_in_reserve():
    codes = np.array([[0, 0], [0, 1], [0, 2], [1, 0]], dtype=np.int32)
    costs = np.zeros((4, 2), dtype=np.float32)
    ids = ItemIds(codes, (2, 5), codes[:, :1].copy(), costs, "token", 1, 4, by_hand([0, 5]))
    vectors = np.zeros((4, 1), dtype=np.float32)
    grown = ids.added(vectors[:2])
    assert grown.codes[4:].tolist() == [[0, 3], [0, 4]]
    full = grown.added(vectors[:1])  # no number is left: the other code's
    assert full.codes[6].tolist() == [1, 1] and full.costs[6].tolist() == [0, 25]
    with pytest.raises(LlmrecError, match="4 new items do not fit, levels 2,5 have 3 free IDs"):
        full.added(vectors)
    built = build_ids(vectors, setting("kmeans", (2,)), "token", reserve=2)
    assert built.sizes == (2, 6) and built.codes[:, 1].tolist() == [0, 1, 2, 3]


def test_too_many_items_for_the_codes():
    vectors = np.arange(10, dtype=np.float32)[:, None]
    with pytest.raises(LlmrecError, match="10 items do not fit into the 8 codes of levels 2,4"):
        build_ids(vectors, setting("kmeans", (2, 4)))
    check(build_ids(vectors, setting("kmeans", (2, 4)), "token"), 10)
    with pytest.raises(LlmrecError, match="relocate, token"):
        build_ids(vectors, setting("kmeans"), "ignore")
    with pytest.raises(LlmrecError, match=r"more than 2\^62"):
        build_ids(vectors, setting("kmeans", (1 << 20,) * 3), "token")
    with pytest.raises(DataError, match="not finite"):
        build_ids(vectors * np.nan, setting("kmeans"))


def test_codes_and_items_find_each_other():
    ids = build_ids(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32), setting("kmeans"))
    assert all(ids.item_of(codes) == item for item, codes in enumerate(ids.codes.tolist()))
    with pytest.raises(UnknownIdError, match="no item has the codes 4,0,0"):
        ids.item_of((4, 0, 0))
    assert ids.items_of(np.array([[-1, 0, 0], [0, 0, 99], ids.codes[7]])).tolist() == [-1, -1, 7]
    with pytest.raises(ValueError, match="read-only"):
        ids.codes[0, 0] = 1


def changed(ids: ItemIds, **other: object) -> ItemIds:
    fields = ("codes", "sizes", "wanted", "costs", "collisions", "generation", "built", "quantiser")
    return ItemIds(**{**{name: getattr(ids, name) for name in fields}, **other})


def test_arrays_that_are_no_ids_are_refused():
    ids = build_ids(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32), setting("kmeans"))
    twice, outside = ids.codes.copy(), ids.codes.copy()
    twice[3], outside[3, 0] = twice[4], 4
    for other, said in (
        ({"codes": twice}, "two items have the same codes"),
        ({"codes": outside}, "codes outside of levels 4,4,4"),
        ({"wanted": ids.wanted[:-1]}, "other shapes"),
        ({"sizes": (4, 4, 8)}, "do not fit relocate"),
        ({"collisions": "token"}, "do not fit token"),
        ({"built": 21}, "other shapes"),
    ):
        with pytest.raises(LlmrecError, match=said):
            changed(ids, **other)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kept") / "ids"
    ids = build_ids(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32), setting("kmeans"))
    save_ids(ids, directory, names(ids))
    return directory


def manifest(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def spoil(directory: Path) -> None:
        values = json.loads((directory / "manifest.json").read_text())
        change(values)
        (directory / "manifest.json").write_text(json.dumps(values))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda ids: (ids / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda ids: (ids / "manifest.json").write_text("[]"), "no item IDs that this llmrec reads"),
        (lambda ids: (ids / "manifest.json").write_text("{"), "cannot be read as JSON"),
        (lambda ids: (ids / "ids.safetensors").unlink(), "ids.safetensors is missing"),
        (lambda ids: (ids / "quantiser.safetensors").write_bytes(b"x"), "quantiser.safetensors was altered"),
        (manifest(lambda values: values.update(format=9)), "no item IDs that this llmrec reads"),
        (manifest(lambda values: values.pop("quantiser")), "cannot be used"),
        (manifest(lambda values: values["quantiser"].pop("kind")), "cannot be used"),
        (manifest(lambda values: values["quantiser"].update(extra=1)), "cannot be used"),
        (manifest(lambda values: values.update(levels=[4, 4])), "do not fit"),
        (manifest(lambda values: values.update(items=3)), "other items"),
        (manifest(lambda values: values.update(built=0)), "other shapes"),
        (manifest(lambda values: values.update(parts=[])), "cannot be used"),
    ],
)
def test_a_spoilt_directory_is_one_clear_error(saved: Path, tmp_path: Path, spoil: Callable, said: str):
    directory = tmp_path / "ids"
    directory.mkdir()
    for file in saved.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    spoil(directory)
    with pytest.raises(LlmrecError, match=said) as error:
        load_ids(directory)
    assert "\n" not in str(error.value)


def test_ids_are_of_one_catalogue(saved: Path, tmp_path: Path):
    own = [f"item {at}" for at in range(20)]
    assert len(load_ids(saved, own)) == 20
    for other in (own[:-1], own[::-1], [*own[:-1], "item"]):
        with pytest.raises(LlmrecError, match="another catalogue"):
            load_ids(saved, other)
    with pytest.raises(LlmrecError, match="not those of a catalogue of 19 items"):
        save_ids(load_ids(saved), tmp_path / "ids", own[:-1])
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_written_over(saved: Path, tmp_path: Path):
    ids = load_ids(saved)
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(LlmrecError, match="other files"):
        save_ids(ids, tmp_path, names(ids))
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def spread(items: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((items, 4)).astype(np.float32)


def test_the_report_says_when_it_is_time_to_retrain():
    ids = build_ids(spread(400, 0), setting("kmeans", (16, 16, 16)))
    said = crowding(ids)
    assert (said.added, said.reasons, said.free) == (
        0,
        (),
        16**3 - 400,
    ) and "No items were added" in said.sentence
    few = crowding(ids.added(spread(30, 1)))
    assert few.reasons == () and "still hold" in few.sentence and few.added == 30
    assert few.free == 16**3 - 430 and 0 < few.free_near <= 16 and few.distance > few.distance_built
    many = crowding(ids.added(spread(120, 2)))
    assert many.reasons == ("the catalogue has grown by 30%",) and many.sentence.startswith("It is time")
    one = np.tile(spread(1, 3), (60, 1))
    reasons = crowding(ids.added(one)).reasons
    assert any("farther code" in reason for reason in reasons)
    assert any("unlike items" in reason for reason in reasons)
    assert crowding(ids.added(one[: FEW - 1])).reasons == ()


def test_a_few_new_items_that_fill_the_books_are_a_reason():
    ids = build_ids(spread(12, 0), setting("kmeans", (4, 4)))
    left = crowding(ids.added(spread(1, 1)))
    assert left.reasons == () and left.free == 3
    full = crowding(ids.added(spread(4, 1)))
    assert full.reasons == ("no ID is free",) and full.sentence.startswith("It is time for a new generation")
    nothing = crowding(build_ids(spread(16, 0), setting("kmeans", (4, 4))))
    assert nothing.reasons == () and nothing.sentence.endswith("a new item needs a new generation of them.")
    tight = crowding(build_ids(spread(13, 0), setting("kmeans", (1, 16))).added(spread(2, 1)))
    assert (tight.free, tight.full_near, tight.reasons) == (1, 0.0, ())  # there is room near
    nearly = crowding(filled_beside(free=1))
    assert nearly.reasons == ("none of the new items has a free code left near it and 1 ID is free in all",)
    roomy = crowding(filled_beside(free=2))
    assert roomy.full_near == 1 and roomy.reasons == ()  # 2 of 16 are free


def filled_beside(free: int) -> ItemIds:
    """Two prefixes of eight codes: one full, the other with so many free; the last item wanted the first."""
    places = [(0, code) for code in range(8)] + [(1, code) for code in range(8 - free)]
    codes = np.array(places, dtype=np.int32)
    wanted = codes.copy()
    wanted[-1] = 0
    costs = np.zeros((len(codes), 2), dtype=np.float32)
    quantiser = by_hand([0, 9], list(range(8)))
    return ItemIds(codes, (2, 8), wanted, costs, "relocate", 1, len(codes) - 1, quantiser)


def test_room_near_new_items_is_counted():
    codes = np.array([[0, 0], [0, 1], [0, 2], [1, 0]], dtype=np.int32)
    costs = np.zeros((4, 2), dtype=np.float32)
    quantiser = by_hand([0, 9], [0, 1, 2, 3])
    ids = ItemIds(codes, (2, 4), codes.copy(), costs, "relocate", 1, 4, quantiser)
    grown = ids.added(np.zeros((2, 1), np.float32))
    assert grown.codes[4:].tolist() == [[0, 3], [1, 1]]
    found = crowding(grown)
    assert (found.free_near, found.full_near, found.free) == (0.0, 1.0, math.prod((2, 4)) - 6)
    assert found.left_prefix == 0.5
    assert json.loads(json.dumps(found.as_dict()))["sentence"] == found.sentence
