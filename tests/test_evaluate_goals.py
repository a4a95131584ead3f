"""Goals are measured on the first held-out events that answer them, with and without their words."""

from pathlib import Path

import numpy as np
import pytest
from goal_shop import SPLIT, maker_of

from llmrec.data.facts import ItemFacts
from llmrec.decode.contract import Request
from llmrec.errors import LlmrecError
from llmrec.evaluate.environment import environment
from llmrec.evaluate.goals import evaluate_goals, goal_cases
from llmrec.evaluate.protocol import comparison
from llmrec.evaluate.report import read_report, write_report
from llmrec.retrieve.scoring import ScoringRecommender
from llmrec.tune.goals import spans

NAMES = ("long-tail", "again", "event=purchase", "cheap+long-tail")


class Hearing(ScoringRecommender):
    """Popularity, and with words the tail; it remembers what it was asked."""

    def __init__(self, facts: ItemFacts) -> None:
        super().__init__("hearing", facts.catalog)
        self.filters.facts = facts
        self._popular, self._tail = facts.counts, facts.tail
        self.asked: list[Request] = []

    def score(self, requests):
        self.asked += requests
        rows = [self._popular + (1000 * self._tail if each.words else 0) for each in requests]
        return np.array(rows, dtype=np.float32)


@pytest.fixture(scope="module")
def goals(shop):
    return maker_of(shop, held_out=("long-tail+cheap",))


@pytest.fixture(scope="module")
def measured(shop, goals):
    model = Hearing(goals.conditions.facts)
    return model, evaluate_goals(model, shop, goals, NAMES, SPLIT, extra={"fit_seconds": 1.0})


def test_targets_are_the_first_events_of_the_fold_that_answer(shop, goals) -> None:
    held = {user: (cut, stop) for user, cut, stop in spans(shop, SPLIT, "test")}
    cases = goal_cases(shop, goals, "event=purchase", SPLIT)
    assert 0 < len(cases) < len(held)
    bought = {}
    for user, (cut, stop) in held.items():
        history = shop.histories.history(user, stop)
        if places := [at for at in range(cut, stop) if history[at].type == "purchase"]:
            bought[user] = (cut, places[0], history[places[0]].item)
    assert {case.user: (case.cut, case.asked.at, case.asked.target) for case in cases} == bought
    assert cases == goal_cases(shop, goals, "event=purchase", SPLIT)
    some = np.array(sorted(bought)[:3])
    assert goal_cases(shop, goals, "event=purchase", SPLIT, users=some) == cases[:3]


def test_each_goal_has_a_row_without_words_one_with_them_and_one_with_limits(measured) -> None:
    _, found = measured
    ways = [(False, False), (True, False), (True, True)]
    assert [(each.row["objective"], each.row["said"], each.row["enforced"]) for each in found] == [
        (f"goal:{name}", *way) for name in NAMES for way in ways[: 2 if name == "event=purchase" else 3]
    ]
    for each in found:
        row = each.row
        assert (row["fit_seconds"], row["split"], row["filter_seen"]) == (1.0, SPLIT, False)
        for name, values in each.per_user.items():
            assert len(values) == row["users"] and row[name] == values.mean()
            low, high = row["intervals"][name]
            assert low <= row[name] <= high
        assert ("honoured@10" in row) == (row["objective"] != "goal:event=purchase")


def test_lists_move_with_the_words(measured, goals) -> None:
    rows = {
        (each.row["objective"], each.row["said"]): each.row
        for each in measured[1]
        if not each.row["enforced"]
    }
    plain, said = rows["goal:long-tail", False], rows["goal:long-tail", True]
    assert plain["long_tail@10"] < 0.5 and said["long_tail@10"] == said["honoured@10"] == 1.0
    assert said["recall@10"] > plain["recall@10"]
    assert rows["goal:again", True]["targets_seen"] == rows["goal:again", True]["users"]
    assert rows["goal:cheap+long-tail", True]["honoured@10"] < 1.0


def test_served_lists_are_what_was_asked_for(measured) -> None:
    rows = {each.row["objective"]: each.row for each in measured[1] if each.row["enforced"]}
    assert set(rows) == {"goal:long-tail", "goal:again", "goal:cheap+long-tail"}
    assert all(row["honoured@10"] == 1.0 for row in rows.values())
    alone = {each.row["objective"]: each.row for each in measured[1] if each.row["said"]}
    assert all(row["ndcg@10"] >= alone[name]["ndcg@10"] for name, row in rows.items())


def test_one_users_questions_come_together_and_none_twice(measured) -> None:
    model, found = measured
    keys = [(request.user, request.words, request.filters) for request in model.asked]
    assert len(keys) == len(set(keys)) < sum(each.row["users"] for each in found)
    users = [user for user, _, _ in keys]
    assert users == sorted(users)
    histories = {}
    for request in model.asked:
        assert histories.setdefault(request.user, request.history) == request.history


def test_seen_items_are_left_out_where_people_have_each_item_once(sample) -> None:
    goals = maker_of(sample, "leave-last-out")
    model = Hearing(goals.conditions.facts)
    found = evaluate_goals(model, sample, goals, ("premium", "new"), most=50, hears=False)
    assert [each.row["said"] for each in found] == [False, False]
    assert all(each.row["filter_seen"] and each.row["users"] <= 50 for each in found)
    assert all(request.filters.exclude_seen for request in model.asked)


def test_the_report_takes_the_rows(measured, tmp_path) -> None:
    _, found = measured
    pairs = [comparison(said, plain) for plain, said in zip(found[0:6:3], found[1:6:3], strict=True)]
    paths = write_report(tmp_path, [each.row for each in found], environment(), pairs)
    assert read_report(paths[0])["rows"][1]["said"] is True
    page = paths[1].read_text()
    assert "## Goals" in page and "| hearing | cheap+long-tail | said | allowed |" in page


def test_what_cannot_be_asked_is_said(shop, goals) -> None:
    model = Hearing(goals.conditions.facts)
    with pytest.raises(LlmrecError, match="there is no goal 'love'"):
        evaluate_goals(model, shop, goals, ("love",), SPLIT)
    rare = maker_of(shop, add={"rare": {"says": {"min_value": 5, "event": "purchase"}, "horizon": 1}})
    with pytest.raises(LlmrecError, match="no valid event of the split .* answers a goal"):
        evaluate_goals(model, shop, rare, ("rare+fresh+cheap+again",), SPLIT, "valid")


def test_the_command_measures_goals_when_asked(tiny_bundle: Path, tmp_path: Path, run) -> None:
    arguments = ["--baselines", "", "--wish-questions", "0", "--quiet", "--out", tmp_path / "report"]
    assert run("evaluate", tiny_bundle, *arguments)[0] == 0
    assert not [each for each in rows_of(tmp_path) if each["objective"].startswith("goal:")]
    code, _, err = run("evaluate", tiny_bundle, *arguments, "--goals")
    assert code == 0, err
    asked = {each["objective"]: each for each in rows_of(tmp_path) if each["objective"].startswith("goal:")}
    assert {"goal:long-tail", "goal:category", "goal:attribute", "goal:keyword+price"} <= set(asked)
    assert all(each["said"] and each["model"] == "llmrec" for each in asked.values())


def rows_of(folder: Path) -> list[dict]:
    return read_report(folder / "report" / "report.json")["rows"]
