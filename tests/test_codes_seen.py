"""What items of the history gain in lists of a model that writes codes: fitted, kept, exact, in batches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.codes.seen import PLACES, SeenGains, fit_gains, read_gains, write_gains
from llmrec.data.events import Event
from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.contract import Filters, Request
from llmrec.engines.table import TableEngine
from llmrec.errors import BundleError
from llmrec.items.trie import Trie
from llmrec.retrieve.rank import top_k
from llmrec.verbalize.objective import Objective

ITEMS = 40
MIXED = np.linspace(4.0, -6.0, PLACES)


@pytest.fixture
def search() -> BeamSearch:
    """Of a model that answers at random, the same each time."""
    codes = np.stack([np.arange(ITEMS) // 8, 5 + np.arange(ITEMS) % 8], axis=1)
    return BeamSearch(Trie.build(codes), TableEngine(13), BeamSettings(width=ITEMS))


@pytest.fixture(scope="module")
def model(code_bundle: Path) -> CodeRecommender:
    """With beams that leave nothing out."""
    bundle = CodeBundle(code_bundle)
    return CodeRecommender(bundle, beams=BeamSettings(width=len(bundle.catalog)))


def asked(model: CodeRecommender) -> list[Request]:
    histories = model.bundle.prepared.histories
    some = [Request(histories.history(user)[: 3 + 4 * user], user=user) for user in range(3)]
    first = some[1].history[0].item
    return [
        *some,
        Request(some[1].history, user=1, filters=Filters(exclude_seen=True)),
        Request(some[1].history, user=1, filters=Filters(exclude_items=(first, 2, 5))),
        Request((), user=0),
    ]


def test_weights_say_how_much_likelier_items_of_the_history_are(search: BeamSearch) -> None:
    """Targets drawn from scores plus known weights: these come out, place by place."""
    rng = np.random.default_rng(0)
    truth = np.array([3.0, -1.0, *[0.5] * (PLACES - 2)])
    prompts = [[at % 13, at // 13 % 13, at // 169] for at in range(6000)]
    newest = [rng.permutation(ITEMS)[:PLACES].tolist() for _ in prompts]
    index, scores = search.search(prompts, ITEMS)
    targets = []
    for ids, own, past in zip(index, scores, newest, strict=True):
        logits = np.empty(ITEMS)
        logits[ids] = own
        logits[past] += truth
        share = np.exp(logits - logits.max())
        targets.append(rng.choice(ITEMS, p=share / share.sum()))
    found = fit_gains(search, prompts, newest, np.array(targets)).weights
    assert np.abs(found - truth)[:2].max() < 0.3
    assert np.abs(found - truth)[2:].mean() < 0.3


def test_what_never_comes_again_falls_and_what_always_does_rises(search: BeamSearch) -> None:
    prompts = [[at] for at in range(13)] * 4
    newest = [[at % ITEMS, (at + 7) % ITEMS] for at in range(len(prompts))]
    never = fit_gains(search, prompts, newest, np.array([(past[0] + 3) % ITEMS for past in newest])).weights
    assert (never[:2] < -1).all() and not never[2:].any()
    always = fit_gains(search, prompts, newest, np.array([past[0] for past in newest])).weights
    assert always[0] > 1 and always[0] > always[1] and np.isfinite(always).all()


def test_without_questions_nothing_gains(search: BeamSearch) -> None:
    found = fit_gains(search, [], [], np.empty(0, dtype=np.int64))
    items, gains = found.of([3, 1])
    assert not len(found.weights) and not len(items) and not len(gains)


def test_an_item_counts_where_it_is_newest_and_old_ones_share_the_last_place() -> None:
    items, gains = SeenGains(np.array([1.0, 2.0, 3.0])).of([7, 4, 7, 9, 2])
    assert items.tolist() == [2, 4, 7, 9]
    assert gains.tolist() == [3.0, 2.0, 1.0, 3.0]


@pytest.mark.parametrize("weights", [MIXED, -MIXED, np.full(PLACES, 3.0), np.full(PLACES, -9.0)])
def test_lists_are_the_best_by_scores_that_count_gains(
    model: CodeRecommender, weights: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = asked(model)
    monkeypatch.setattr(model, "_seen", SeenGains(np.empty(0)))
    plain = model.score(requests)
    monkeypatch.setattr(model, "_seen", SeenGains(weights))
    scores = model.score(requests)
    for row, request in enumerate(requests):
        items, gains = SeenGains(weights).of([event.item for event in reversed(request.history)])
        plain[row, items] += gains
    np.testing.assert_allclose(scores, plain, atol=1e-4)
    allowed = np.stack([model.filters.mask(each.filters, each.history, each.now) for each in requests])
    index, best = model.rank(requests, 7)
    wanted, wanted_best = top_k(scores, allowed, 7)
    np.testing.assert_allclose(best, wanted_best, atol=1e-4)
    assert (index == wanted).mean() > 0.95  # scores that are nearly equal may change places
    for row, request in enumerate(requests):
        alone, score = model.rank([request], 7)
        np.testing.assert_array_equal(alone[0], index[row])
        np.testing.assert_allclose(score[0], best[row], atol=1e-4)


def test_narrow_beams_find_items_of_the_history_that_rise(
    code_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CodeRecommender(CodeBundle(code_bundle), beams=BeamSettings(width=2))
    monkeypatch.setattr(model, "_seen", SeenGains(np.full(PLACES, 50.0)))
    history = (Event(3), Event(11), Event(7))
    index, _ = model.rank([Request(history)], 4)
    assert set(index[0, :3].tolist()) == {3, 7, 11}
    again = Request(history, "again", Objective(seen_before=True))
    assert not model.read([again])[0].gains[0].size  # gains are those of plain questions


def test_what_the_prompt_does_not_hold_gains_nothing(
    model: CodeRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list is searched no wider than prompts are long, however long histories are."""
    monkeypatch.setattr(model, "_seen", SeenGains(MIXED))
    held = model.bundle.recipe.prompt.max_events
    history = tuple(Event(item) for item in range(held + 5))
    items, _ = model.read([Request(history)])[0].gains
    assert items.tolist() == list(range(5, held + 5))


def test_a_bundle_has_the_gains_of_its_validation_questions(code_bundle: Path, tmp_path: Path) -> None:
    found = read_gains(code_bundle)
    assert found.weights.shape == (PLACES,) and found.weights.any()
    assert "seen.json" in CodeBundle(code_bundle).manifest["parts"]
    write_gains(SeenGains(np.array([1.25, -2.0])), tmp_path)
    assert read_gains(tmp_path).weights.tolist() == [1.25, -2.0]


@pytest.mark.parametrize("content", [{}, {"weights": None}, {"weights": ["x"]}, {"weights": [[1.0]]}, [1.0]])
def test_gains_that_are_no_numbers_are_an_error(content: object, tmp_path: Path) -> None:
    (tmp_path / "seen.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"seen\.json") as error:
        read_gains(tmp_path)
    assert "\n" not in str(error.value)


def test_a_bundle_from_before_has_none_and_other_usual_values(code_bundle: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(code_bundle, tmp_path / "bundle"))
    (old / "seen.json").unlink()
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["parts"]["seen.json"]
    manifest["recipe"]["search"]["rounds"] += 1  # usual then, and not heard of by what writes codes
    manifest["recipe"]["items"]["inner"] += 1
    (old / "manifest.json").write_text(json.dumps(manifest))
    model = CodeRecommender(CodeBundle(old))
    assert not len(model._seen.weights)
    assert len(model.recommend([Request((Event(3), Event(5)))], 5)[0]) == 5
