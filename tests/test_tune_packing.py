"""One packed pass over a history equals the separate prompts that it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import example as with_example
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, alone, builder_of, random_history, tiny_catalog, tuned

from llmrec.data.events import Event, History
from llmrec.model.settings import AdapterSettings
from llmrec.tune.collate import Example, Tail, collate
from llmrec.tune.examples import ExampleBuilder, shuffle_ties
from llmrec.tune.goals import Ask, Asked
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.objective import Objective

CATALOG = tiny_catalog()
EXACT = {"atol": 1e-5, "rtol": 1e-4}
WISHES = ("", "something under 5 pounds", "for Christmas", "not a mug")
PROMPTS = [
    {},
    {"gaps": False, "attributes": False},
    {"statistics": True},
    {"items": "title"},
    {"items": "both"},
]


def draw_wish(history: History) -> Ask:
    def ask(cut: int, rng: np.random.Generator, most: int) -> list[Asked]:
        said = rng.choice(WISHES, size=most, replace=False)
        return [Asked("wish", cut, history[cut].item, Objective(), str(words)) for words in said]

    return ask


class Recorded:
    """Wishes that remember what was asked and what they answered."""

    def __init__(self) -> None:
        self.said: list[tuple[Event, History, str]] = []

    def __call__(self, history: History) -> Ask:
        def ask(cut: int, rng: np.random.Generator, most: int) -> list[Asked]:
            asked = draw_wish(history)(cut, rng, most)
            self.said.extend((history[cut], history[:cut], each.words) for each in asked)
            return asked

        return ask


def settings_of(cuts: int, asks: int = 1) -> ExampleSettings:
    return ExampleSettings(cuts=cuts, asks=asks, wish_share=1.0)


@pytest.mark.parametrize("pack", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("prompt", PROMPTS, ids=["plain", "bare", "statistics", "title", "both"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("asks", [1, 2])
def test_the_states_of_a_pass_are_those_of_the_prompts_it_stands_for(
    checkpoints, asks, name, prompt, pack: bool
) -> None:
    adapter = AdapterSettings("prompt", tokens=3) if name == "qwen3" else AdapterSettings("lora")
    model, tokens, _ = tuned(checkpoints[name], CATALOG, adapter, queries=3)
    wishes, rng = Recorded(), np.random.default_rng(4)
    types = ("click", "purchase")
    builder = builder_of(CATALOG, tokens, wishes, types, settings_of(99, asks), **prompt)
    windows = [random_history(rng, length, len(CATALOG), types) for length in (2, 7, 5)]
    attributes = [{"country": "Norway"}, {}, {"age": 33.0}]
    examples = [builder.example(w, a, rng) for w, a in zip(windows, attributes, strict=True)]
    batch = collate(examples, tokens.queries, pack=pack)
    assert len(batch.ids) < 3 if pack else len(batch.ids) == 3
    with torch.no_grad():
        states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1)
    assert torch.isfinite(states).all()
    at_queries, targets = iter(states[batch.query_rows]), iter(batch.query_targets.tolist())
    at_items, next_items = iter(states[batch.item_rows]), iter(batch.item_targets.tolist())
    said = iter(wishes.said)
    for window, known in zip(windows, attributes, strict=True):
        for cut in np.repeat(range(len(window)), asks).tolist():  # all, that after no event included
            target, history, words = next(said)
            assert (target, history) == (window[cut], window[:cut])
            ids = tokens.prompt(builder.verbalizer.prompt(window[:cut], words, known))
            head = len(tokens.head(builder.verbalizer.prompt(window[:cut], "", known)))
            torch.testing.assert_close(next(at_queries), alone(model, ids)[[head - 1, -3, -2, -1]], **EXACT)
            assert next(targets) == window[cut].item
        if prompt.get("items") == "title":
            continue
        for at in range(1, len(window)):  # the sequence loss: a prompt that stops at each item
            ids = tokens.head(builder.verbalizer.prompt(window[:at], "", known))
            torch.testing.assert_close(next(at_items), alone(model, ids)[-1], **EXACT)
            assert next(next_items) == window[at].item
    assert next(at_queries, None) is next(at_items, None) is next(said, None) is None


def test_the_comparison_would_see_a_tail_that_saw_too_much(checkpoints) -> None:
    model, tokens, _ = tuned(checkpoints["llama"], CATALOG)
    builder = builder_of(CATALOG, tokens, examples=settings_of(1))
    rng = np.random.default_rng(0)
    example = builder.question(random_history(rng, 6, len(CATALOG)), "", {}, 0)
    batch = collate([example], tokens.queries)
    shorter = Tail(example.tails[0].cut - 2, example.tails[0].ids, 0)
    other = collate([type(example)(example.head, [], [], [shorter])], tokens.queries)
    with torch.no_grad():
        one = model(batch.ids, batch.visible, batch.positions)
        two = model(other.ids, other.visible, other.positions)
    assert (one - two)[0, -1].abs().max() > 1e-2


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(2, 30), longest=st.integers(1, 12))
def test_windows_of_a_long_history_are_prompts_of_their_own(checkpoints, seed, length, longest) -> None:
    rng = np.random.default_rng(seed)
    history = random_history(rng, length, len(CATALOG))
    model, tokens, _ = cached(checkpoints)
    builder = builder_of(CATALOG, tokens, draw_wish, examples=settings_of(2), max_events=longest)
    windows = builder.windows(history)
    learnt = [event for window in reversed(windows) for event in window[1:]]
    assert learnt == list(history[1:])  # each event is a target once, oldest window last
    assert windows[0][-longest:] == history[-longest:]
    for window in windows:
        assert 2 <= len(window) <= longest + 1
        example = builder.example(window, {}, rng)
        assert [target for target in example.next_item] == [event.item for event in window[1:]]
        batch = collate([example], tokens.queries)
        with torch.no_grad():
            states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1)
        for rows, tail in zip(batch.query_rows, example.tails, strict=True):
            ids = [*example.head[: tail.cut], *tail.ids]
            at = [tail.cut - 1, *range(len(ids) - tokens.queries, len(ids))]
            torch.testing.assert_close(states[rows], alone(model, ids)[at], **EXACT)
    whole = tokens.prompt(builder.verbalizer.prompt(history[:-1], ""))
    newest = builder.question(windows[0][:-1], "", {}, 0)
    assert [*newest.head, *newest.tails[0].ids] == whole


_MODEL = []


def cached(checkpoints):
    """One model for all of hypothesis's examples."""
    if not _MODEL:
        _MODEL.append(tuned(checkpoints["gemma3"], CATALOG))
    return _MODEL[0]


def test_a_question_is_the_prompt_as_it_is_asked(checkpoints) -> None:
    _, tokens, _ = tuned(checkpoints["gpt2"], CATALOG)
    builder = builder_of(CATALOG, tokens, statistics=True)
    history = random_history(np.random.default_rng(1), 5, len(CATALOG))
    example = builder.question(history, "for Christmas", {"country": "Norway"}, 7)
    prompt = tokens.prompt(builder.verbalizer.prompt(history, "for Christmas", {"country": "Norway"}))
    assert [*example.head, *example.tails[0].ids] == prompt
    assert example.tails[0].cut == len(example.head) and example.tails[0].target == 7


def test_nothing_to_learn_from_one_event(checkpoints) -> None:
    _, tokens, _ = tuned(checkpoints["gpt2"], CATALOG)
    builder: ExampleBuilder = builder_of(CATALOG, tokens)
    rng = np.random.default_rng(0)
    assert builder.example((), {}, rng) is None
    assert builder.example((Event(3),), {}, rng) is None


def test_ties_change_places_and_times_do_not() -> None:
    history = tuple(Event(at, time) for at, time in enumerate([1, 2, 2, 2, None, None, 5, 5]))
    seen = set()
    for seed in range(60):
        shuffled = shuffle_ties(history, np.random.default_rng(seed))
        assert [event.time for event in shuffled] == [event.time for event in history]
        assert sorted(event.item for event in shuffled) == list(range(8))
        assert [shuffled[at].item for at in (0, 4, 5)] == [0, 4, 5]  # unknown times are no ties
        seen.add(tuple(event.item for event in shuffled))
    assert len(seen) == 12


def test_each_prompt_knows_the_newest_items_before_it(checkpoints) -> None:
    _, tokens, _ = tuned(checkpoints["llama"], CATALOG)
    builder = builder_of(CATALOG, tokens, examples=settings_of(99))
    rng = np.random.default_rng(5)
    window = random_history(rng, 6, len(CATALOG))
    batch = collate([builder.example(window, {}, rng)], tokens.queries, recent=3)
    items = [event.item for event in window]
    expected = [([-1, -1, -1] + items[:cut])[: -4 if cut >= 0 else None : -1] for cut in range(6)]
    assert batch.query_recent.tolist() == expected
    assert batch.item_recent.tolist() == expected[1:]
    asked = builder.question(window, "", {}, 0)
    assert collate([asked], tokens.queries, 3).query_recent.tolist() == [items[:-4:-1]]


@with_example(lengths=[40, 20, 18, 11, 9], seed=0)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), seed=st.integers(0, 10**6))
def test_packing_keeps_every_example_and_wastes_no_more(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    examples = []
    for length in lengths:
        head = rng.integers(1, 99, length).tolist()
        at = [length - 1] if length > 1 else []
        examples.append(Example(head, at, at, [Tail(length, [7, 8], 3, len(at))], at))
    plain, packed = collate(examples, 2, 1), collate(examples, 2, 1, pack=True)
    if lengths == [40, 20, 18, 11, 9]:  # rows of 42 + 13 and of 22 + 20 + 11
        assert packed.ids.shape == (2, 55)
    assert packed.places <= plain.places and packed.tokens == plain.tokens == sum(lengths) + 2 * len(lengths)
    for name in ("item_targets", "query_targets", "item_recent", "query_recent", "item_of", "query_of"):
        assert torch.equal(getattr(packed, name), getattr(plain, name))
    for batch in (plain, packed):
        ids, positions = batch.ids.flatten(), batch.positions.flatten()
        at_cut, *at_queries = batch.query_rows.T
        assert ids[at_cut].tolist() == [example.head[-1] for example in examples]
        assert ids[batch.item_rows].tolist() == [example.head[-1] for example in examples if example.item_at]
        assert all((positions[at] == torch.tensor(lengths) + m).all() for m, at in enumerate(at_queries))
        seen = batch.visible[at_queries[-1] // batch.ids.shape[1], at_queries[-1] % batch.ids.shape[1]]
        for row, example in enumerate(examples):  # the last query sees its own history, and no other
            place = int(at_queries[-1][row]) // batch.ids.shape[1]
            assert batch.ids[place][seen[row]].tolist() == [*example.head, 7, 8]
