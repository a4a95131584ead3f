"""Goals from behaviour: what is said is true of the target, which is the next such event."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goal_shop import SPLIT, maker_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import builder_of, tuned

from llmrec.data.events import Histories, History
from llmrec.data.facts import HIGH, LOW, ItemFacts
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.tune.answerable import repeat_share
from llmrec.tune.examples import ExampleTable, build_examples, goal_validation
from llmrec.tune.goals import Asked, GoalMaker, joined, spans
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.conditions import Behaviour
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse
from llmrec.verbalize.templates import Templates


def asked_everywhere(
    goals: GoalMaker, histories: Histories, names: Any = None
) -> list[tuple[History, int, Asked]]:
    """Every goal after every cut of every history."""
    rng, found = np.random.default_rng(0), []
    for _, history in histories:
        behaviour = Behaviour(history, goals.conditions.facts)
        for cut in range(len(history) + 1):
            for name in goals.goals if names is None else names:
                asked = goals.find(goals.named(name), behaviour, cut, rng)
                if asked is not None:
                    found.append((history, cut, asked))
    return found


def is_true(wish: Objective, history: History, cut: int, at: int, facts: ItemFacts) -> bool:
    """Whether an objective is true of an event, by the plainest reading of each of its parts."""
    event, past = history[at], {each.item for each in history[:cut]}
    item = facts.catalog[event.item]
    known = {category for other in past for category in facts.catalog[other].categories}
    truths = {
        "event": event.type == wish.event,
        "min_value": wish.min_value is not None and (event.value or 0) >= wish.min_value,
        "long_tail": bool(facts.tail[event.item]),
        "seen_before": event.item in past,
        "new_for_user": event.item not in past,
        "new_category": bool(set(item.categories) - known),
        "fresh": bool(facts.fresh(event.time)[event.item]),
        "price_level": facts.price_level[event.item] == {"low": LOW, "high": HIGH}.get(wish.price_level),
        "min_price": item.price is not None and item.price >= (wish.min_price or 0),
        "max_price": item.price is not None and item.price <= (wish.max_price or 0),
        "include_words": all(word in item.title.lower() for word in wish.include_words),
        "exclude_words": not any(word in item.title.lower() for word in wish.exclude_words),
        "include_categories": set(wish.include_categories) <= set(item.categories),
        "exclude_categories": not set(wish.exclude_categories) & set(item.categories),
        "include_attributes": all(item.attributes[name] == value for name, value in wish.include_attributes),
        "scenario": set(wish.scenario) <= set(event.scenario),
        "season": True,
        "like": True,
    }
    return all(truths[part] for part in wish.parts)


def test_what_is_said_is_true_of_the_target_and_reads_back(shop: Prepared) -> None:
    goals = maker_of(shop)
    rng, counts = np.random.default_rng(1), Counter()
    for history, cut, asked in asked_everywhere(goals, shop.train(SPLIT)):
        assert cut <= asked.at < cut + goals.table.horizon
        assert history[asked.at].item == asked.target
        assert is_true(asked.objective, history, cut, asked.at, goals.conditions.facts), asked
        counts[asked.goal] += 1
        if counts[asked.goal] <= 5:
            for wordings in ("train", "heldout"):
                said = goals.said(asked, rng, wordings)
                assert parse(said.words, goals.maker.lexicon) == asked.objective, said.words
    assert set(counts) == set(goals.goals)


PLAIN = {
    "event=purchase": "event",
    "long-tail": "long_tail",
    "again": "seen_before",
    "new-category": "new_category",
    "fresh": "fresh",
    "cheap": "price_level",
    "premium": "price_level",
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_target_is_the_next_event_that_answers_the_goal(shop: Prepared, name: str) -> None:
    goals = maker_of(shop)
    facts = goals.conditions.facts
    found = {
        (id(history), cut): asked for history, cut, asked in asked_everywhere(goals, shop.histories, [name])
    }
    assert found
    wish = next(iter(found.values())).objective
    assert wish.parts == (PLAIN[name],)
    assert all(asked.objective == wish for asked in found.values())
    for _, history in shop.histories:
        behaviour = Behaviour(history, facts)
        for cut in range(len(history)):
            stop = min(len(history), cut + goals.table.horizon)
            fitting = [at for at in range(cut, stop) if is_true(wish, history, cut, at, facts)]
            asked = goals.find(goals.named(name), behaviour, cut, np.random.default_rng(0))
            assert (None if asked is None else asked.at) == (fitting[0] if fitting else None)


def test_a_horizon_bounds_how_far_a_target_is_looked_for(shop: Prepared) -> None:
    rows = {"love": {"says": {"min_value": 5}, "horizon": 2}, "far": {"says": {"min_value": 5}}}
    goals = maker_of(shop, add={**rows, "love+long-tail": {"horizon": 9}})
    ahead = {name: set() for name in ("love", "far", "love+long-tail")}
    for _, cut, asked in asked_everywhere(goals, shop.histories, ahead):
        ahead[asked.goal].add(asked.at - cut)
    assert ahead["love"] == {0, 1} and max(ahead["far"]) > 2
    assert 2 <= max(ahead["love+long-tail"]) < 9


def test_conditions_that_are_not_said(shop: Prepared) -> None:
    rows = {
        "bought after a view": {"says": {"event": "purchase"}, "after": "view"},
        "not France": {"says": {"long_tail": True}, "unless": {"scenario": {"country": "France"}}},
        "either": {
            "when": {"event": ["purchase", "cart"], "include_attributes": {"colour": ["Red", "Blue"]}}
        },
        "any colour": {"says": {"include_attributes": {"colour": "target"}, "price_level": "target"}},
    }
    goals = maker_of(shop, add=rows)
    seen = Counter()
    for history, cut, asked in asked_everywhere(goals, shop.histories, rows):
        event, item = history[asked.at], shop.catalog[asked.target]
        seen[asked.goal] += 1
        if asked.goal == "bought after a view":
            assert event.type == "purchase" and history[cut - 1].type == "view"
        elif asked.goal == "not France":
            assert ("country", "France") not in event.scenario
        elif asked.goal == "either":
            assert event.type == "purchase" and item.attributes["colour"] in ("Red", "Blue")
            assert asked.objective.empty
        else:
            assert asked.objective.include_attributes == (("colour", item.attributes["colour"]),)
            assert asked.objective.price_level in ("low", "high")
    assert set(seen) == set(rows)


def test_goals_that_the_data_cannot_answer_are_left_out(shop: Prepared, sample: Prepared) -> None:
    here, there = maker_of(shop), maker_of(sample, "leave-last-out")
    assert {"event=purchase", "event=view", "scenario", "again", "category", "attribute"} <= set(here.goals)
    assert here.goals["event=view"].weight == 0.5  # the values of `each` share their goal's weight
    assert not {"event=purchase", "scenario", "again", "category", "attribute"} & set(there.goals)
    assert not any(set(goal.parts) - set(there.goals) for goal in there.goals.values())
    with pytest.raises(
        LlmrecError, match="goal 'again': it has nobody who comes back to an item. It can answer: lo"
    ):
        maker_of(sample, "leave-last-out", only=("again",))
    with pytest.raises(LlmrecError, match="there is no goal 'agian', there are: event, scenario, "):
        maker_of(sample, "leave-last-out", held_out=("agian",))


def test_held_out_goals_and_all_that_is_made_of_them_never_train(shop: Prepared) -> None:
    held = ("new", "price+keyword", "long-tail+again", "event")
    goals, rng = maker_of(shop, held_out=held), np.random.default_rng(0)
    everything = maker_of(shop)
    gone = set(everything.trained) - set(goals.trained)
    assert gone == {name for name in everything.trained if "new" in name.split("+")} | {
        "keyword+price",
        "event=view",
        "event=purchase",
    }
    for _, history in shop.train(SPLIT):
        ask = goals.on(history)
        for cut in range(len(history)):
            for asked in ask(cut, rng, 1):
                assert asked.goal in goals.trained
                assert not asked.objective.new_for_user
    with pytest.raises(LlmrecError, match="'event' is several goals: name one of them, such as 'event=purc"):
        goals.named("event")
    # They can be asked all the same.
    assert "long-tail+again" in goals.goals
    names = ("new", "long-tail+again", "event=purchase")
    assert {asked.goal for *_, asked in asked_everywhere(goals, shop.histories, names)} == set(names)


def test_only_and_weights_decide_how_often_a_goal_trains(shop: Prepared) -> None:
    goals = maker_of(shop, only=("long-tail", "cheap"), weights={"cheap": 3})
    assert goals.trained == {"long-tail": 1.0, "cheap": 3.0}
    rng, counts = np.random.default_rng(0), Counter()
    for _, history in shop.train(SPLIT):
        ask = goals.on(history)
        for cut in range(len(history)):
            for _ in range(8):
                counts.update(asked.goal for asked in ask(cut, rng, 1))
    assert counts["cheap"] > 1.8 * counts["long-tail"] > 0
    with pytest.raises(LlmrecError, match="'cheap' has weight 0: give it one"):
        maker_of(shop, only=("cheap",), weights={"cheap": 0})
    with pytest.raises(LlmrecError, match="'new\\+price' is in `only` and held out"):
        maker_of(shop, only=("price+new",), held_out=("new",))


def test_several_questions_at_one_cut_have_different_goals(shop: Prepared) -> None:
    goals, rng, lengths = maker_of(shop), np.random.default_rng(0), Counter()
    for _, history in shop.train(SPLIT):
        ask = goals.on(history)
        for cut, most in itertools.product(range(len(history)), (3, 99)):
            asked = ask(cut, rng, most)
            assert len({each.goal for each in asked}) == len(asked)
            for each in asked:
                assert each.at >= cut and history[each.at].item == each.target and each.words
            lengths[most, len(asked)] += 1
    assert lengths[3, 3] and all(number <= 3 for most, number in lengths if most == 3)
    assert (
        len({number for most, number in lengths if most == 99}) > 1
    )  # not every goal has a target everywhere


@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 1.0), n=st.integers(1, 3))
@settings(max_examples=5, deadline=None)
def test_no_event_of_the_hold_out_is_ever_asked_for(
    checkpoints, shop, tmp_path_factory, seed, share, n
) -> None:
    _, tokens, _ = tuned(checkpoints["llama"], shop.catalog)
    goals = maker_of(shop)
    builder = builder_of(
        shop.catalog,
        tokens,
        goals.on,
        shop.histories.event_types,
        ExampleSettings(versions=n, cuts=4, wish_share=share),
        max_events=9,
    )
    folder = tmp_path_factory.mktemp("table") / "table"
    build_examples(builder, shop, SPLIT, folder, seed)
    table, train = ExampleTable(folder), shop.train(SPLIT)
    counts = Counter()
    for row in range(len(table)):
        user = int(table._table[row]["user"])
        later = Counter(train.items_of(user).tolist())
        for tail in table[row].tails:
            assert later[tail.target] > 0
            counts[tail.goal or "next-item"] += 1
    assert table.settings["goals"] == dict(counts)
    assert set(counts) <= {*goals.trained, "next-item"}


def test_windows_of_a_long_history_look_beyond_themselves(checkpoints, shop: Prepared) -> None:
    """A goal's history is all that the user had, and its target may stand in the next window."""
    _, tokens, _ = tuned(checkpoints["llama"], shop.catalog)
    seen: list[tuple[History, int]] = []

    def on(history: History):
        def ask(cut: int, rng: np.random.Generator, most: int) -> list[Asked]:
            seen.append((history, cut))
            return []

        return ask

    examples = ExampleSettings(cuts=99, wish_share=1.0)
    builder = builder_of(shop.catalog, tokens, on, shop.histories.event_types, examples, max_events=5)
    history = max((history for _, history in shop.histories), key=len)
    end = len(history)
    for window in builder.windows(history):
        start = end - len(window)
        builder.example(window, {}, np.random.default_rng(0), history[:start], history[end:])
        end = start + 1
    assert {whole for whole, _ in seen} == {history}
    assert Counter(cut for _, cut in seen).keys() == set(range(len(history)))


def test_validation_asks_each_user_what_the_fold_answers(checkpoints, shop: Prepared) -> None:
    _, tokens, _ = tuned(checkpoints["llama"], shop.catalog)
    goals = maker_of(shop, only=("again",))
    builder = builder_of(shop.catalog, tokens, goals.on, shop.histories.event_types)
    questions = goal_validation(builder, goals, shop, SPLIT, seed=0)
    held = {user: (cut, stop) for user, cut, stop in spans(shop, SPLIT, "valid")}
    for user, (cut, stop) in held.items():
        assert (shop.folds(SPLIT)[shop.histories.offsets[user] :][cut:stop] == 1).all()
    assert 0 < len(questions) <= len(held)
    for example, seen in questions:
        assert (
            example.tails[0].target in example.items
            or len(example.items) == builder.verbalizer.settings.max_events
        )
        assert len(seen) == 0  # what was seen is asked for
    assert repeat_share(shop.train(SPLIT)) > 0.01 and not goals.leaves_out_seen(Objective())


def test_parts_that_contradict_make_no_objective() -> None:
    assert joined([Objective(event="view"), Objective(event="cart")]) is None
    both = joined([Objective(include_words=("mug",), max_price=2.0), Objective(include_words=("mug", "red"))])
    assert both == Objective(include_words=("mug", "red"), max_price=2.0)


def test_templates_from_before_there_were_goals_get_llmrecs_own(shop: Prepared) -> None:
    sources = {name: text for name, text in Templates.load().sources.items() if name != "goals.yaml"}
    old = GoalMaker.of(shop, SPLIT, Templates(sources, "old"))
    assert old.trained == maker_of(shop).trained


def test_a_recipes_file_is_kept_in_its_bundle(shop: Prepared, checkpoints, tmp_path: Path) -> None:
    from tiny_bundles import tiny_recipe

    from llmrec.fit import fit, goal_lines

    mine = tmp_path / "mine.yaml"
    never = "never: {says: {season: thanksgiving}}"
    mine.write_text(f"{{version: 1, goals: {{tail: {{says: {{long_tail: true}}}}, plain: {{}}, {never}}}}}")
    recipe = tiny_recipe(
        shop.directory,
        tmp_path / "bundle",
        checkpoints["gpt2"],
        split=SPLIT,
        examples={"versions": 1, "cuts": 3, "wish_share": 1.0},
        goals={"file": str(mine), "weights": {"plain": 2}},
    )
    bundle = fit(recipe)
    mine.unlink()
    goals = GoalMaker.of(bundle.prepared, SPLIT, bundle.templates, bundle.recipe.goals)
    assert goals.trained == {"tail": 1.0, "plain": 2.0, "never": 1.0}
    counts = bundle.manifest["training"]["goals"]
    assert set(counts) <= {*goals.trained, "next-item"} and counts["plain"] > counts["tail"] > 0
    assert counts["never"] == 0
    lines = list(goal_lines(counts))
    assert lines[0].split() == ["goal", "examples", "share"]
    assert lines[1].split()[:2] == ["plain", str(counts["plain"])]
    with pytest.raises(LlmrecError, match="mine.yaml cannot be read"):
        fit(tiny_recipe(shop.directory, tmp_path / "b2", checkpoints["gpt2"], goals={"file": str(mine)}))
