"""Lists that vary, of a bundle whose model writes codes: drawn, in groups, capped, or because a wish asks."""

from __future__ import annotations

import importlib
import re
import runpy
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_slice import CATEGORIES

from llmrec.change_items import retire_items
from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.codes.seen import PLACES, SeenGains
from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event
from llmrec.data.facts import CategorySets
from llmrec.decode.beam import BeamSettings
from llmrec.decode.caps import CategoryCap
from llmrec.decode.contract import Filters, Request
from llmrec.engines.table import TableEngine
from llmrec.errors import LlmrecError
from llmrec.recommend import NOTHING_SEEN, Shop
from llmrec.retrieve.diversity import likeness_within
from llmrec.verbalize.objective import Objective

Make = Callable[..., CodeRecommender]
NAMES = sorted(set(CATEGORIES.values()))
CASES, ASKED = 25, 12
DRAWN = BeamSettings(temperature=2.0)


@pytest.fixture(scope="module")
def bundle(code_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> CodeBundle:
    """With eight retired items."""
    folder = tmp_path_factory.mktemp("varied")
    copy = Path(shutil.copytree(code_bundle, folder / "bundle"))
    ids = [item.id for item in CodeBundle(copy).catalog.items]
    (folder / "retired.jsonl").write_text("\n".join(f'{{"id": "{name}"}}' for name in ids[3:60:8]))
    retire_items(copy, folder / "retired.jsonl")
    return CodeBundle(copy)


@pytest.fixture(scope="module")
def make(bundle: CodeBundle) -> Make:
    """Recommenders of that bundle, of models that answer at random, the same each time."""
    vocabulary = len(bundle.tokens().tokenizer)

    def made(seed: int = 0, sharpness: float = 4.0, weights: Any = (), **options: Any) -> CodeRecommender:
        model = CodeRecommender(bundle, TableEngine(vocabulary, seed, sharpness), **options)
        model._seen = SeenGains(np.array(weights, dtype=np.float64))
        return model

    return made


@pytest.fixture(scope="module")
def asked(bundle: CodeBundle) -> list[Request]:
    histories = bundle.prepared.histories
    return [Request(histories.history(user), filters=NOTHING_SEEN, user=user) for user in range(8)]


def diverse(request: Request, weight: float = 1.0) -> Request:
    """The same, asking for a list that differs within itself."""
    objective = Objective(diverse=True, weights=(("diverse", weight),))
    return Request(request.history, request.words, objective, request.filters, request.user)


def first_codes(model: CodeRecommender, requests: list[Request], k: int = 8) -> int:
    """How many first codes lists have, all lists together."""
    index, _ = model.rank(requests, k)
    codes = model.bundle.ids().codes[:, 0]
    return sum(len(set(codes[row].tolist())) for row in index)


# --- limits -------------------------------------------------------------------------------------------------


def drawn_request(rng: np.random.Generator, catalog: Catalog) -> Request:
    """A history of any items, some twice, with filters that leave all or nothing."""
    history = tuple(Event(item) for item in rng.integers(0, len(catalog), rng.integers(0, 13)).tolist())
    often = rng.random() ** 2
    filters = Filters(
        max_price=float(rng.integers(1, 6)) if rng.random() < often else None,
        include_categories=(str(rng.choice(NAMES)),) if rng.random() < often / 2 else (),
        exclude_categories=(str(rng.choice(NAMES)),) if rng.random() < often else (),
        exclude_items=tuple(rng.integers(0, len(catalog), 6).tolist()) if rng.random() < often else (),
        exclude_seen=bool(rng.random() < often),
    )
    request = Request(history, filters=filters)
    return diverse(request, float(rng.choice([0.5, 2.0]))) if rng.random() < 0.2 else request


def taken(
    catalog: Catalog, order: list[int], k: int, most: int | None, allowed: Sequence[int] | None = None
) -> list[int]:
    """The first k items of an order that a cap lets in, by its definition; by default all are allowed."""
    allowed = range(len(catalog)) if allowed is None else allowed
    held = Counter(name for item in allowed for name in catalog[item].categories)
    counts: Counter[str] = Counter()
    found: list[int] = []
    for item in order:
        names = [name for name in catalog[item].categories if held[name] <= 0.9 * len(allowed)]
        if len(found) < k and all(most is None or counts[name] < most for name in names):
            counts.update(names)
            found.append(item)
    return found


@pytest.mark.parametrize("case", range(CASES))
def test_random_requests_have_no_fault(
    make: Make, bundle: CodeBundle, case: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists hold what is allowed, each item once, and are full; with a wide beam they are the best of all."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    permits = importlib.import_module("fuzz_decoding").permits
    rng, catalog = np.random.default_rng([4, case]), bundle.catalog
    wide, temperature, groups = rng.random() < 0.5, rng.choice([0.0, 0.0, 1.5]), int(rng.choice([1, 1, 3]))
    width = len(catalog) if wide else int(rng.integers(1, 8))
    most, k = rng.choice([None, None, 1, 2]), int(rng.integers(1, 13))
    gains = SeenGains(rng.normal(size=PLACES) * rng.choice([2.0, 20.0]) + rng.choice([-3.0, 3.0]))
    beams = BeamSettings(width, temperature=float(temperature), groups=groups, batch=5)
    model = make(case, float(rng.uniform(1, 20)), gains.weights, beams=beams, most=most)
    requests = [drawn_request(rng, catalog) for _ in range(ASKED)]
    index, score = model.rank(requests, k)
    model._seen = SeenGains(np.empty(0))
    whole = model.scores(requests)
    model._seen = gains
    for row, request in enumerate(requests):
        items, values = gains.of([event.item for event in reversed(request.history)])
        whole[row, items] += values
        found = index[row][index[row] >= 0].tolist()
        allowed = [
            at for at, item in enumerate(catalog.items) if permits(request.filters, item, at, request.history)
        ]
        assert len(set(found)) == len(found) and set(found) <= set(allowed)
        assert taken(catalog, found, k, most, allowed) == found
        assert taken(catalog, [*found, *(at for at in allowed if at not in found)], k, most, allowed) == found
        np.testing.assert_allclose(score[row, : len(found)], whole[row, found], atol=1e-4)
        assert (np.diff(score[row, : len(found)]) <= 0).all()
        if wide and groups == 1 and not temperature and not request.objective.diverse:
            best = sorted(allowed, key=lambda at: -whole[row, at])
            assert found == taken(catalog, best, k, most, allowed)
        alone, _ = model.rank([request], k)
        assert alone[0].tolist() == index[row].tolist()


# --- variety ------------------------------------------------------------------------------------------------


def test_draws_are_the_requests_own(make: Make, asked: list[Request]) -> None:
    """The same request gives the same list, in any company; another seed gives another one."""
    first, second, other = make(beams=DRAWN), make(beams=DRAWN), make(beams=DRAWN, seed=1)
    lists = first.recommend(asked, 8)
    assert second.recommend(asked[::-1], 8)[::-1] == lists
    assert [first.recommend([request], 8)[0] for request in asked] == lists
    assert sum(own != its for own, its in zip(other.recommend(asked, 8), lists, strict=True)) > 4
    assert lists != make().recommend(asked, 8)
    np.testing.assert_allclose(first.scores(asked), make().scores(asked), atol=1e-5)


def test_groups_show_more_first_codes(make: Make, asked: list[Request]) -> None:
    """In capped lists too."""
    parted = BeamSettings(groups=4)
    for most in (None, 2):
        model, other = (make(sharpness=25.0, beams=beams, most=most) for beams in (None, parted))
        assert first_codes(other, asked) > first_codes(model, asked)


def test_a_capped_list_has_few_of_a_category(make: Make, bundle: CodeBundle, asked: list[Request]) -> None:
    def most_of_one(**options: Any) -> int:
        lists = make(sharpness=20.0, **options).recommend(asked, 10)
        assert {len(each) for each in lists} == {10}
        names = [Counter(n for one in each for n in bundle.catalog[one.index].categories) for each in lists]
        return max(count for each in names for count in each.values())

    assert most_of_one() > 2
    assert most_of_one(most=1) == 1
    assert most_of_one(most=2) == 2
    with pytest.raises(LlmrecError, match="at most 0 items of a category makes no list") as error:
        make(most=0)
    assert "\n" not in str(error.value)


def test_a_category_of_all_allowed_items_does_not_count(
    make: Make, bundle: CodeBundle, asked: list[Request]
) -> None:
    """Be it the root of a catalogue or what was asked for."""
    model, catalog = make(sharpness=20.0, most=2), bundle.catalog
    rooted = Catalog([replace(item, categories=("All", *item.categories)) for item in catalog.items])
    plain = model.recommend(asked, 10)
    model._cap = CategoryCap(CategorySets(rooted), 2)
    assert model.recommend(asked, 10) == plain and {len(each) for each in plain} == {10}
    name, count = Counter(n for item in catalog.items for n in item.categories).most_common(1)[0]
    inside = [replace(each, filters=Filters(include_categories=(name,))) for each in asked]
    assert count > 10
    assert {len(each) for each in model.recommend(inside, 5)} == {5}


def test_what_nearly_all_allowed_items_have_does_not_count() -> None:
    def limits(held: int, others: int) -> list[int]:
        items = [Item(str(at), "x", categories=("a",) if at < held else ()) for at in range(held + others)]
        sets = CategorySets(Catalog(items))
        return CategoryCap(sets, 2).limits(np.ones(len(items), dtype=bool)).tolist()

    assert limits(9, 1) == [2] and limits(19, 2) == [21]


def test_a_list_that_is_to_be_diverse_is(make: Make, asked: list[Request]) -> None:
    """By its weight, and the rest of what is asked beside it stays as it is."""
    model = make(sharpness=10.0)
    counts = [first_codes(model, asked), *(first_codes(model, [diverse(each)]) for each in asked)]
    assert sum(counts[1:]) > counts[0]

    def likeness(requests: list[Request]) -> float:
        index, _ = model.rank(requests, 8)
        return float(np.mean([likeness_within(model.item_vectors(row)) for row in index]))

    by_weight = [likeness([diverse(each, weight) for each in asked]) for weight in (0.5, 1.0, 4.0)]
    assert likeness(asked) > by_weight[0] > by_weight[1] > by_weight[2]
    mixed = [diverse(asked[0]), asked[1]]
    assert model.recommend(mixed, 8) == [model.recommend([each], 8)[0] for each in mixed]


def test_the_words_for_it_and_the_objective_are_one(code_bundle: Path) -> None:
    shop = Shop.open(code_bundle)
    words, histories = "a varied list", shop.prepared.histories
    for user in range(3):
        answers = shop.ask(user=histories.users[user], say=words, k=6)
        request = Request(histories.history(user), words, Objective(diverse=True), NOTHING_SEEN, user)
        (found,) = shop.recommender.recommend([request], 6)
        assert {answer.item for answer in answers.items} == {each.item for each in found}


def test_the_example_of_the_page_runs(
    code_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "codes.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    ids = {item.id for item in CodeBundle(code_bundle).catalog.items}
    assert not ids & set(re.findall(r'"(.*?)"', code))  # it runs with the bundle of any catalogue
    (tmp_path / "BUNDLE").symlink_to(code_bundle, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(code)
    names = runpy.run_path("example.py")
    assert len(names["varied"].recommend([names["diverse"]], 10)[0]) == 10
    assert capsys.readouterr().out.count("Recommendation(") == 20


def test_a_shop_answers_with_such_a_recommender(code_bundle: Path) -> None:
    bundle = CodeBundle(code_bundle)
    beams = BeamSettings(temperature=1.0, groups=2)
    shop = Shop(bundle, CodeRecommender(bundle, beams=beams, most=2))
    user = shop.prepared.histories.users[0]
    for say in ("", "a varied list", "something under 3 pounds"):
        answers = shop.ask(user=user, say=say, k=6, why=True)
        assert answers == shop.ask(user=user, say=say, k=6, why=True) and len(answers.items) == 6
        items = shop.catalog.indices([each.item for each in answers.items])
        assert taken(shop.catalog, items, 6, 2) == items
    assert shop.recommender.setting.endswith(
        "codes, 20 beams, temperature 1, 2 groups, at most 2 of a category"
    )
