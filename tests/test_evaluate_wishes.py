import numpy as np
import pytest

from llmrec.baselines.ease import EASE
from llmrec.decode.contract import Request
from llmrec.decode.filters import FilterIndex
from llmrec.errors import LlmrecError
from llmrec.evaluate.report import write_report
from llmrec.evaluate.wishes import Satisfaction, evaluate_wishes, wish_cases
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.wishes import WishMaker

SPLIT = "leave-last-out"
FEW = 60


class Obedient(ScoringRecommender):
    """Puts what satisfies the wish first: what a perfect listener would do."""

    def __init__(self, catalog, satisfaction):
        super().__init__("obedient", catalog)
        self.satisfaction = satisfaction

    def score(self, requests):
        masks = [self.satisfaction.mask(each.objective, each) for each in requests]
        return np.array(masks, dtype=np.float32)


@pytest.fixture(scope="session")
def maker(sample):
    return WishMaker(sample.catalog)


@pytest.fixture(scope="session")
def satisfaction(sample, maker):
    return Satisfaction(maker.lexicon, FilterIndex(sample.catalog))


@pytest.fixture(scope="session")
def deaf(sample):
    """A model that reads no words."""
    return EASE.fit(sample.train(SPLIT), sample.catalog)


@pytest.fixture(scope="session")
def rows_of_the_deaf(deaf, sample, maker):
    rows = evaluate_wishes(deaf, sample, maker, most=FEW)
    return {(row["objective"], row["enforced"]): row for row in rows}


def test_a_wish_holds_for_its_own_target(sample, maker, satisfaction):
    for kind in ("price", "keyword", "not_word", "like"):
        cases = wish_cases(sample, maker, kind, SPLIT, "test", 0, FEW)
        held = [satisfaction.mask(case.meant, Request(()))[case.target] for case in cases]
        assert len(held) == FEW
        assert all(held), kind


def test_satisfaction_by_hand(sample, satisfaction):
    catalog = sample.catalog

    def titles(wish):
        return {catalog[item].title for item in np.flatnonzero(satisfaction.mask(wish, Request(())))}

    christmas = titles(Objective(season="christmas"))
    assert christmas
    assert all(title.isascii() for title in christmas)
    assert any("Christmas" in title for title in christmas)
    assert not any("Easter" in title for title in christmas)
    (bags,) = (number for number in range(500) if catalog[number].title == "Lunch Bag Red Retrospot")
    alike = titles(Objective(like=bags))
    assert "Lunch Bag Red Retrospot" not in alike
    assert any("Lunch Bag" in title for title in alike)
    both = Objective(like=bags, include_words=("lunch",))
    assert titles(both) == {title for title in alike if "Lunch" in title}


def test_enforcement_grants_every_enforceable_wish(rows_of_the_deaf):
    for kind in ("price", "not_word", "keyword", "new"):
        assert rows_of_the_deaf[f"wish:{kind}", True]["honoured@10"] == 1.0
        assert rows_of_the_deaf[f"wish:{kind}", False]["honoured@10"] < 1.0
        assert rows_of_the_deaf[f"wish:{kind}", True]["empty"] == 0


def test_a_model_that_reads_no_words_gains_from_enforcement_alone(rows_of_the_deaf):
    for (kind, enforced), row in rows_of_the_deaf.items():
        if not enforced:
            assert row["recall@10"] == row["recall@10 without wish"], kind
    row = rows_of_the_deaf["wish:keyword", True]
    assert row["recall@10"] > row["recall@10 without wish"] + 0.3


def test_something_new_is_asked_with_seen_items_allowed(rows_of_the_deaf):
    assert not rows_of_the_deaf["wish:new", False]["filter_seen"]
    assert rows_of_the_deaf["wish:price", False]["filter_seen"]


def test_a_listener_honours_wishes_without_enforcement(sample, maker, satisfaction):
    model = Obedient(sample.catalog, satisfaction)
    rows = evaluate_wishes(model, sample, maker, kinds=("price", "season", "keyword+price"), most=FEW)
    for row in rows:
        if row["objective"] == "wish:price":
            # Not 1: fewer than ten items cost more than 15 pounds.
            assert row["honoured@10"] > 0.98
        if row["objective"] == "wish:season":
            # Not 1: fewer than ten items show Easter or Valentine's Day.
            assert row["honoured@10"] > 0.65
    assert [row["enforced"] for row in rows] == [False, True] * 3


def test_rows_are_fit_for_the_report_and_repeat(deaf, sample, maker, rows_of_the_deaf, tmp_path):
    rows = evaluate_wishes(deaf, sample, maker, kinds=("keyword",), most=FEW)
    for row in rows:
        before = rows_of_the_deaf["wish:keyword", row["enforced"]]
        assert {**row, "seconds": 0} == {**before, "seconds": 0}
    text = write_report(tmp_path, rows, {})[1].read_text(encoding="utf-8")
    assert "| ease | keyword | left out | yes | 1.0000" in text


def test_unknown_kind(deaf, sample, maker):
    with pytest.raises(LlmrecError, match="no wish kind 'cheaper'"):
        evaluate_wishes(deaf, sample, maker, kinds=("cheaper",))
