"""Item vectors asked for next items without a model."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import tiny_prepared

from llmrec.evaluate.vector_figures import questions_of, vector_figures


def test_ranks_are_those_of_sums_of_the_newest_items_without_seen_ones() -> None:
    vectors = np.zeros((20, 2))
    vectors[:, 0] = np.arange(20, 0, -1)
    vectors[19] = (0, 9)
    histories = [np.array([0, 1]), np.array([19, 2])]
    # The first user ranks 2, 3, 4 ...: item 4 is third. The second has seen 19 and 2: item 0 is first.
    recall, ndcg = vector_figures(vectors, histories, np.array([4, 0]))
    assert recall == 1 and ndcg == pytest.approx((1 / np.log2(4) + 1) / 2)
    recall, ndcg = vector_figures(vectors, histories, np.array([12, 10]))
    assert recall == 0.5 and ndcg == pytest.approx(1 / np.log2(11) / 2)


def test_the_newest_item_counts_most() -> None:
    vectors = np.eye(4)[[0, 1, 2, 3, 0, 1]]
    history = [np.array([0, 1])]
    assert vector_figures(vectors, history, np.array([5]))[1] == 1  # like item 1, the newest
    assert vector_figures(vectors, history, np.array([4]))[1] == pytest.approx(1 / np.log2(3))


def test_questions_are_those_of_the_validation_fold(tmp_path) -> None:
    prepared = tiny_prepared(tmp_path / "data")
    cases = {(case.user, case.cut): case.target for case in prepared.cases("leave-last-out", "valid")}
    histories, targets = questions_of(prepared, "leave-last-out", 10_000)
    assert len(histories) == len(targets) == len(cases)
    assert sorted(targets.tolist()) == sorted(cases.values())
    fewer, wanted = questions_of(prepared, "leave-last-out", 3)
    assert len(fewer) == 3
    places = {(cut, target) for (_, cut), target in cases.items()}
    assert {(len(history), target) for history, target in zip(fewer, wanted.tolist(), strict=True)} <= places
