"""Where a model that writes codes starts, before it trains (`tune.code_start`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmrec.config import Recipe
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.files import read_json
from llmrec.items.collaborative import collaborative_vectors
from llmrec.items.id_files import MANIFEST
from llmrec.make_ids import TEXT
from llmrec.progress import note

if TYPE_CHECKING:
    from llmrec.model.code_model import CodeModel
    from llmrec.model.code_tokens import CodePrompts
    from llmrec.tune.code_training import Question
    from llmrec.tune.collate import Example
    from llmrec.tune.examples import ExampleTable
    from llmrec.tune.passages import CodeBatch

_HISTORIES, _QUESTIONS = 128, 256
"""How many are looked at."""


def check_start(recipe: Recipe) -> None:
    """Raise `LlmrecError` for a start from events whose IDs were made from texts alone.

    Such codes say little of who takes what. What a file of vectors was made from is not known: it is taken.
    """
    settings = recipe.codes
    if settings.start != "events":
        return
    if settings.ids is None:
        source, remedy = settings.vectors, "vectors: events, or text+events"
    else:
        manifest = read_json(Path(settings.ids) / MANIFEST, "item IDs")
        vectors = manifest.get("vectors") if isinstance(manifest, dict) else None
        source = vectors.get("source", "") if isinstance(vectors, dict) else ""
        remedy = f"IDs of `llmrec ids build --vectors events`, or text+events, not those in {settings.ids}"
    if source == TEXT:
        raise LlmrecError(
            f"codes: start: events needs item IDs made from events: choose {remedy}, or start: words"
        )


def start_codes(
    recipe: Recipe,
    prepared: Prepared,
    model: CodeModel,
    prompts: CodePrompts,
    codes: np.ndarray,
    examples: ExampleTable,
    questions: Mapping[str, Sequence[Question]],
) -> None:
    """Codes start as likely as they are in the train fold or, where the recipe says so, from its events.

    The same in every process. How much events count is chosen by the loss on validation questions or, without
    any, on histories that they know, which is more than they should.
    """
    from llmrec.model.history_layer import HistoryLayer
    from llmrec.tune.code_start import code_vectors, level_rows, level_shares, start_from_events

    check_start(recipe)
    train, sizes = prepared.train(recipe.split), prompts.tokens.sizes
    counts = np.bincount(train.items, minlength=len(prepared.catalog))
    rng = np.random.default_rng(recipe.train.seed)
    drawn = rng.permutation(len(examples))[:_HISTORIES]
    if not len(drawn):
        return
    read = batch_of([examples[int(row)] for row in drawn], prompts, recipe)
    shares = level_shares(codes, counts, sizes)
    model.eval()  # without dropout
    if recipe.codes.start == "words":
        level_rows(model, read, shares)
        model.train()
        return
    width = HistoryLayer(model.language_model).width
    vectors = code_vectors(collaborative_vectors(train, len(prepared.catalog), width), codes, sizes)
    some = questions.get("plain") or next((each for each in questions.values() if each), [])
    chosen = [some[int(at)][0] for at in rng.permutation(len(some))[:_QUESTIONS]]
    asked = batch_of(chosen, prompts, recipe) if chosen else read
    loss = start_from_events(model, vectors, read, asked, shares)
    model.train()
    note(f"codes: the events are written into a layer, loss of a code {loss:.3f}")


def batch_of(examples: Sequence[Example], prompts: CodePrompts, recipe: Recipe) -> CodeBatch:
    """Some examples without the tasks about items."""
    from llmrec.tune.passages import collate_passages, passage

    heads = recipe.prompt.items == "token"
    return collate_passages([passage(each, prompts.sequences, heads) for each in examples], pack=True)
