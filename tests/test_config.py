"""Recipes: what is read, and what is refused with file and key."""

from pathlib import Path

import pytest
import yaml

from llmrec.config import Recipe, as_values, build, changed, load_recipe
from llmrec.errors import LlmrecError
from llmrec.tune.code_settings import TASKS

RECIPES = sorted((Path(__file__).parents[1] / "finetune" / "recipes").glob("*.yaml"))
LEAST = {"data": "sample", "out": "runs/x", "model": "smollm2-135m"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_is_shipped_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert build(Recipe, as_values(recipe), "again") == recipe
    assert build(Recipe, yaml.safe_load(yaml.safe_dump(as_values(recipe))), "again") == recipe


def test_there_are_recipes() -> None:
    assert RECIPES


def test_three_keys_are_enough_and_the_rest_has_defaults() -> None:
    recipe = build(Recipe, LEAST, "recipe")
    assert recipe == Recipe("sample", "runs/x", "smollm2-135m")
    assert recipe.adapter.kind == "lora" and recipe.items.inner == 128 and recipe.prompt.queries >= 4
    assert recipe.model_settings.queries == recipe.prompt.queries


@pytest.mark.parametrize("written", ["1e-3", "0.001", "1.0e-3"])
def test_numbers_may_be_written_as_people_write_them(tmp_path: Path, written: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(LEAST) + f"train: {{learning_rate: {written}, dropout: 0}}\n")
    recipe = load_recipe(path)
    assert recipe.train.learning_rate == 0.001
    assert recipe.train.dropout == 0.0 and isinstance(recipe.train.dropout, float)


WRONG = {
    "unknown key": ({"modle": "x"}, "unknown key 'modle', known: data, out, model"),
    "unknown key inside": ({"train": {"lr": 1}}, "train: unknown key 'lr'"),
    "key that is no name": ({7: 1}, "unknown key 7"),
    "goal that is no text": ({"goals": {"add": {False: {}}}}, "goals: add: the key False is no text"),
    "list for a part": ({"train": [1]}, "train: expected keys and values, got list"),
    "nothing for a part": ({"train": None}, "train: expected keys and values, got NoneType"),
    "word for a number": ({"layers": "two"}, "layers must be int, got 'two'"),
    "truth for a number": ({"train": {"epochs": True}}, "train: epochs must be int, got True"),
    "truth for a fraction": ({"train": {"dropout": True}}, "train: dropout must be float, got True"),
    "fraction for a number": ({"train": {"epochs": 1.5}}, "train: epochs must be int, got 1.5"),
    "word for a fraction": ({"train": {"dropout": "much"}}, "train: dropout must be float, got 'much'"),
    "number for a word": ({"data": 3}, "data must be str, got 3"),
    "number for a truth": ({"random": 1}, "random must be bool, got 1"),
    "nothing for a word": ({"model": None}, "model must be str, got None"),
    "another version": ({"version": 2}, "version is 2, this llmrec reads 1"),
    "no layers": ({"layers": 0}, "layers is 0"),
    "unknown adapter": ({"adapter": {"kind": "qlora"}}, "kind is 'qlora', it must be one of: lora"),
    "unknown precision": ({"train": {"precision": "fp8"}}, "precision is 'fp8'"),
    "unknown readout": ({"readout": "ids"}, "readout is 'ids', it must be one of: retrieve, codes"),
    "codes for vectors": ({"codes": {"beam": 5}}, "codes says nothing where readout is retrieve"),
    "a head for codes": ({"readout": "codes", "head": {"recent": 3}}, "head says nothing where readout is"),
    "a sampler for codes": ({"readout": "codes", "loss": {"sampler": "mixed"}}, "loss says nothing where"),
    "parts for codes": ({"readout": "codes", "items": {"inner": 8}}, "items says nothing where readout is"),
    "no tasks": (
        {"readout": "codes", "codes": {"tasks": dict.fromkeys(TASKS, 0)}},
        "recipe.yaml: codes: tasks are all 0, nothing would train",
    ),
    "no task": (
        {"readout": "codes", "codes": {"tasks": {"next": -1}}},
        "recipe.yaml: codes: tasks: next is -1.0",
    ),
    "no levels": (
        {"readout": "codes", "codes": {"levels": []}},
        "recipe.yaml: codes: balanced: IDs need a level, such as 256, got none",
    ),
    "unknown form": ({"readout": "codes", "codes": {"beam_aware": {"form": "bear"}}}, "form is 'bear'"),
    "no width": ({"readout": "codes", "codes": {"beam": 0}}, "codes: beam is 0, it must be at least 1"),
    "no codes": ({"readout": "codes", "codes": {"levels": [8, 0]}}, "every level needs a code"),
    "no epochs": ({"train": {"epochs": 0}}, "epochs is 0"),
    "rate that is no number": ({"train": {"learning_rate": float("nan")}}, "learning_rate is nan"),
    "dropout of all": ({"train": {"dropout": 1.0}}, "dropout is 1.0"),
    "seed below zero": ({"train": {"seed": -1}}, "seed is -1"),
    "share above one": ({"examples": {"wish_share": 1.5}}, "wish_share is 1.5"),
    "no queries": ({"prompt": {"queries": 0}}, "queries is 0"),
    "no negatives": ({"loss": {"negatives": 0}}, "negatives is 0"),
}


@pytest.mark.parametrize(("change", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_named_with_its_file_and_key(
    tmp_path: Path, change: dict[object, object], said: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **change}))
    with pytest.raises(LlmrecError) as error:
        load_recipe(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", LEAST)
def test_what_has_no_default_must_be_there(name: str) -> None:
    values = {key: value for key, value in LEAST.items() if key != name}
    with pytest.raises(LlmrecError, match=f"recipe: {name} is missing"):
        build(Recipe, values, "recipe")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"data: [1\nout: {", "cannot be read as YAML"),
        (b"\xff\xfe\x00bad", "cannot be read as YAML"),
        (b"data: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        (b"data: a\nout: b\ngoals: {add: {x: {}, x: {wish: new}}}", "'x' twice"),
        (b"", "expected keys and values, got NoneType"),
        (b"- data\n- out\n", "expected keys and values, got list"),
        (b"just words", "expected keys and values, got str"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(LlmrecError) as error:
        load_recipe(path)
    assert str(path) in str(error.value) and said in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_and_a_directory_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(LlmrecError, match="there is no recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(LlmrecError, match="cannot be read"):
        load_recipe(tmp_path)


def test_a_recipe_changes_in_what_is_given_only() -> None:
    recipe = build(Recipe, LEAST, "recipe")
    assert changed(recipe) == recipe
    other = changed(recipe, data="d", out="o", seed=0)
    assert (other.data, other.out, other.train) == ("d", "o", recipe.train)
    assert changed(recipe, seed=5).train.seed == 5
    with pytest.raises(LlmrecError, match="seed is -2"):
        changed(recipe, seed=-2)


def test_codes_are_written_without_query_tokens() -> None:
    said = {"readout": "codes", "items": {"text_encoder": "hash"}, "loss": {"label_smoothing": 0.1}}
    recipe = build(Recipe, {**LEAST, **said, "codes": {"tasks": {"wish": 2}, "levels": [8, 8]}}, "recipe")
    assert recipe.prompts_read.queries == 0 and recipe.codes.tasks.wish == 2.0
    assert build(Recipe, LEAST, "recipe").prompts_read.queries == recipe.prompt.queries
    assert build(Recipe, yaml.safe_load(yaml.safe_dump(as_values(recipe))), "again") == recipe
