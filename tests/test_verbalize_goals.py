"""The table of goals: what a file may say, and the one line that a mistake becomes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrec.errors import LlmrecError
from llmrec.verbalize.goals import CONDITIONS, FILE, GoalTable
from llmrec.verbalize.templates import Templates
from llmrec.verbalize.wishes import COMBINATIONS, KINDS


def table_of(**goals: Any) -> GoalTable:
    return GoalTable.read(yaml.safe_dump({"version": 1, "goals": goals}), "goals.yaml")


def shipped() -> GoalTable:
    return GoalTable.read(Templates.load().text(FILE), FILE)


def test_the_shipped_table_has_every_kind_of_wish_and_their_combinations() -> None:
    table = shipped()
    wishes = {goal.wish: goal.name for goal in table.goals.values() if goal.wish}
    assert set(wishes) == set(KINDS)
    for combination in COMBINATIONS:
        goal = table.goal("+".join(wishes[kind] for kind in combination.split("+")))
        assert goal.name in table.goals and goal.weight == 1


def test_the_page_names_every_key_and_condition_and_its_example_reads() -> None:
    page = (Path(__file__).parents[1] / "prompts" / "README.md").read_text(encoding="utf-8")
    page = page[page.index("## goals.yaml") :]
    for name in (*CONDITIONS, "weight", "says", "when", "unless", "after", "wish", "horizon", *KINDS, "each"):
        assert name in page, name
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    table = GoalTable.read(example, "README.md")
    assert table.goals["love+era"].parts == ("love", "era") and table.goals["purchase"].after == "view"


def test_a_combination_is_found_in_whichever_order_and_needs_no_row() -> None:
    table = table_of(a={"says": {"long_tail": True}}, b={"wish": "price"}, **{"a+b": {"weight": 2}})
    assert table.goal("b+a") is table.goals["a+b"]
    three = table.extended({"c": {"wish": "like"}}, "recipe").goal("c+a")
    assert (three.parts, three.weight) == (("c", "a"), 1.0)
    assert table.singles == ("a", "b")
    with pytest.raises(LlmrecError, match="there is no goal 'd', there are: a, b"):
        table.goal("a+d")


def test_rows_and_weights_of_a_recipe_replace_those_of_the_file() -> None:
    table = table_of(a={"wish": "price", "weight": 3}, b={"wish": "like"})
    table = table.extended({"a": {"wish": "keyword"}}, "recipe").weighted({"b": 0.5, "b+a": 4})
    assert {name: (goal.wish, goal.weight) for name, goal in table.goals.items()} == {
        "a": ("keyword", 1.0),
        "b": ("like", 0.5),
        "b+a": ("", 4.0),
    }


def test_values_are_read_as_the_objective_has_them() -> None:
    says = {"include_words": ["Mugs"], "include_attributes": {"year": [1995, "1996"]}, "min_value": 4}
    goal = table_of(a={"says": says, "when": {"event": ["view", "cart"]}}).goals["a"]
    assert goal.says == {
        "include_words": ("mug",),
        "include_attributes": {"year": ("1995", "1996")},
        "min_value": 4.0,
    }
    assert goal.when == {"event": ("view", "cart")}


def test_what_can_be_is_read() -> None:
    rows = {
        "one price": {"says": {"min_price": 5, "max_price": 5}},
        "away": {"says": {"scenario": {"country": "target"}}, "unless": {"scenario": {"country": "Norway"}}},
        "loved": {"says": {"min_value": 4}, "unless": {"min_value": 5}},
        "no": {"says": {"season": "target"}},
    }
    assert set(table_of(**rows).goals) == set(rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not valid YAML"),
        ("goals: []", "there is no table `goals`"),
        ("{version: 1, goals: {}, mixture: 1}", "unknown key 'mixture', known: version, horizon, goals"),
        ("{version: 2, goals: {}}", "version is 2, this llmrec reads 1"),
        ("{version: 1, goals: {}, horizon: 0}", "horizon is 0, it must be a whole number of at least 1"),
        ("{version: 1, goals: {a: 1}}", "goal 'a': expected keys and values"),
        ("{version: 1, goals: {a: {say: {}}}}", "goal 'a': unknown key 'say', known: weight, says, when"),
        ("{version: 1, goals: {a: {weight: -1}}}", "goal 'a': weight is -1, it must be a number"),
        ("{version: 1, goals: {a: {wish: cheap}}}", "goal 'a': there is no wish kind 'cheap'"),
        (
            "{version: 1, goals: {a: {says: {diverse: true}}}}",
            "says.diverse is no condition, there are: event",
        ),
        ("{version: 1, goals: {a: {says: {long_tail: no}}}}", "says.long_tail must be true, or left out"),
        ("{version: 1, goals: {a: {says: {min_value: high}}}}", "says.min_value must be a number"),
        (
            "{version: 1, goals: {a: {says: {price_level: mid}}}}",
            "says.price_level must be one of: low, high",
        ),
        ("{version: 1, goals: {a: {says: {event: [a, b]}}}}", "says.event must be one name"),
        ("{version: 1, goals: {a: {says: {scenario: {c: [x, y]}}}}}", "says.scenario must have one value"),
        ("{version: 1, goals: {a: {says: {scenario: shop}}}}", "says.scenario must name columns"),
        (
            "{version: 1, goals: {a: {says: {exclude_categories: target}}}}",
            "exclude_categories must be a list",
        ),
        ("{version: 1, goals: {a: {says: {exclude_attributes: {b: target}}}}}", "what is ruled out cannot"),
        ("{version: 1, goals: {a: {says: {include_words: [the]}}}}", "include_words has no word to look for"),
        ("{version: 1, goals: {a: {when: {event: each}}}}", "`each` stands in says only"),
        (
            "{version: 1, goals: {a: {says: {season: ramadan}}}}",
            "no season 'ramadan', there are: christmas, ea",
        ),
        ("{version: 1, goals: {a: {when: {season: [easter, x]}}}}", "when.season: there is no season 'x'"),
        ("{version: 1, goals: {a: {says: {season: each}}}}", "there is no season 'each'"),
        (
            "{version: 1, goals: {a: {says: {min_price: 5, max_price: 2}}}}",
            "goal 'a': no price is at least 5 and at most 2",
        ),
        (
            "{version: 1, goals: {a: {says: {min_price: 5}, when: {max_price: 2.5}}}}",
            "goal 'a': no price is at least 5 and at most 2.5",
        ),
        (
            "{version: 1, goals: {a: {says: {long_tail: true}, unless: {long_tail: true}}}}",
            "goal 'a': no event answers it, `unless` rules out the long_tail of `says`",
        ),
        (
            "{version: 1, goals: {a: {when: {event: view}, unless: {event: [cart, view]}}}}",
            "`unless` rules out the event of `when`",
        ),
        (
            "{version: 1, goals: {a: {says: {seen_before: true}, when: {new_for_user: true}}}}",
            "no item is in the history (seen_before) and is not (new_for_user)",
        ),
        ("{version: 1, goals: {'': {}}}", "'' is no name of a goal: give it a text"),
        ("{version: 1, goals: {no: {}}}", "False is no name of a goal: give it a text, in quotes if need be"),
        ("{version: 1, goals: {7: {}}}", "7 is no name of a goal"),
        ("{version: 1, goals: {a: {}, a: {wish: price}}}", "is not valid YAML: 'a' twice"),
        ("{version: 1, goals: {a: {wish: new, wish: price}}}", "is not valid YAML: 'wish' twice"),
        ("{version: 1, goals: {a+b: {}}}", "'a+b' is made of 'a', which is no goal"),
        ("{version: 1, goals: {a: {}, a+a: {says: {}}}}", "a combination has weight and horizon only"),
    ],
)
def test_mistakes_are_one_line_that_names_the_place(text: str, words: str) -> None:
    with pytest.raises(LlmrecError) as error:
        GoalTable.read(text, "my/goals.yaml")
    assert "my/goals.yaml" in str(error.value) and words in str(error.value)
    assert "\n" not in str(error.value)
