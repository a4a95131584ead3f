"""From a recipe to a bundle whose model writes codes: data, IDs, training table, fine-tuning, files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.bundle import check_place
from llmrec.codes.bundle import CodeBundle, write_code_bundle
from llmrec.codes.seen import SeenGains, fit_gains
from llmrec.codes.starting import start_codes
from llmrec.codes.title_questions import title_questions
from llmrec.config import Recipe
from llmrec.data.prepared import Case, Prepared
from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.errors import require_extra
from llmrec.files import only_writer, read_json
from llmrec.fit import TRAIN_PACKAGES, goals_of, open_workspace, prepared_data, templates_of
from llmrec.items.id_files import MANIFEST, generation_of, load_ids
from llmrec.items.ids import ItemIds
from llmrec.items.titles import title_levels
from llmrec.items.trie import Trie
from llmrec.items.trie_building import padded
from llmrec.make_ids import VectorSettings, make_ids
from llmrec.progress import track
from llmrec.verbalize.item_wordings import ItemWordings
from llmrec.verbalize.next_title import title_prompts
from llmrec.verbalize.render import Verbalizer
from llmrec.versions import older_numbers, versions_of

if TYPE_CHECKING:
    from llmrec.model.code_model import CodeModel
    from llmrec.tune.code_training import Find, Question
    from llmrec.tune.collate import Example
    from llmrec.tune.examples import ExampleBuilder
    from llmrec.tune.goals import GoalMaker

_SHOWN = 10
"""Places of a list that validation looks at."""


def fit_codes(recipe: Recipe) -> CodeBundle:
    """Train as the recipe says and write its bundle; goes on where an interrupted run stopped.

    The workspace is that of `fit.fit`; where the recipe names no IDs, `OUT.work/ids` has those made for it.
    """
    require_extra("train", TRAIN_PACKAGES, "fine-tuning")
    import torch
    from accelerate import PartialState

    # Without this, accelerate takes each process on CPUs for the only one.
    processes = PartialState(cpu=not torch.accelerator.is_available())
    out, workspace = Path(recipe.out), Path(f"{recipe.out}.work")
    check_place(out)
    if processes.is_main_process:
        with only_writer(workspace):
            return _fit(recipe, out, workspace)
    return _fit(recipe, out, workspace)


def _fit(recipe: Recipe, out: Path, workspace: Path) -> CodeBundle:
    import torch
    from accelerate import PartialState

    from llmrec.model.checkpoints import source_of
    from llmrec.model.code_model import new_code_model
    from llmrec.model.code_tokens import CodePrompts, add_code_tokens
    from llmrec.model.pretrained import load_tokenizer, resolve
    from llmrec.tune.alignment import ItemTasks
    from llmrec.tune.code_losses import CodeLoss
    from llmrec.tune.code_training import CodeTrainer
    from llmrec.tune.examples import ExampleTable, build_examples
    from llmrec.tune.passages import CodeExampleBuilder

    processes, started = PartialState(), time.monotonic()
    with processes.main_process_first():
        claim = open_workspace(recipe, workspace) if processes.is_main_process else None
        prepared = prepared_data(recipe, workspace)
        base = resolve(recipe.model)
        ids, vectors = ids_of(recipe, prepared, workspace)
    tokenizer, templates = load_tokenizer(base), templates_of(recipe)
    forbidden = tuple(tokenizer.all_special_tokens)
    prompts = CodePrompts(
        tokenizer, add_code_tokens(tokenizer, ids.sizes, recipe.adapter.soft_prompt), ids.codes
    )
    types = prepared.histories.event_types
    verbalizer = Verbalizer(prepared.catalog, recipe.prompts_read, types, templates, forbidden)
    said = replace(recipe.prompts_read, items="title")
    titles = Verbalizer(prepared.catalog, said, types, templates, forbidden)
    lines = None
    if recipe.codes.tasks.next_title:
        lines = title_prompts(prepared.catalog, types, templates, forbidden, recipe.codes.titles, True)
    items = ItemTasks(prompts, titles, ItemWordings.load(templates), recipe.codes, lines)
    goals = goals_of(recipe, prepared, templates, processes.is_main_process)
    builder = CodeExampleBuilder(verbalizer, prompts, goals.on, recipe.examples)
    table = workspace / "examples"
    with processes.main_process_first():
        if not (table / "settings.json").is_file():
            total = recipe.examples.versions * len(prepared.histories)
            with track("training table", total=total, show=processes.is_main_process) as progress:
                names = goals.trained if recipe.examples.wish_share else ()
                seed, advance = recipe.train.seed, progress.advance
                build_examples(builder, prepared, recipe.split, table, seed, advance, names)
        if claim is not None:
            claim(prepared, ids.digest)
    torch.manual_seed(recipe.train.seed)
    model, mark = new_code_model(
        recipe.model_settings,
        prompts.tokens,
        items.answers,
        ids.codes,
        recipe.train.dropout,
        recipe.codes.start == "events",
    )
    examples, questions = ExampleTable(table), questions_of(recipe, builder, goals, prepared)
    start_codes(recipe, prepared, model, prompts, ids.codes, examples, questions)
    searching, finds = searcher(Trie.build(prompts.sequences), prompts.tokens.levels, recipe.codes.beam), {}
    validated = dict(questions) if recipe.codes.tasks.writes_codes else {}
    if lines is not None:
        cases = _drawn_cases(recipe, prepared)
        spare = max(map(len, items.written))
        validated["titles"] = title_questions(prepared, cases, prompts, lines, spare)
        trie = Trie.build(padded(items.written))
        finds["titles"] = finder(searcher(trie, title_levels(trie), recipe.codes.beam))
    trainer = CodeTrainer(
        CodeLoss(model, items.words, recipe.loss.label_smoothing, recipe.codes.beam_aware),
        recipe.codes.tasks,
        examples,
        prompts.sequences,
        items,
        recipe.prompt.items == "token",
        validated,
        finder(searching),
        recipe.train,
        workspace / "run",
        finds,
    )
    state = trainer.run()
    if processes.is_main_process:
        training = {
            "seconds": round(time.monotonic() - started, 1),
            "training_seconds": round(state.seconds, 1),
            "tokens_per_second": round(state.tokens_per_second, 1),
            "padding_share": round(state.padding_share, 4),
            "updates": state.update,
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "validation_ndcg@10": state.best if trainer.validates else None,
            "trainable_parameters": sum(v.numel() for v in model.parameters() if v.requires_grad),
            "goals": examples.settings["goals"],
            "log": state.log,
        }
        gains = gains_of(searching(model.eval()), questions.get("plain", ()))
        origin = {"name": recipe.model, "source": source_of(base), "fingerprint": mark}
        write_code_bundle(
            out, recipe, prepared, templates, prompts, ids, vectors, gains, model, origin, training
        )
    processes.wait_for_everyone()
    return CodeBundle(out)


def ids_of(recipe: Recipe, prepared: Prepared, workspace: Path) -> tuple[ItemIds, dict[str, Any]]:
    """The IDs that the recipe names, or else those of the workspace, made when there are none yet.

    These are the generation after that of the bundle that they will replace. With them comes what they were
    made from. Raises `LlmrecError` for IDs of another catalogue.
    """
    settings = recipe.codes
    directory = workspace / "ids" if settings.ids is None else Path(settings.ids)
    if settings.ids is None and not (directory / MANIFEST).is_file():
        source = VectorSettings(
            settings.vectors, recipe.items.text_encoder, recipe.split, weight=settings.weight
        )
        make_ids(
            prepared,
            directory,
            settings.quantised(),
            source,
            settings.collisions,
            recipe.train.seed,
            after=_generation(Path(recipe.out)),
        )
    names = [item.id for item in prepared.catalog.items]
    return load_ids(directory, names), read_json(directory / MANIFEST, "item IDs")["vectors"]


def _generation(out: Path) -> int:
    """The newest generation of IDs in the bundle at `out` and its older versions, 0 where there are none."""
    older = (versions_of(out) / str(number) for number in older_numbers(out))
    return max(generation_of(each / "ids") for each in (out, *older))


def questions_of(
    recipe: Recipe, builder: ExampleBuilder, goals: GoalMaker, prepared: Prepared
) -> dict[str, Sequence[Question]]:
    """Validation prompts, plain and with goals, at most as many of each as the recipe wants."""
    from llmrec.tune.examples import goal_validation, validation_questions

    most, seed = recipe.codes.questions, recipe.train.seed
    found: dict[str, Sequence[Question]] = {}
    if recipe.examples.wish_share < 1:  # else a plain prompt only stands in for a goal
        found["plain"] = validation_questions(builder, prepared, _drawn_cases(recipe, prepared))
    if recipe.examples.wish_share:
        asked = goal_validation(builder, goals, prepared, recipe.split, seed)
        found["goals"] = [asked[at] for at in _some(len(asked), most, seed)]
    return found


def _drawn_cases(recipe: Recipe, prepared: Prepared) -> list[Case]:
    """Cases of the valid fold, at most as many as the recipe wants."""
    cases = prepared.cases(recipe.split, "valid")
    return [cases[at] for at in _some(len(cases), recipe.codes.questions, recipe.train.seed)]


def _some(count: int, most: int, seed: int) -> list[int]:
    """At most `most` of the numbers below `count`, in order."""
    chosen = np.random.default_rng(seed).permutation(count)[:most]
    return sorted(chosen.tolist())


def searcher(trie: Trie, levels: Sequence[np.ndarray], width: int) -> Callable[[CodeModel], BeamSearch]:
    """The beam search that serves a model later, for a model in training; `levels` as for `BeamSearch`."""
    from llmrec.engines.transformers import TransformersEngine
    from llmrec.model.code_model import PlainView

    def search(model: CodeModel) -> BeamSearch:
        engine = TransformersEngine(PlainView(model), device=str(model.rows.device))
        return BeamSearch(trie, engine, BeamSettings(width=width), levels)

    return search


def finder(searching: Callable[[CodeModel], BeamSearch]) -> Find:
    """Finds the targets of questions with a model in training."""

    def find(model: CodeModel, questions: Sequence[Question]) -> np.ndarray:
        search = searching(model)
        ranks = np.full(len(questions), _SHOWN, dtype=np.int64)
        step = search.settings.batch
        for start in range(0, len(questions), step):
            part = questions[start : start + step]
            allowed = np.ones((len(part), search.trie.items), dtype=bool)
            for row, (_, left_out) in enumerate(part):
                allowed[row, left_out] = False
            index, _ = search.search([_asked(example) for example, _ in part], _SHOWN, allowed)
            hit = index == np.array([example.tails[0].target for example, _ in part])[:, None]
            ranks[start : start + step] = np.where(hit.any(1), hit.argmax(1), _SHOWN)
        return ranks

    return find


def gains_of(search: BeamSearch, questions: Sequence[Question]) -> SeenGains:
    """What items of the history gain in plain validation questions."""
    return fit_gains(
        search,
        [_asked(example) for example, _ in questions],
        [example.items[::-1] for example, _ in questions],
        np.array([example.tails[0].target for example, _ in questions], dtype=np.int64),
    )


def _asked(example: Example) -> list[int]:
    """The token ids of a question."""
    return [*example.head, *example.tails[0].ids]
