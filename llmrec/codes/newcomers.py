"""Items that come after a model learnt to write codes: they get IDs in the books as they are.

A model that has learnt to write the codes of what is alike writes those of a new item too. Nothing is
trained, no ID moves, and every code has its token already.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmrec.codes.bundle import CodeBundle
from llmrec.data.catalog import Catalog
from llmrec.errors import BundleError, LlmrecError
from llmrec.files import read_json
from llmrec.fit import item_text
from llmrec.items.collaborative import collaborative_vectors
from llmrec.items.collisions import costs_of
from llmrec.items.fusion import fused
from llmrec.items.id_crowding import crowding
from llmrec.items.id_files import MANIFEST, write_ids
from llmrec.items.ids import ItemIds
from llmrec.items.newcomers import stand_in
from llmrec.make_ids import EVENTS, VectorSettings, read_vectors
from llmrec.versions import Rewritten

if TYPE_CHECKING:
    from llmrec.items.encoders import Encoder

_KNOWN = 8
"""Known items whose vectors are made again, to see that they still are those of their IDs."""
_SAME = 1e-3
"""Largest difference of their squared distances, as a share of the mean one or of 1."""


def with_codes(bundle: CodeBundle, catalog: Catalog) -> Rewritten:
    """What a change to `catalog` writes anew in a bundle whose model writes codes: IDs, where items are new.

    The notes say when it is time to retrain. Raises as `grown`.
    """
    if len(catalog) == len(bundle.catalog):
        return Rewritten()
    ids = grown(bundle, catalog)
    source = _source(bundle)
    names = [item.id for item in catalog.items]

    def write(directory: Path) -> None:
        write_ids(ids, directory / "ids", names, source.as_dict())

    crowded = crowding(ids)
    return Rewritten(("ids",), write, {}, (crowded.sentence,) if crowded.reasons else ())


def grown(bundle: CodeBundle, catalog: Catalog) -> ItemIds:
    """The bundle's IDs with those of the items that `catalog` has behind the bundle's own.

    The vectors of new items are made as those of the others were; where these come from events or from a
    file, their neighbours by text stand in. Raises `BundleError` when other vectors come of known items than
    their IDs were made from, and `LlmrecError` when no ID is free or a file of vectors is gone.
    """
    ids, source = bundle.ids(), _source(bundle)
    probe = np.unique(np.linspace(0, ids.built - 1, _KNOWN).astype(np.int64))
    rows = np.concatenate([probe, np.arange(len(ids), len(catalog))])
    vectors = _vectors(bundle, catalog, source, rows, ids.built)
    found = costs_of(ids.quantiser, vectors[: len(probe)], ids.wanted[probe])
    wanted = ids.costs[probe, 0]
    # Most of them: texts may have changed since.
    if np.median(np.abs(found - wanted)) > _SAME * max(1.0, float(wanted.mean())):
        raise BundleError(
            f"the item vectors found here (of {source.source}, texts read by {_encoder(bundle, source)}) are "
            f"not those that the IDs in {bundle.directory} were made from: restore them, or fine-tune again"
        )
    return ids.added(vectors[len(probe) :])


def _source(bundle: CodeBundle) -> VectorSettings:
    """What the bundle's IDs were made from."""
    values = read_json(bundle.directory / "ids" / MANIFEST, "item IDs")["vectors"]
    try:
        return VectorSettings(**{"source": values["source"], **values})
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"the IDs in {bundle.directory} do not say what they were made from ({values}): "
            "new items need new IDs, build them with `llmrec ids build` and fine-tune on them"
        ) from error


def _encoder(bundle: CodeBundle, source: VectorSettings) -> str:
    return source.encoder if source.reads_text else bundle.recipe.items.text_encoder


def _vectors(
    bundle: CodeBundle, catalog: Catalog, source: VectorSettings, rows: np.ndarray, built: int
) -> np.ndarray:
    """Vectors of the items `rows` int64 [n], made as those of the first `built` items were."""
    from llmrec.model.text_reader import text_reader

    encoder = text_reader(_encoder(bundle, source))
    if not source.learnt:
        return _texts(encoder, catalog, rows.tolist())
    texts = _texts(encoder, catalog, range(len(catalog)))
    if source.learnt == EVENTS:
        learnt = collaborative_vectors(bundle.prepared.train(source.split), built, source.width)
    else:
        learnt = _of_file(Path(source.learnt), built)
    learnt = np.concatenate([learnt, np.zeros_like(learnt, shape=(len(catalog) - built, learnt.shape[1]))])
    if source.reads_text:
        both: np.ndarray = fused(texts, learnt, source.weight)[rows]
        return both
    known = np.flatnonzero(np.any(learnt[:built], axis=1))
    borrowed = stand_in(texts[rows[rows >= built]], texts[known], learnt[known], "neighbours")
    return np.concatenate([learnt[rows[rows < built]], borrowed])


def _of_file(path: Path, items: int) -> np.ndarray:
    try:
        return read_vectors(path, items)
    except LlmrecError as error:
        raise LlmrecError(
            f"new items need the vectors that the IDs of others were made from ({error}): put them back, or "
            "build new IDs and fine-tune on them"
        ) from error


def _texts(encoder: Encoder, catalog: Catalog, rows: Sequence[int]) -> np.ndarray:
    return encoder.encode([item_text(catalog[row]) for row in rows])
