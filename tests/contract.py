"""What every recommender must hold: mix `RecommenderContract` into a test class and give the fixtures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmrec.data.events import Event
from llmrec.decode.contract import Filters, Recommender, Request
from llmrec.decode.filters import FilterIndex
from llmrec.errors import LlmrecError, UnknownIdError


class RecommenderContract:
    """Needs the fixtures `recommender` and `requests_of_users` (at least four, of different lengths)."""

    tolerance = 1e-4
    """Scores of a batch and of one request may differ by this: sums are taken in another order."""

    @pytest.fixture
    def asked(self, requests_of_users: list[Request]) -> list[Request]:
        """The given requests, and the shapes that break things."""
        first, second = requests_of_users[:2]
        return [
            *requests_of_users,
            replace(first, history=(), user=None),
            replace(first, history=first.history[:1], user=None),
            replace(first, history=first.history * 40, user=None),
            replace(second, filters=Filters(exclude_seen=True)),
            replace(second, filters=Filters(max_price=5.5, exclude_items=(0, 1))),
        ]

    def test_scores_are_finite_and_cover_the_catalogue(self, recommender: Recommender, asked: list[Request]):
        scores = recommender.scores(asked)
        assert scores.shape == (len(asked), len(recommender.catalog))
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_batch_equals_single(self, recommender: Recommender, asked: list[Request]):
        batch = recommender.recommend(asked, 10)
        for request, together in zip(asked, batch, strict=True):
            (alone,) = recommender.recommend([request], 10)
            np.testing.assert_allclose(
                [each.score for each in together],
                [each.score for each in alone],
                rtol=self.tolerance,
                atol=self.tolerance,
            )
            assert [each.item for each in together] == [each.item for each in alone]

    def test_same_question_same_answer(self, recommender: Recommender, asked: list[Request]):
        assert recommender.recommend(asked, 10) == recommender.recommend(asked, 10)

    def test_lists_are_ordered_and_distinct(self, recommender: Recommender, asked: list[Request]):
        for row in recommender.recommend(asked, 20):
            scores = [each.score for each in row]
            assert scores == sorted(scores, reverse=True)
            assert len({each.index for each in row}) == len(row)
            assert all(recommender.catalog[each.index].id == each.item for each in row)

    def test_a_list_begins_the_longer_list(self, recommender: Recommender, asked: list[Request]):
        short, long = recommender.recommend(asked, 3), recommender.recommend(asked, 12)
        for few, many in zip(short, long, strict=True):
            assert [each.item for each in few] == [each.item for each in many[:3]]

    def test_filters_are_exact_and_lists_full(self, recommender: Recommender, asked: list[Request]):
        index = FilterIndex(recommender.catalog)
        seen = tuple(event.item for event in asked[0].history)
        for filters in (
            Filters(exclude_seen=True),
            Filters(max_price=float(np.nanmedian(recommender.catalog.prices))),
            Filters(min_price=float(np.nanmedian(recommender.catalog.prices)), exclude_seen=True),
            Filters(allowed_items=(1, 2, 3, 5, 8)),
            Filters(exclude_items=seen),
        ):
            limited = [replace(request, filters=filters) for request in asked]
            for request, row in zip(limited, recommender.recommend(limited, 10), strict=True):
                allowed = index.mask(filters, request.history)
                assert all(allowed[each.index] for each in row)
                assert len(row) == min(10, allowed.sum())

    def test_nothing_allowed_gives_an_empty_list(self, recommender: Recommender, asked: list[Request]):
        nothing = [replace(request, filters=Filters(allowed_items=())) for request in asked]
        assert recommender.recommend(nothing, 5) == [[] for _ in nothing]

    def test_k_beyond_the_catalogue_gives_all_of_it(self, recommender: Recommender, asked: list[Request]):
        items = len(recommender.catalog)
        (row,) = recommender.recommend([replace(asked[0], filters=Filters())], items + 7)
        assert sorted(each.index for each in row) == list(range(items))

    def test_lists_follow_the_scores(self, recommender: Recommender, asked: list[Request]):
        request = replace(asked[0], filters=Filters())
        (row,) = recommender.recommend([request], len(recommender.catalog))
        scores = recommender.scores([request])[0]
        np.testing.assert_allclose(
            [each.score for each in row], np.sort(scores)[::-1], rtol=self.tolerance, atol=self.tolerance
        )

    def test_no_requests_no_lists(self, recommender: Recommender):
        assert recommender.recommend([], 5) == []
        assert recommender.scores([]).shape == (0, len(recommender.catalog))

    def test_unknown_items_raise(self, recommender: Recommender):
        for item in (-1, len(recommender.catalog)):
            with pytest.raises(UnknownIdError):
                recommender.recommend([Request((Event(item),))], 5)
            with pytest.raises(UnknownIdError):
                recommender.scores([Request((Event(0), Event(item)))])

    def test_k_must_be_positive(self, recommender: Recommender, asked: list[Request]):
        with pytest.raises(LlmrecError):
            recommender.recommend(asked, 0)
