"""A bundle of whichever readout, opened to recommend."""

from __future__ import annotations

from pathlib import Path

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.errors import LlmrecError
from llmrec.language_recommender import LanguageRecommender
from llmrec.open_engine import close_with, open_engine


def recommender_of(
    bundle: Bundle | CodeBundle, engine: str = "transformers", checkpoint: Path | None = None
) -> LanguageRecommender | CodeRecommender:
    """What recommends with a bundle as it was made to, on this machine; see `open_engine` for the rest.

    The engine is closed when the recommender is gone. Raises `LlmrecError` also for a bundle that learnt to
    write titles and no codes.
    """
    found: LanguageRecommender | CodeRecommender
    if isinstance(bundle, CodeBundle):
        if not bundle.recipe.codes.tasks.writes_codes:
            raise LlmrecError(f"{bundle.directory} learnt to write titles, not codes: give --mode text")
        tokens = open_engine(bundle, engine, checkpoint=checkpoint)
        found = CodeRecommender(bundle, tokens)
        close_with(found, tokens)
    else:
        states = open_engine(bundle, engine, checkpoint=checkpoint)
        found = LanguageRecommender(bundle, states)
        close_with(found, states)
    return found
