"""Quality of IDs against counts by hand, ties included, and what codes mean, hostile titles included."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from llmrec.data.prepared import Prepared
from llmrec.errors import DataError, LlmrecError
from llmrec.items import id_quality
from llmrec.items.encoders import HashEncoder
from llmrec.items.fusion import fused
from llmrec.items.id_crowding import crowding
from llmrec.items.id_pages import crowding_page, escaped, picture_page, quality_page
from llmrec.items.id_picture import WORDS, picture
from llmrec.items.id_quality import level_use, measure_ids
from llmrec.items.ids import ItemIds, build_ids
from llmrec.items.quantise.codebooks import Codebooks
from llmrec.items.quantise.residual import ResidualQuantiser
from llmrec.items.quantise.settings import QuantiserSettings


def ids_of(
    codes: list[list[int]], sizes: tuple[int, ...], wanted: list[list[int]] | None = None, width: int = 1
) -> ItemIds:
    """IDs by hand, of codes that all stand for 0."""
    quantiser = ResidualQuantiser(
        QuantiserSettings("kmeans", sizes),
        Codebooks(
            tuple(np.zeros((size, width), np.float32) for size in sizes),
            tuple(np.zeros(size, np.float32) for size in sizes),
        ),
    )
    array = np.array(codes, dtype=np.int32)
    first = array.copy() if wanted is None else np.array(wanted, dtype=np.int32)
    costs = np.zeros((len(array), 2), dtype=np.float32)
    return ItemIds(array, sizes, first, costs, "relocate", 1, len(array), quantiser)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def test_collisions_and_moves_are_counted():
    codes = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]]
    wanted = [[0, 0], [0, 0], [0, 0], [1, 0], [1, 0], [0, 2]]
    found = measure_ids(ids_of(codes, (3, 4), wanted), column(1, 2, 3, 4, 5, 6))
    assert (found.items, found.distinct, found.items_per_code) == (6, 3, {1: 1, 2: 1, 3: 1})
    assert (found.colliding, found.relocated) == (5 / 6, 4 / 6)
    assert found.left_prefix == 1 / 6 and found.extra is None
    assert [(use.size, use.used, use.largest) for use in found.use] == [(3, 3, 3), (4, 3, 3)]
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["items_per_code"]["3"] == 1


def test_entropy_of_a_level():
    use = level_use(np.array([0, 0, 1, 1, 2, 2, 3, 3]), 8)
    assert (use.used, use.entropy, use.perplexity) == (4, 2.0, 4.0)
    assert level_use(np.zeros(5, dtype=np.int32), 4).entropy == 0


def neighbours_by_hand(codes: np.ndarray, vectors: np.ndarray, k: int, rng: np.random.Generator) -> float:
    """The share of the k nearest vectors among the k nearest codes, ties on both sides broken at random."""
    items, kept = len(codes), 0
    for item in range(items):
        others = np.array([other for other in range(items) if other != item])
        far = ((vectors[others] - vectors[item]) ** 2).sum(axis=1)
        shared = (codes[others] == codes[item]).cumprod(axis=1).sum(axis=1)
        near = others[np.lexsort((rng.random(len(others)), far))[:k]]
        alike = others[np.lexsort((rng.random(len(others)), -shared))[:k]]
        kept += len(set(near) & set(alike))
    return kept / (k * items)


@settings(deadline=None, max_examples=15)
@given(
    codes=arrays.arrays(np.int32, (16, 3), elements=st.integers(0, 2)),
    vectors=arrays.arrays(np.float32, (16, 2), elements=st.integers(-2, 2).map(float)),
)
def test_neighbours_kept_is_the_mean_over_ways_to_break_ties(codes: np.ndarray, vectors: np.ndarray):
    codes[:, 2] = np.arange(16)  # no two alike
    found = measure_ids(ids_of(codes.tolist(), (3, 3, 16), width=2), vectors)
    rng = np.random.default_rng(0)
    draws = [neighbours_by_hand(codes, vectors, 10, rng) for _ in range(60)]
    assert found.neighbours_kept == pytest.approx(np.mean(draws), abs=0.02)
    assert found.sampled == 16


def test_codes_that_follow_vectors_keep_all_neighbours():
    vectors = np.repeat(np.arange(3) * 100.0, 11)[:, None] + np.linspace(0, 1, 33)[:, None]
    codes = [[group, item] for group in range(3) for item in range(11)]
    found = measure_ids(ids_of(codes, (3, 11)), vectors.astype(np.float32))
    assert (found.neighbours_kept, found.first_code_kept) == (pytest.approx(1.0), pytest.approx(1.0))


def test_one_item_has_no_neighbours():
    found = measure_ids(ids_of([[0, 0]], (1, 1)), column(7))
    assert (found.neighbours_kept, found.first_code_kept, found.sampled) == (None, None, 0)
    assert "| neighbours kept | – |" in quality_page(found)
    with pytest.raises(DataError, match="not finite"):
        measure_ids(ids_of([[0, 0]], (1, 1)), column(np.nan))


def test_without_vectors_codes_show_the_rest():
    vectors = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    ids = build_ids(vectors, QuantiserSettings("kmeans", (4, 16)))
    unknown = {"reconstruction_error": None, "neighbours_kept": None, "first_code_kept": None, "sampled": 0}
    assert measure_ids(ids).as_dict() == measure_ids(ids, vectors).as_dict() | unknown
    assert "| first code kept | – |" in quality_page(measure_ids(ids))


def test_codes_that_are_nearer_than_the_wanted_ones_are_explained():
    """Of equal shares an item may want what is farther, and get what is nearer."""
    vectors = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    ids = build_ids(vectors, QuantiserSettings("balanced", (4, 16)))
    moved = (ids.quantised != ids.wanted).any(axis=1)
    assert moved.any()
    for sign in (-1, 1):
        costs = ids.costs.copy()
        costs[:, 1] = np.where(moved, costs[:, 0] * (1 + sign * 0.5), costs[:, 0])
        quality = measure_ids(replace(ids, costs=costs))
        assert quality.extra is not None and quality.extra * sign > 0
        assert ("An extra distance below 0" in quality_page(quality)) == (sign < 0)


def test_new_items_have_a_table():
    vectors = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    ids = build_ids(vectors[:20], QuantiserSettings("kmeans", (4, 16)))
    assert crowding_page(crowding(ids)) == "No items were added; 44 IDs are free."
    found = crowding(ids.added(np.repeat(vectors[:1], 20, axis=0)))  # where there is room for fewer
    page = crowding_page(found).splitlines()
    assert f"| ... that got a farther code | {found.farther:.2%} |" in page and found.farther > 0.9
    assert f"| new items that got another prefix | {found.left_prefix:.2%} |" in page
    assert "| free IDs | 24 |" in page and page[-1] == found.sentence


def test_a_sample_is_near_the_whole(monkeypatch: pytest.MonkeyPatch):
    vectors = np.random.default_rng(0).standard_normal((600, 4)).astype(np.float32)
    ids = build_ids(vectors, QuantiserSettings("kmeans", (16, 8, 8)))
    whole = measure_ids(ids, vectors)
    monkeypatch.setattr(id_quality, "EXACT_PAIRS", 600 * 200)
    part = measure_ids(ids, vectors)
    assert "| neighbours kept (of 200 items) | 0." in quality_page(part)
    assert (whole.sampled, part.sampled) == (600, 200)
    assert part.neighbours_kept == pytest.approx(whole.neighbours_kept, abs=0.05)
    assert part.first_code_kept == pytest.approx(whole.first_code_kept, abs=0.05)


@pytest.fixture(scope="module")
def titles(sample: Prepared) -> list[str]:
    return [item.title for item in sample.catalog.items]


@pytest.fixture(scope="module")
def title_vectors(titles: list[str]) -> np.ndarray:
    return HashEncoder(64).encode(titles)


def test_learnt_codes_beat_random_ones_on_real_titles(title_vectors: np.ndarray):
    found = {
        kind: measure_ids(build_ids(title_vectors, QuantiserSettings(kind, (16, 16, 16))), title_vectors)
        for kind in ("kmeans", "balanced", "tree", "lsh")
    }
    for kind in ("kmeans", "balanced", "tree"):
        assert found[kind].neighbours_kept > 1.5 * found["lsh"].neighbours_kept
        assert found[kind].first_code_kept > found["lsh"].first_code_kept
    assert found["balanced"].use[0].entropy > found["kmeans"].use[0].entropy
    assert found["tree"].colliding == 0 and found["tree"].relocated == 0
    assert 0 < found["kmeans"].reconstruction_error < 0.6


def test_words_that_typify_codes_are_those_of_their_titles(titles: list[str], title_vectors: np.ndarray):
    ids = build_ids(title_vectors, QuantiserSettings("kmeans", (16, 16, 16)))
    meanings = picture(ids, titles)
    assert sum(each.items for each in meanings) == len(titles)
    assert [each.items for each in meanings] == sorted((each.items for each in meanings), reverse=True)
    for each in meanings:
        mine = [
            titles[item].lower().replace("'", "") for item in np.flatnonzero(ids.codes[:, 0] == each.code)
        ]
        assert len(each.words) <= WORDS and all(any(w in title for title in mine) for w in each.words)
        assert 1 <= len(each.titles) <= 3
    page = picture_page(meanings)
    assert page.count("\n") == len(meanings) + 4


def test_words_common_here_and_rare_elsewhere_come_first():
    titles = ["Red Mugs 12", "Blue Mug 12", "Green mugs set", "Red Lamp", "Blue Lamp", "Lamps of red"]
    ids = ids_of([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]], (2, 3))
    first, second = picture(ids, titles)
    assert first.words[0] == "mugs" and second.words[0] == "lamp"
    assert "12" not in first.words


HOSTILE = (
    "<script>alert(1)</script>",
    "a | b | c",
    "[free](http://evil.example) ![x](http://evil.example/x.png)",
    "`code` **bold** # head\n\n# second line",
    "\x1b[31mred\x1b[0m \u202egnp.exe",
    "\x00\ud800",
    "",
)


def test_hostile_titles_stay_text():
    codes = [[at, 0] for at in range(len(HOSTILE))]
    page = picture_page(picture(ids_of(codes, (8, 1)), HOSTILE))
    lines = page.splitlines()
    assert len(lines) == len(HOSTILE) + 4  # a title begins no line
    for line in lines[4:]:
        assert line.replace(r"\|", "").count("|") == 5 and line.isprintable()
        assert "](" not in line and "<s" not in line and "`" not in line.replace(r"\`", "")
    assert escaped("a_b*c") == r"a\_b\*c"
    page.encode("utf-8")


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_fused_distances_are_weighted_sums(weight: float):
    rng = np.random.default_rng(0)
    text, events = (
        rng.standard_normal((9, 4)).astype(np.float32),
        rng.standard_normal((9, 3)).astype(np.float32),
    )
    found = fused(3 * text, 7 * events, weight)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (text, events)]
    wanted = [((each[:, None] - each[None]) ** 2).sum(axis=2) for each in (*unit, found)]
    np.testing.assert_allclose(wanted[2], (1 - weight) * wanted[0] + weight * wanted[1], atol=1e-5)


def test_items_without_events_borrow_those_of_their_neighbours_and_move_nobody():
    text = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    events = np.repeat(np.eye(3, dtype=np.float32)[::-1], 4, axis=0)
    cold = events.copy()
    cold[[0, 5]] = 0
    found = fused(text, cold)
    np.testing.assert_allclose(found, fused(text, events), atol=1e-6)
    more = fused(np.concatenate([text, text[:2]]), np.concatenate([cold, np.zeros((2, 3), np.float32)]))
    np.testing.assert_allclose(more[:12], found, atol=1e-6)
    np.testing.assert_allclose(more[12], found[1], atol=1e-6)
    assert not fused(text, np.zeros_like(events))[:, 3:].any()


def test_parts_that_cannot_be_fused_are_refused():
    one = np.ones((3, 2), np.float32)
    with pytest.raises(LlmrecError, match="share from 0 to 1, not 1.5"):
        fused(one, one, 1.5)
    with pytest.raises(LlmrecError, match="3 vectors of texts, but 2 of events"):
        fused(one, one[:2])
    with pytest.raises(DataError, match="not finite"):
        fused(one, one * np.nan)
