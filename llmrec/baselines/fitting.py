"""Every baseline by name, each at its best setting on the validation fold."""

from __future__ import annotations

from collections.abc import Callable

from llmrec.baselines.choose import Validation
from llmrec.data.facts import ItemFacts
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError, require_extra
from llmrec.retrieve.scoring import ScoringRecommender

NAMES = ("popularity", "item-knn", "ease", "sequential-rules", "sasrec")


def check_baseline(name: str) -> None:
    """Raise `LlmrecError` for a name that is none of `NAMES`."""
    if name not in NAMES:
        raise LlmrecError(f"no baseline is named {name!r}; there are: {', '.join(NAMES)}")


def fit_baseline(
    name: str,
    prepared: Prepared,
    split: str = "leave-last-out",
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> ScoringRecommender:
    """Fit one baseline on the train fold; settings and early stopping come from the validation fold.

    `seed` matters to sasrec alone, and so does `progress`, called after each epoch with its number, the
    most there can be, and the loss. Raises `LlmrecError` for an unknown name or a catalogue too large.
    """
    check_baseline(name)
    model = _fitted(name, prepared, split, seed, progress)
    model.filters.facts = ItemFacts.from_histories(prepared.catalog, prepared.train(split))
    return model


def _fitted(
    name: str,
    prepared: Prepared,
    split: str,
    seed: int,
    progress: Callable[[int, int, float], None] | None,
) -> ScoringRecommender:
    train, catalog = prepared.train(split), prepared.catalog
    if name == "popularity":
        from llmrec.baselines.popularity import Popularity

        return Popularity.fit(train, catalog)
    own = ("implicit",) if name == "item-knn" else ("torch", "safetensors") if name == "sasrec" else ()
    require_extra("train", ("scipy", *own), f"the baseline {name}")
    validation = Validation.of(prepared, split)
    if name == "item-knn":
        from llmrec.baselines.item_knn import ItemKNN

        return ItemKNN.choose(train, catalog, validation)
    if name == "ease":
        from llmrec.baselines.ease import EASE

        return EASE.choose(train, catalog, validation)
    if name == "sequential-rules":
        from llmrec.baselines.sequential_rules import SequentialRules

        return SequentialRules.choose(train, catalog, validation)
    from llmrec.baselines.sasrec import SasrecSettings
    from llmrec.baselines.sasrec_training import Epoch, fit_sasrec

    settings = SasrecSettings()

    def tell(epoch: Epoch) -> None:
        if progress:
            progress(epoch.number, settings.epochs, epoch.loss)

    return fit_sasrec(train, catalog, settings, validation, seed, tell)
