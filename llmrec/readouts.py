"""A bundle of whichever readout, opened to recommend."""

from __future__ import annotations

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.language_recommender import LanguageRecommender


def recommender_of(bundle: Bundle | CodeBundle) -> LanguageRecommender | CodeRecommender:
    """What recommends with a bundle as it was made to, on this machine."""
    return CodeRecommender(bundle) if isinstance(bundle, CodeBundle) else LanguageRecommender(bundle)
