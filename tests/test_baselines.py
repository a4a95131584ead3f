from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import RecommenderContract

from llmrec.baselines.choose import Validation, best_of, ndcg_of_ranks, validation_ndcg
from llmrec.baselines.ease import EASE
from llmrec.baselines.fitting import fit_baseline
from llmrec.baselines.item_knn import ItemKNN
from llmrec.baselines.popularity import Popularity
from llmrec.baselines.sasrec import SASRec, SasrecNetwork, SasrecSettings
from llmrec.baselines.sasrec_training import _shuffle_ties, fit_sasrec
from llmrec.baselines.sequential_rules import SequentialRules
from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event, Histories
from llmrec.decode.contract import Filters, Request
from llmrec.errors import DataError, LlmrecError
from llmrec.evaluate.protocol import evaluate

SPLIT = "leave-last-out"
TINY = SasrecSettings(width=16, blocks=1, heads=2, length=20, epochs=2, learning_rate=5e-3)


@pytest.fixture(scope="session")
def validation(sample):
    return Validation.of(sample, SPLIT)


@pytest.fixture(scope="session")
def train(sample):
    return sample.train(SPLIT)


@pytest.fixture(scope="session")
def tiny_sasrec(sample, train):
    return fit_sasrec(train, sample.catalog, TINY)


@pytest.fixture(scope="session")
def item_knn(sample, train):
    return ItemKNN.fit(train, sample.catalog)


@pytest.fixture(scope="session")
def ease(sample, train):
    return EASE.fit(train, sample.catalog)


@pytest.fixture(scope="session")
def sequential_rules(sample, train):
    return SequentialRules.fit(train, sample.catalog)


@pytest.fixture
def requests_of_users(validation):
    return list(validation.requests[:6])


class TestPopularityContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, sample, train):
        return Popularity.fit(train, sample.catalog)


class TestItemKNNContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, item_knn):
        return item_knn


class TestEASEContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, ease):
        return ease


class TestSequentialRulesContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, sequential_rules):
        return sequential_rules


class TestSASRecContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, tiny_sasrec):
        return tiny_sasrec


def world(*histories):
    """A catalogue of five items and the given histories of item indices."""
    events = [(f"u{number}", [Event(item) for item in items]) for number, items in enumerate(histories)]
    catalog = Catalog([Item(f"i{number}", f"Item {number}") for number in range(5)])
    return catalog, Histories.from_lists(events)


def ranking(model, *history):
    request = Request(tuple(Event(item) for item in history), filters=Filters(exclude_seen=True))
    return [each.index for each in model.recommend([request], 5)[0]]


def test_popularity_counts_train_events():
    catalog, train = world([2, 3], [2, 3, 4], [2])
    assert ranking(Popularity.fit(train, catalog)) == [2, 3, 4, 0, 1]
    assert ranking(Popularity.fit(train, catalog), 2) == [3, 4, 0, 1]


def test_item_knn_knows_what_goes_together():
    catalog, train = world([0, 1], [0, 1], [2, 3], [2, 3], [4, 0], [2, 4])
    for weighting in ("cosine", "tfidf", "bm25"):
        model = ItemKNN.fit(train, catalog, 3, weighting)
        assert ranking(model, 0)[0] == 1
        assert ranking(model, 3)[0] == 2
        assert model.similarity.diagonal().max() == 0


def test_ease_solves_the_ridge_regression_of_each_item_on_the_others():
    rng = np.random.default_rng(0)
    histories = [np.flatnonzero(rng.random(5) < 0.5).tolist() or [0] for _ in range(40)]
    catalog, train = world(*histories)
    weights = EASE.fit(train, catalog, penalty=3.0).weights
    x = np.zeros((40, 5))
    for user, items in enumerate(histories):
        x[user, items] = 1
    for item in range(5):
        others = [other for other in range(5) if other != item]
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + 3.0 * np.eye(4), a.T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], expected, rtol=1e-5)
        assert weights[item, item] == 0


def test_sequential_rules_by_hand():
    catalog, train = world([0, 1, 2], [0, 2])
    forward = SequentialRules.fit(train, catalog, window=2, backward=0, power=0).rules.toarray()
    expected = np.zeros((5, 5))
    expected[0, 1] = expected[1, 2] = 1
    expected[0, 2] = 1.5
    np.testing.assert_allclose(forward, expected)
    near = SequentialRules.fit(train, catalog, window=1, backward=0.5, power=0).rules.toarray()
    assert near[1].tolist() == [0.5, 0, 1, 0, 0]
    scaled = SequentialRules.fit(train, catalog, window=2, backward=0, power=0.5).rules.toarray()
    np.testing.assert_allclose(scaled[0, 2], 1.5 / 2)
    model = SequentialRules.fit(train, catalog, window=2, backward=0, power=0)
    (scores,) = model.scores([Request((Event(1), Event(4), Event(0), Event(1)))])
    # The last event counts whole, the one before it half, those before the window not at all.
    np.testing.assert_allclose(scores, expected[1] + expected[0] / 2)


def test_repeated_events_count_once_for_pairs():
    catalog, once = world([0, 1], [1, 2])
    _, twice = world([0, 1, 0, 1, 1], [1, 2, 2])
    np.testing.assert_array_equal(EASE.fit(once, catalog).weights, EASE.fit(twice, catalog).weights)


@pytest.mark.parametrize("fit", [Popularity.fit, ItemKNN.fit, EASE.fit, SequentialRules.fit, fit_sasrec])
def test_nothing_to_learn_from_is_an_error(fit):
    catalog, _ = world()
    with pytest.raises(DataError, match="no events"):
        fit(Histories.from_lists([("u", [])]), catalog)


def test_settings_are_chosen_on_validation(sample, train, validation):
    models = [EASE.fit(train, sample.catalog, penalty) for penalty in (30.0, 5000.0)]
    best, figure = best_of(models, validation)
    assert best is models[0]
    assert figure == validation_ndcg(models[0], validation) > validation_ndcg(models[1], validation)


def test_validation_figure_is_the_one_of_the_report(sample, train, validation):
    model = ItemKNN.fit(train, sample.catalog)
    row = evaluate(model, sample, SPLIT, fold="valid").row
    assert validation_ndcg(model, validation) == pytest.approx(row["ndcg@10"], abs=1e-12)


def test_ndcg_of_ranks_by_hand():
    assert ndcg_of_ranks(np.array([1, 3, 0, 11])) == pytest.approx((1 + 0.5) / 4)


def test_the_order_of_quality_on_the_sample(sample):
    """On the sample, recall@10, test, seen filtered: 0.064, 0.20, 0.24, 0.31."""
    names = ("popularity", "item-knn", "ease", "sequential-rules")
    figures = [evaluate(fit_baseline(name, sample), sample).row["recall@10"] for name in names]
    assert figures[0] == pytest.approx(0.06375, abs=1e-9)
    assert figures == sorted(figures)
    assert figures[2] == pytest.approx(0.2375, abs=0.005)
    assert figures[3] > 0.3


def test_unknown_baseline_and_impossible_settings():
    with pytest.raises(LlmrecError, match="there are: popularity, item-knn, ease, sequential-rules, sasrec"):
        fit_baseline("gru4rec", None)
    with pytest.raises(LlmrecError, match="not a multiple"):
        SasrecSettings(width=10, heads=3)


def test_sasrec_learns_a_cycle():
    """After item i always comes i + 1: something that no model of pairs without order can know."""
    rng = np.random.default_rng(0)
    catalog, train = world(*[[(start + step) % 5 for step in range(6)] for start in rng.integers(0, 5, 64)])
    settings = replace(TINY, dropout=0.1, epochs=40, length=8)
    losses = []
    model = fit_sasrec(train, catalog, settings, progress=lambda epoch: losses.append(epoch.loss))
    assert losses[-1] < 0.8 < losses[0]
    requests = [Request((Event(item - 1 if item else 4), Event(item))) for item in range(5)]
    assert model.scores(requests).argmax(axis=1).tolist() == [1, 2, 3, 4, 0]


def test_sasrec_same_seed_same_model_and_other_random_state_untouched(sample, train):
    state = torch.random.get_rng_state()
    settings = replace(TINY, epochs=1)
    first, second, other = (fit_sasrec(train, sample.catalog, settings, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    question = [Request((Event(3),))]
    np.testing.assert_array_equal(first.scores(question), second.scores(question))
    assert not np.array_equal(first.scores(question), other.scores(question))


def test_sasrec_keeps_the_best_epoch_and_stops_early(sample, train, validation):
    epochs = []
    few = Validation(validation.requests[:200], validation.targets[:200])
    # A rate this high gets worse soon.
    settings = replace(TINY, learning_rate=0.05, epochs=30, patience=2)
    model = fit_sasrec(train, sample.catalog, settings, few, progress=epochs.append)
    best = max(epochs, key=lambda epoch: epoch.ndcg)
    assert len(epochs) == best.number + settings.patience or len(epochs) == settings.epochs
    assert validation_ndcg(model, few) == best.ndcg


def test_sasrec_sees_only_the_past_and_only_its_window(tiny_sasrec):
    network = tiny_sasrec.network
    tokens = torch.tensor([[500, 3, 4, 5, 6]])
    changed = torch.tensor([[500, 3, 4, 9, 9]])
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens)[:, :3], network(changed)[:, :3])
    recent = tuple(Event(item) for item in range(TINY.length))
    long = (Event(400), Event(401), *recent)
    np.testing.assert_array_equal(tiny_sasrec.scores([Request(recent)]), tiny_sasrec.scores([Request(long)]))


def test_sasrec_survives_the_disk(tiny_sasrec, sample, tmp_path):
    path = tmp_path / "sasrec.safetensors"
    tiny_sasrec.save(path)
    loaded = SASRec.load(path, sample.catalog)
    assert loaded.settings == tiny_sasrec.settings
    question = [Request((Event(3), Event(7)))]
    np.testing.assert_array_equal(loaded.scores(question), tiny_sasrec.scores(question))
    with pytest.raises(LlmrecError, match="fitted to 500 items, not to 5"):
        SASRec.load(path, world()[0])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LlmrecError, match="fit"):
        SASRec.load(path, sample.catalog)
    with pytest.raises(LlmrecError, match="missing"):
        SASRec.load(tmp_path / "none", sample.catalog)


def test_ties_are_shuffled_within_equal_times_only():
    items, times = np.arange(8), np.array([1, 1, 1, 2, 3, 3, 9, 9])
    seen = set()
    for seed in range(20):
        order = _shuffle_ties(items, times, np.random.default_rng(seed))
        np.testing.assert_array_equal(times[order], times)
        seen.add(tuple(order))
    assert len(seen) > 5


def test_large_batches_are_taken_in_parts_with_the_same_gradient(monkeypatch):
    from llmrec.baselines import sasrec_training

    settings = replace(TINY, dropout=0.0)
    batch = [np.arange(1 + row % 4) for row in range(6)]
    gradients = []
    for limit in (1 << 25, 1):
        monkeypatch.setattr(sasrec_training, "_LOGITS", limit)
        torch.manual_seed(0)
        network = SasrecNetwork(5, settings)
        loss = sasrec_training._step(network, batch, settings)
        gradients.append((loss, network.table.weight.grad.clone()))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-4, atol=1e-6)
