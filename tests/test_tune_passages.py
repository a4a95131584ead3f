"""Which tokens train which task, and that a pass teaches what its prompts would teach one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from code_models import SIZES, Writing, writing
from tiny_models import random_history, tiny_catalog

from llmrec.data.catalog import Catalog
from llmrec.data.events import Event
from llmrec.errors import LlmrecError
from llmrec.model.settings import AdapterSettings
from llmrec.tune.beam_aware import beam_aware
from llmrec.tune.code_losses import CodeLoss
from llmrec.tune.code_settings import (
    HISTORY,
    ID_TO_TEXT,
    NEXT,
    TASKS,
    TEXT_TO_ID,
    TITLES_TO_ID,
    WISH,
    BeamAware,
    CodeSettings,
    TaskWeights,
)
from llmrec.tune.goals import Asked
from llmrec.tune.passages import Passage, collate_passages, passage
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.item_wordings import FILE, ItemWordings
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.templates import Templates

CATALOG = tiny_catalog()
ALWAYS = CodeSettings(aligned=1.0)
ALL = CodeSettings(aligned=1.0, titles=2, tasks=TaskWeights(next_title=1.0))


def asks(history):
    """The last event of a history is what is wished for."""

    def ask(cut: int, rng: np.random.Generator, most: int) -> list[Asked]:
        last = len(history) - 1
        return [Asked("kind", last, history[last].item, Objective(), "a mug")] if cut <= last else []

    return ask


def passages_of(made: Writing, lengths=(9, 2, 5), seed: int = 0) -> list[Passage]:
    rng = np.random.default_rng(seed)
    found = []
    for length in lengths:
        example = made.builder.example(random_history(rng, length, len(CATALOG)), {}, rng)
        heads = made.builder.verbalizer.settings.items == "token"
        found.append(passage(example, made.prompts.sequences, heads, made.items.runs(example, rng)))
    return found


def told(made: Writing, each: Passage) -> list[tuple[int, list[int], list[int]]]:
    """(task, the prompt alone, what is to be written) for each run of trained tokens."""
    found = []
    for run in (each.head, *each.tails):
        before = [] if run is each.head else list(each.head.ids[: run.cut])
        for at, (token, task) in enumerate(zip(run.ids, run.tasks, strict=True)):
            if task >= 0:
                found.append((task, [*before, *run.ids[:at]], [token]))
    return found


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_a_pass_teaches_what_its_prompts_teach_alone(checkpoints, name: str, pack: bool) -> None:
    adapter = AdapterSettings("prompt", tokens=2) if name == "gpt2" else None
    made = writing(checkpoints[name], CATALOG, ALL, adapter, asks)
    passages = passages_of(made, (16, 2, 2))
    batch = collate_passages(passages, pack)
    assert batch.tokens <= batch.places and (batch.ids.shape[0] < 3) == pack
    loss = CodeLoss(made.model, made.items.words)
    with torch.no_grad():
        losses = loss(batch)
    alone: dict[int, list[float]] = {task: [] for task in range(len(TASKS))}
    for each in passages:
        for task, prompt, (token,) in told(made, each):
            ids = torch.tensor([prompt])
            with torch.no_grad():
                logits = made.model.backbone(input_ids=ids).logits[0, -1]
            level = next((own for own in made.prompts.tokens.levels if token in own), made.items.words)
            chances = torch.log_softmax(logits[torch.as_tensor(level)], 0)
            alone[task].append(-float(chances[np.flatnonzero(level == token)[0]]))
    for task, values in alone.items():
        assert values, TASKS[task]
        assert float(losses[task]) == pytest.approx(np.mean(values), abs=2e-4), TASKS[task]


def test_the_history_trains_every_item_but_the_first_and_each_prompt_its_answer(checkpoints) -> None:
    made = writing(checkpoints["qwen3"], CATALOG, CodeSettings(aligned=0), gaps=True)
    history = tuple(Event(item, 10**6 * item) for item in (3, 8, 21, 3, 0))
    example = made.builder.example(history, {}, np.random.default_rng(0))
    each = passage(example, made.prompts.sequences)
    written = [
        run.ids[at]
        for run in (each.head, *each.tails)
        for at in range(len(run.ids))
        if run.tasks[at] == HISTORY
    ]
    assert written == made.prompts.sequences[[8, 21, 3, 0]].ravel().tolist()
    tails = [run for run in each.tails if NEXT in run.tasks]
    assert len(tails) == len(example.tails) == 4
    for run, tail in zip(tails, example.tails, strict=True):
        assert run.ids == made.prompts.sequences[tail.target].tolist() and set(run.tasks) == {NEXT}
        assert history[tail.events].item == tail.target
        assert (
            tail.events == 0
            or each.head.ids[run.cut - 1] == made.prompts.sequences[history[tail.events - 1].item, -1]
        )


def test_prompts_with_a_goal_are_wishes(checkpoints) -> None:
    made = writing(
        checkpoints["llama"],
        CATALOG,
        CodeSettings(aligned=0),
        goals=asks,
        examples=ExampleSettings(wish_share=1.0),
    )
    (each,) = passages_of(made, (6,))
    wishes = [run for run in each.tails if WISH in run.tasks]
    assert len(wishes) == 4 and not any(NEXT in run.tasks for run in each.tails)
    for run in wishes:
        assert made.prompts.tokenizer.decode(run.ids[: -len(SIZES)]) == " Wanted: a mug"
        assert run.tasks == [-1] * (len(run.ids) - 3) + [WISH] * 3


@pytest.mark.parametrize("items", ["both", "title"])
def test_words_of_items_do_not_give_their_codes_away(checkpoints, items: str) -> None:
    made = writing(checkpoints["llama"], CATALOG, CodeSettings(aligned=0), items=items)
    (each,) = passages_of(made, (6,))
    assert set(each.head.tasks) == {-1} and {task for run in each.tails for task in run.tasks} <= {-1, NEXT}


def test_items_are_told_in_words_and_codes(checkpoints) -> None:
    retired = [replace(item, retired=at % 2 == 0) for at, item in enumerate(CATALOG.items)]
    made = writing(checkpoints["llama"], Catalog(retired), ALWAYS)
    tokenizer, sequences = made.prompts.tokenizer, made.prompts.sequences.tolist()
    seen: dict[int, set[int]] = {TEXT_TO_ID: set(), ID_TO_TEXT: set(), TITLES_TO_ID: set()}
    rng = np.random.default_rng(0)
    for _ in range(40):
        example = made.builder.example(random_history(rng, 7, len(CATALOG)), {}, rng)
        runs = made.items.runs(example, rng)
        assert [max(run.tasks) for run in runs] == [TEXT_TO_ID, ID_TO_TEXT, TITLES_TO_ID]
        for run in runs:
            assert run.cut == len(made.prompts.prefix) == 1
            said = tokenizer.decode(run.ids)
            written = [token for token, task in zip(run.ids, run.tasks, strict=True) if task >= 0]
            task = max(run.tasks)
            if task == ID_TO_TEXT:
                assert written[-1] == tokenizer.eos_token_id and set(written) <= set(
                    made.items.words.tolist()
                )
                title = tokenizer.decode(written[:-1])
                item = next(at for at, one in enumerate(CATALOG.items) if f" {one.title}" == title)
                assert [token for token in run.ids if token in made.prompts.tokens.ids] == sequences[item]
            else:
                item = sequences.index(written)
                assert task == TITLES_TO_ID or CATALOG[item].title in said
                if task == TITLES_TO_ID:
                    order = [*example.items, example.next_item[-1]]
                    past = [name.strip() for name in said.removeprefix("History:").split(";")[:-1]]
                    ends = [at for at in range(1, 7) if order[at] == item]
                    before = [[CATALOG[one].title for one in order[max(0, at - 6) : at]] for at in ends]
                    assert past in before
            seen[task].add(item)
    for task in (TEXT_TO_ID, ID_TO_TEXT):
        assert len(seen[task]) > 8 and all(item % 2 for item in seen[task])


def test_tasks_without_weight_and_passes_without_items(checkpoints) -> None:
    one = replace(ALWAYS, tasks=TaskWeights(text_to_id=0, titles_to_id=0))
    rng = np.random.default_rng(0)
    for settings, runs in ((one, 1), (replace(ALWAYS, aligned=0.0), 0)):
        made = writing(checkpoints["llama"], CATALOG, settings)
        example = made.builder.example(random_history(rng, 5, len(CATALOG)), {}, rng)
        assert len(made.items.runs(example, rng)) == runs


def test_the_loss_of_a_task_that_a_batch_lacks_is_zero_and_has_a_gradient(checkpoints) -> None:
    made = writing(checkpoints["llama"], CATALOG, CodeSettings(aligned=0))
    losses = CodeLoss(made.model, made.items.words)(collate_passages(passages_of(made)))
    assert [float(loss.detach()) > 0 for loss in losses] == [True, True, *[False] * 5]
    sum(losses).backward()
    assert made.model.rows.grad is not None and made.model.rows.grad.isfinite().all()


# --- beams ------------------------------------------------------------------------------------------------


CHANCES = torch.log_softmax(torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 1.0, 2.0]]), 1)
TARGETS = torch.tensor([3, 1])


@pytest.mark.parametrize("width", [1, 2, 9])
def test_the_penalty_is_the_papers_formula(width: int) -> None:
    chances = CHANCES.clone().requires_grad_()
    added, weight = beam_aware(chances, TARGETS, BeamAware("penalty", 0.5, 2.0, width))
    for row, target in enumerate(TARGETS.tolist()):
        border = sorted(CHANCES[row].tolist(), reverse=True)[min(width, 4) - 1]
        wanted = 0.5 / (1 + np.exp(-(border - float(CHANCES[row, target])) / 2.0))
        assert float(added[row].detach()) == pytest.approx(wanted, abs=1e-6)
    assert weight.tolist() == [1.0, 1.0]
    added.sum().backward()
    assert (chances.grad[torch.arange(2), TARGETS] < 0).all()  # a likelier target costs less
    chances.grad[torch.arange(2), TARGETS] = 0
    assert not chances.grad.any()  # nothing flows into the border


def test_the_weight_rises_inside_the_beam_and_has_no_gradient() -> None:
    chances = CHANCES.clone().requires_grad_()
    added, weight = beam_aware(chances, TARGETS, BeamAware("weight", 0.5, 2.0, 2))
    assert not added.any() and not weight.requires_grad
    assert 1 < float(weight[0]) < 1.25 < float(weight[1]) < 1.5
    assert [part.tolist() for part in beam_aware(CHANCES, TARGETS, BeamAware())] == [[0, 0], [1, 1]]


def test_the_loss_takes_them(checkpoints) -> None:
    made = writing(checkpoints["llama"], CATALOG, CodeSettings(aligned=0))
    batch = collate_passages(passages_of(made))
    with torch.no_grad():
        plain, penalty, weight = (
            CodeLoss(made.model, made.items.words, beams=BeamAware(form, 0.5, 2.0, 2))(batch)
            for form in ("none", "penalty", "weight")
        )
    for task in (HISTORY, NEXT):
        assert plain[task] < penalty[task] < plain[task] + 0.5
        assert 0 < abs(weight[task] - plain[task]) < 0.5


# --- wordings ---------------------------------------------------------------------------------------------


def test_wordings_come_with_llmrec_and_may_be_changed() -> None:
    shipped = Templates.load()
    assert len(ItemWordings.load(shipped).text_to_id) >= 1
    assert ItemWordings.load(Templates({}, "none")) == ItemWordings.load(shipped)
    own = Templates({FILE: 'version: 1\ntext_to_id: ["{text}:"]\nid_to_text: ["a{item}b"]\n'}, "own")
    rng = np.random.default_rng(0)
    assert [one.text for one in ItemWordings.load(own).before_id("{item}", rng)] == ["{item}:"]
    assert len(ItemWordings.load(own).before_title(3, rng)) == 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("version: 2", "must have version: 1"),
        ("[", "is not YAML"),
        ("version: 1\ntext_to_id: x", "text_to_id must be a list of wordings"),
        ("version: 1\ntext_to_id: [x]", "'x' must have {text} once"),
        ('version: 1\ntext_to_id: ["{text}"]\nid_to_text: ["{item}"]', "once, and a word before it"),
    ],
)
def test_wrong_wordings_are_named(text: str, fault: str) -> None:
    with pytest.raises(LlmrecError, match=f"own/items.yaml.*{fault}"):
        ItemWordings.load(Templates({FILE: text}, "own"))
