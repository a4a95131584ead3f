"""A bundle of whichever readout, opened to recommend."""

from __future__ import annotations

from pathlib import Path

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.language_recommender import LanguageRecommender
from llmrec.open_engine import open_engine


def recommender_of(
    bundle: Bundle | CodeBundle, engine: str = "transformers", checkpoint: Path | None = None
) -> LanguageRecommender | CodeRecommender:
    """What recommends with a bundle as it was made to, on this machine; see `open_engine` for the rest."""
    if isinstance(bundle, CodeBundle):
        return CodeRecommender(bundle, open_engine(bundle, engine, checkpoint=checkpoint))
    return LanguageRecommender(bundle, open_engine(bundle, engine, checkpoint=checkpoint))
