"""From a recipe to a bundle: data, item texts, training table, fine-tuning, files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.bundle import Bundle, check_place, write_bundle
from llmrec.config import Recipe, as_values, build
from llmrec.data.catalog import Item
from llmrec.data.description import load_description
from llmrec.data.prepared import Prepared
from llmrec.data.sample import sample_yaml
from llmrec.errors import LlmrecError, require_extra
from llmrec.files import only_writer, read_json, sha256_of, write_json
from llmrec.items.newcomers import ID_PARTS, stand_in
from llmrec.progress import note, track
from llmrec.verbalize.goals import FILE as GOALS_FILE
from llmrec.verbalize.goals import GoalTable
from llmrec.verbalize.render import Verbalizer
from llmrec.verbalize.templates import Templates

if TYPE_CHECKING:
    from llmrec.items.search_vectors import SearchVectors
    from llmrec.tune.goals import GoalMaker

TRAIN_PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "datasets", "safetensors", "tensorboard",
)  # fmt: skip


def prepared_data(recipe: Recipe, workspace: Path) -> Prepared:
    """The recipe's data; a data.yaml, or `sample`, is prepared into the workspace first."""
    source = sample_yaml() if recipe.data == "sample" else Path(recipe.data)
    if source.is_dir():
        return Prepared(source)
    target = workspace / "data"
    if not (target / "manifest.json").is_file():
        if not source.is_file():
            raise LlmrecError(f"there is no data at {source}: give a prepared directory or a data.yaml")
        from llmrec.data.prepare import prepare  # what is prepared needs no duckdb

        note(f"prepare: {source.name}")
        prepare(load_description(source), target)
    return Prepared(target)


def fit(recipe: Recipe) -> Bundle:
    """Train as the recipe says and write its bundle; goes on where an interrupted run stopped.

    The workspace beside the bundle (`OUT.work`) keeps prepared data, training table, checkpoints and
    TensorBoard logs. Under `accelerate launch` every process calls this; the first one writes.
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
    torch.manual_seed(recipe.train.seed)
    return _fit(recipe, out, workspace)


def _fit(recipe: Recipe, out: Path, workspace: Path) -> Bundle:
    import torch
    from accelerate import PartialState

    from llmrec.data.fact_columns import fact_columns
    from llmrec.items.collaborative import collaborative_start
    from llmrec.model.assemble import new_model
    from llmrec.model.checkpoints import source_of
    from llmrec.model.pretrained import load_tokenizer, resolve
    from llmrec.model.tokens import PromptTokens
    from llmrec.tune.examples import (
        ExampleBuilder,
        ExampleTable,
        build_examples,
        goal_validation,
        validation_questions,
    )
    from llmrec.tune.losses import RetrievalLoss
    from llmrec.tune.retrieval import RetrievalTrainer

    processes = PartialState()
    started = time.monotonic()
    with processes.main_process_first():
        claim = open_workspace(recipe, workspace) if processes.is_main_process else None
        prepared = prepared_data(recipe, workspace)
        # What cannot be must fail before training.
        if recipe.search.index_for(len(prepared.catalog)) is not None:
            require_extra("train", ("faiss",), "an index of this catalogue")
        base = resolve(recipe.model)
        vectors = text_vectors(prepared, recipe.items.text_encoder, workspace)
    tokenizer = load_tokenizer(base)
    templates = templates_of(recipe)
    tokens = PromptTokens(tokenizer, len(prepared.catalog), recipe.prompt.queries, recipe.adapter.soft_prompt)
    verbalizer = Verbalizer(
        prepared.catalog,
        recipe.prompt,
        prepared.histories.event_types,
        templates,
        tuple(tokenizer.all_special_tokens),
    )
    goals = goals_of(recipe, prepared, templates, processes.is_main_process)
    builder = ExampleBuilder(verbalizer, tokens, goals.on, recipe.examples)
    table = workspace / "examples"
    with processes.main_process_first():
        if not (table / "settings.json").is_file():
            total = recipe.examples.versions * len(prepared.histories)
            with track("training table", total=total, show=processes.is_main_process) as progress:
                names = goals.trained if recipe.examples.wish_share else ()
                seed, advance = recipe.train.seed, progress.advance
                build_examples(builder, prepared, recipe.split, table, seed, advance, names)
        if claim is not None:
            claim(prepared, "")
    torch.manual_seed(recipe.train.seed)
    train = prepared.train(recipe.split)
    facts = fact_columns(goals.conditions.facts, train)
    model, mark = new_model(recipe.model_settings, vectors, tokens.base, recipe.train.dropout, facts)
    without = None
    if recipe.items.id_start == "events":
        start = collaborative_start(train, len(prepared.catalog), recipe.items.inner)
        model.items.start_from(start.vectors)
        without = None if recipe.items.own_pairs else start.without
    counts = torch.from_numpy(np.bincount(train.items, minlength=len(prepared.catalog)))
    if recipe.items.newcomers:
        model.items.set_newcomers(counts == 0)
    questions = {}
    if recipe.examples.wish_share < 1:  # else a plain prompt only stands in for a goal
        cases = prepared.cases(recipe.split, "valid")
        questions["plain"] = validation_questions(builder, prepared, cases)
    if recipe.examples.wish_share:
        questions["goals"] = goal_validation(builder, goals, prepared, recipe.split, recipe.train.seed)
    examples = ExampleTable(table)
    search = None
    if model.head.searches or model.head.hears_asks:
        with processes.main_process_first():
            prompts = (example for some in questions.values() for example, _ in some)
            words = {tail.search.words for example in prompts for tail in example.tails} - {""}
            words.update(examples.searches())
            width = vectors.shape[1] if model.head.searches else 0
            search = _search_vectors(recipe, words if width else set(), width, workspace)
    trainer = RetrievalTrainer(
        RetrievalLoss(model, recipe.loss, counts),
        examples,
        questions,
        recipe.train,
        workspace / "run",
        search,
        without,
    )
    state = trainer.run()
    if model.items.newcomer is not None:  # they get what `llmrec items add` would give them
        new, ids = model.items.newcomer.cpu().numpy(), model.items.id_part.detach().float().cpu().numpy()
        model.items.settle(torch.from_numpy(stand_in(vectors[new], vectors[~new], ids[~new], ID_PARTS[0])))
    if processes.is_main_process:
        training = {
            "seconds": round(time.monotonic() - started, 1),
            "training_seconds": round(state.seconds, 1),
            "tokens_per_second": round(state.tokens_per_second, 1),
            "padding_share": round(state.padding_share, 4),
            "updates": state.update,
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "validation_ndcg@10": state.best if questions else None,
            "trainable_parameters": sum(v.numel() for v in model.parameters() if v.requires_grad),
            "goals": examples.settings["goals"],
            "log": state.log,
        }
        origin = {
            "name": recipe.model,
            "source": source_of(base),
            "fingerprint": "own" if recipe.model_settings.own_backbone else mark,
        }
        write_bundle(out, recipe, prepared, templates, tokens, model, origin, training)
    processes.wait_for_everyone()
    return Bundle(out)


def goals_of(recipe: Recipe, prepared: Prepared, templates: Templates, tell: bool = True) -> GoalMaker:
    """The goals that a recipe trains; with `tell`, a note says what the data cannot answer and why.

    Raises `LlmrecError` for a goal of the recipe's own that the data cannot answer.
    """
    from llmrec.tune.goals import GoalMaker

    goals = GoalMaker.of(prepared, recipe.split, templates, recipe.goals)
    goals.check_own()
    lacking = [f"{name}: {lack}" for name, lack in goals.left_out.items() if name in goals.table.singles]
    if tell and lacking and recipe.examples.wish_share and not recipe.goals.only:
        note(f"goals left out, the data has not what they need ({'; '.join(lacking)})")
    return goals


def goal_lines(counts: Mapping[str, int]) -> Iterator[str]:
    """A small table of how many examples each goal got, the most first."""
    total = max(1, sum(counts.values()))
    width = max(map(len, counts), default=0)
    yield f"{'goal':{width}}  {'examples':>10}  share"
    for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        yield f"{name:{width}}  {count:>10,}  {count / total:5.1%}"


def templates_of(recipe: Recipe) -> Templates:
    """The recipe's templates and wordings, with its own table of goals where it names one."""
    templates = Templates.load(Path(recipe.prompts) if recipe.prompts else None)
    if recipe.goals.file is None:
        return templates
    try:
        text = Path(recipe.goals.file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LlmrecError(f"the goals in {recipe.goals.file} cannot be read: {error}") from error
    GoalTable.read(text, recipe.goals.file)  # a mistake is named by this file, not by the bundle's copy
    return Templates({**templates.sources, GOALS_FILE: text}, templates.origin)


def _search_vectors(recipe: Recipe, texts: set[str], width: int, workspace: Path) -> SearchVectors:
    """The vectors of all that is sought in the run; those of words are kept in the workspace."""
    from llmrec.items.encoders import encode_cached
    from llmrec.items.search_vectors import SearchVectors
    from llmrec.model.text_reader import text_reader

    vectors = SearchVectors(lambda: text_reader(recipe.items.text_encoder), width)
    if texts:
        ordered = sorted(texts)
        encoder = text_reader(recipe.items.text_encoder)
        vectors.remember(ordered, encode_cached(encoder, ordered, workspace / "vectors"))
    return vectors


def open_workspace(recipe: Recipe, workspace: Path) -> Callable[[Prepared, str], None]:
    """Refuse a workspace of another recipe, clear one in which no run got under way.

    Returns what refuses other data than before, or other item IDs (a digest of theirs; "" for a model without
    any), and otherwise notes whose workspace this is: to be called when nothing in the recipe has turned out
    to be a mistake.
    """
    marker = workspace / "recipe.json"
    values: dict[str, Any] = as_values(recipe)
    known = read_json(marker, "workspace") if marker.is_file() else None
    again = "remove it to start anew, or choose another `out`"
    if known is None:
        for name in ("data", "examples", "ids", "run"):
            shutil.rmtree(workspace / name, ignore_errors=True)
    elif not same_recipe(known.get("recipe"), recipe):
        raise LlmrecError(f"{workspace} belongs to another recipe: {again}")

    def claim(prepared: Prepared, ids: str) -> None:
        mark = sha256_of(prepared.directory / "manifest.json")
        if known is None:
            write_json(marker, {"recipe": values, "data": mark, "ids": ids})
        elif known.get("data") != mark:
            raise LlmrecError(
                f"{workspace} was begun with other data than {prepared.directory} has now: {again}"
            )
        elif known.get("ids", ids) != ids:
            raise LlmrecError(f"{workspace} was begun with other item IDs than the recipe has now: {again}")

    return claim


def same_recipe(known: Any, recipe: Recipe) -> bool:
    """Whether plain values mean `recipe`; settings that came later were at their defaults then."""
    try:
        return build(Recipe, known, "workspace") == recipe
    except LlmrecError:
        return False


def text_vectors(prepared: Prepared, encoder: str, workspace: Path) -> np.ndarray:
    """Unit vectors of the items' texts, float32 [items, width], kept in the workspace."""
    from llmrec.items.encoders import encode_cached
    from llmrec.model.text_reader import text_reader

    texts = [item_text(item) for item in prepared.catalog.items]
    return encode_cached(text_reader(encoder), texts, workspace / "vectors")


def item_text(item: Item) -> str:
    """What the text encoder reads of an item."""
    return item.text or item.title or item.id
