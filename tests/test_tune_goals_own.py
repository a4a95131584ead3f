"""Goals that data cannot answer: the shipped table's are left out with a note, a recipe's own are refused."""

from pathlib import Path
from typing import Any

import pytest
from goal_shop import SPLIT, maker_of

from llmrec.config import Recipe, build
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.fit import goal_lines, goals_of, templates_of

NEVER = {
    "type": ({"says": {"event": "purchse"}}, "no training event of the type purchse, there are: "),
    "types": ({"when": {"event": ["veiw", "crat"]}}, "no training event of the type veiw, crat, there are: "),
    "after": ({"after": "veiw"}, "no training event of the type veiw, there are: "),
    "column": ({"says": {"scenario": {"shop": "A"}}}, "no scenario column 'shop', there are: country"),
    "any of a column": ({"says": {"scenario": {"shop": "target"}}}, "no scenario column 'shop'"),
    "place": ({"says": {"scenario": {"country": "Frence"}}}, "no training event with country: Frence"),
    "attribute": ({"says": {"include_attributes": {"color": "Red"}}}, "no attribute 'color' of items"),
    "ruled out": ({"when": {"exclude_attributes": {"color": "Red"}}}, "no attribute 'color' of items"),
    "colour": (
        {"says": {"include_attributes": {"colour": ["Pink", "Grey"]}}},
        "no item of a training event with include_attributes: {colour: [Pink, Grey]}",
    ),
    "category": ({"says": {"include_categories": ["pan"]}}, "no item of a training event with include"),
    "price": ({"says": {"min_price": 500}}, "no item of a training event with min_price: 500"),
    "value": ({"says": {"min_value": 6}}, "no training event with a value of 6 or more"),
    "each": ({"says": {"scenario": {"shop": "each"}}}, "no two values for `each`"),
}  # fmt: skip


def recipe_of(prepared: Prepared, split: str = SPLIT, **goals: Any) -> Recipe:
    values = {"data": str(prepared.directory), "out": "out", "model": "m", "split": split, "goals": goals}
    return build(Recipe, values, "recipe")


@pytest.mark.parametrize("case", NEVER)
@pytest.mark.parametrize("place", ["add", "file"])
def test_a_goal_of_ones_own_that_can_never_train_is_refused(
    shop: Prepared, tmp_path: Path, case: str, place: str
) -> None:
    row, lack = NEVER[case]
    file = tmp_path / "mine.yaml"
    file.write_text(f"{{version: 1, goals: {{mine: {row}, long-tail: {{says: {{long_tail: true}}}}}}}}")
    recipe = recipe_of(shop, **({"add": {"mine": row}} if place == "add" else {"file": str(file)}))
    with pytest.raises(LlmrecError) as error:
        goals_of(recipe, shop, templates_of(recipe))
    assert str(error.value).startswith(f"goals: this data cannot answer 'mine': it has {lack}")
    assert "\n" not in str(error.value)


def test_a_combination_is_refused_for_what_it_is_made_of(shop: Prepared, sample: Prepared) -> None:
    recipe = recipe_of(sample, "leave-last-out", weights={"again+cheap": 2})
    with pytest.raises(LlmrecError) as error:
        goals_of(recipe, sample, templates_of(recipe))
    assert str(error.value) == (
        "goals: this data cannot answer 'again+cheap': it has no 'again' (nobody who comes back to an item)"
    )
    recipe = recipe_of(shop, add={"event+cheap": {}})
    with pytest.raises(LlmrecError, match="it has no 'event' \\(several goals go by this name\\)"):
        goals_of(recipe, shop, templates_of(recipe))


def test_shipped_goals_that_the_data_cannot_answer_are_noted(
    sample: Prepared, shop: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(sample, "leave-last-out", weights={"again": 3})
    templates = templates_of(recipe)
    goals = goals_of(recipe, sample, templates)
    said = capsys.readouterr().err
    assert set(goals.left_out) >= {"event", "scenario", "again", "category", "keyword+price"} - {*goals.goals}
    assert "again: nobody who comes back to an item" in said and "event: no two values for `each`" in said
    assert "category: no categories" in said and "category+price" not in said
    goals_of(recipe, sample, templates, tell=False)
    goals_of(recipe_of(sample, "leave-last-out", only=["long-tail"]), sample, templates)
    goals_of(recipe_of(shop), shop, templates)
    assert not capsys.readouterr().err
    # A file may keep rows of the shipped table: those are nobody's mistake.
    file = tmp_path / "mine.yaml"
    file.write_text(templates.text("goals.yaml") + "  mine: {says: {long_tail: true, fresh: true}}\n")
    mine = recipe_of(sample, "leave-last-out", file=str(file))
    assert "mine" in goals_of(mine, sample, templates_of(mine)).trained


def test_nothing_of_the_shop_is_left_out(shop: Prepared) -> None:
    assert maker_of(shop).left_out == {}


def test_goals_without_examples_stand_in_the_report() -> None:
    lines = list(goal_lines({"long-tail": 3, "never": 0, "next-item": 1}))
    assert [line.split() for line in lines[1:]] == [
        ["long-tail", "3", "75.0%"],
        ["next-item", "1", "25.0%"],
        ["never", "0", "0.0%"],
    ]
    assert len(list(goal_lines({"never": 0}))) == 2
