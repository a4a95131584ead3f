"""Items that come and go: a bundle gets another catalogue and a new version; its model stays as it is.

A new item goes to the end of the catalogue, so that no index moves; its row of V is made from its text and a
stand-in for its id part (`items.newcomers`), or it gets an ID (`codes.newcomers`). A retired item keeps what
it has. See docs/items.md.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.bundle import INDEX, STALE, AnyBundle, Bundle, hashes, prepare_search
from llmrec.codes.bundle import CodeBundle, open_bundle
from llmrec.codes.newcomers import with_codes
from llmrec.data.catalog import Catalog, Item
from llmrec.data.changed import CHANGED_FILES, write_catalog
from llmrec.data.fact_columns import fact_columns
from llmrec.data.facts import ItemFacts
from llmrec.data.item_plans import applied, plan_added, plan_retired, plan_updated
from llmrec.data.item_rows import read_item_rows
from llmrec.errors import BundleError, LlmrecError, require_extra
from llmrec.files import only_writer, write_json
from llmrec.fit import item_text
from llmrec.items.newcomers import ID_PARTS, STRENGTH, stand_in
from llmrec.versions import (
    Rewritten,
    change_of,
    link_tree,
    newest_of,
    next_version,
    older_numbers,
    read_version,
    versions_of,
)

if TYPE_CHECKING:
    from llmrec.model.item_tables import ItemTables

ID_PART = "neighbours"
"""How `add_items` makes id parts unless told: what benchmarks/cold_items.py measured best."""
STALE_SHARE = 0.1
"""Share of the items whose rows may be other than the search index knows, before it is made anew."""
SAID = 5
"""Ids that a version names as examples of its change."""
_KNOWN_TEXTS = 8
"""Known texts that are encoded again, to see that the encoder is still the same."""
_SAME = 1e-3
"""Largest difference of a coordinate between two encodings of one text."""
_ALWAYS = ("manifest.json", *(f"data/{name}" for name in CHANGED_FILES))


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a bundle: `counts` by word ("added", "brought back"); none when nothing changed.

    `notes` are what a person should know of it.
    """

    directory: Path
    version: int
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The counts as a phrase."""
        return ", ".join(f"{count:,} {word}" for word, count in self.counts.items() if count)


def add_items(
    directory: Path,
    rows: Path,
    id_part: str | None = None,
    strength: float | None = None,
    log: int | None = None,
) -> Change:
    """Add the items of the file `rows` to a bundle, or bring retired ones back; see `items.newcomers`.

    `id_part` and `strength` are for bundles whose items have vectors, by default `ID_PART` and `STRENGTH`.
    `log` is the number that the change has in a store's log, which the version keeps. Raises `RowsError` with
    every fault of the file when there is one, `LlmrecError` when another run is changing the bundle; it is
    then as it was.
    """
    if id_part is not None and id_part not in ID_PARTS:
        raise LlmrecError(f"id part {id_part!r} is not known, choose one of: {', '.join(ID_PARTS)}")
    if strength is not None and not 0 <= strength <= 1:
        raise LlmrecError(f"the strength is {strength}, it must be from 0 to 1")
    with _changing(directory) as bundle:
        details = _stand_in_details(bundle, id_part, strength)
        read = read_item_rows(rows, bundle.catalog)
        plan = plan_added(rows, read, bundle.catalog, int(time.time()))
        back = sum(name in bundle.catalog for name in plan)
        counts = {"added": len(plan) - back, "brought back": back}
        return _write(bundle, plan, "add", counts, details, log)


def _stand_in_details(bundle: AnyBundle, id_part: str | None, strength: float | None) -> dict[str, Any]:
    """What `items.newcomers.stand_in` is told, where new items need something in place of an id part."""
    if isinstance(bundle, CodeBundle):
        if id_part is not None or strength is not None:
            raise LlmrecError(
                f"the items of {bundle.directory} have IDs and no id part: leave --id-part and --strength out"
            )
        return {}
    how = ID_PART if id_part is None else id_part
    much = {"strength": STRENGTH if strength is None else strength} if how == "neighbours" else {}
    return {"id_part": how} | much


def update_items(directory: Path, rows: Path, log: int | None = None) -> Change:
    """Change the fields that the rows give; with another text or price a row of V is made anew.

    With another text an item that came after training gets another stand-in for its id part, too, as the last
    items were added. `log` and errors as in `add_items`.
    """
    with _changing(directory) as bundle:
        plan = plan_updated(rows, read_item_rows(rows, bundle.catalog), bundle.catalog)
        if not plan:
            return Change(bundle.directory, bundle.version, {})
        details = {} if isinstance(bundle, CodeBundle) else dict(bundle.manifest.get("stand_in", {}))
        return _write(bundle, plan, "update", {"updated": len(plan)}, details, log)


def retire_items(directory: Path, rows: Path, log: int | None = None) -> Change:
    """Retire the items whose ids the file names: never recommended again. See `add_items`."""
    with _changing(directory) as bundle:
        read = read_item_rows(rows, bundle.catalog, ids_only=True)
        plan = plan_retired(rows, read, bundle.catalog)
        return _write(bundle, plan, "retire", {"retired": len(plan)}, {}, log)


def rollback(directory: Path, number: int) -> Change:
    """Make an older version current again, as a new version with the same content.

    Raises `LlmrecError` when version `number` is not kept.
    """
    with _changing(directory) as bundle:
        numbers = [n for n in older_numbers(bundle.directory) if n < bundle.version]
        if number not in numbers:
            said = ", ".join(map(str, numbers)) or "none"
            raise LlmrecError(f"{directory} has no older version {number}, it has: {said}")
        old = open_bundle(versions_of(bundle.directory) / str(number))
        with next_version(bundle.directory) as (temporary, new):
            link_tree(old.directory, temporary, ("manifest.json",))
            change = change_of("rollback", to=number)
            kept = {name: bundle.manifest[name] for name in ("log",) if name in bundle.manifest}
            manifest = {**old.manifest, **kept, "version": new, "change": change}
            write_json(temporary / "manifest.json", manifest)
        return Change(bundle.directory, new, {})


@contextlib.contextmanager
def _changing(directory: Path) -> Iterator[Bundle | CodeBundle]:
    """The bundle that is to be changed, which no other run may change meanwhile."""
    require_extra("train", ["torch", "transformers", "safetensors"], "changing the items of a bundle")
    place = Path(directory).resolve()
    newest = newest_of(place)
    if newest is not None:
        raise BundleError(
            f"{directory} is an older version of {newest}: change that one, or go back first with "
            f"`llmrec items rollback {newest} {place.name}`"
        )
    read_version(place)  # before a lock file is made where there is no bundle
    with only_writer(place):
        yield open_bundle(place)


def _write(
    bundle: Bundle | CodeBundle,
    plan: Mapping[str, Item],
    kind: str,
    counts: Mapping[str, int],
    details: Mapping[str, Any],
    log: int | None,
) -> Change:
    """Write the next version of `bundle`, with the items of `plan`."""
    catalog = applied(bundle.catalog, plan)
    if isinstance(bundle, CodeBundle):
        anew = with_codes(bundle, catalog)
    else:
        anew = _with_vectors(bundle, catalog, plan, details)
    without = {*_ALWAYS, *anew.paths}
    with next_version(bundle.directory) as (temporary, number):
        link_tree(bundle.directory, temporary, without)
        write_catalog(bundle.prepared, catalog, temporary / "data")
        anew.write(temporary)
        known = {
            name: digest
            for name, digest in bundle.manifest["parts"].items()
            if name not in without and name.partition("/")[0] not in without
        }
        said = details if kind == "add" else {}
        change = change_of(kind, counts=dict(counts), items=list(plan)[:SAID], **said)
        manifest = {
            **bundle.manifest,
            "version": number,
            "change": change,
            "trained_items": _trained(bundle),
            **({"stand_in": dict(details)} if details else {}),
            **anew.manifest,
            "data": {**bundle.manifest["data"], "items": len(catalog)},
            "parts": hashes(temporary, known),
        } | ({} if log is None else {"log": log})
        write_json(temporary / "manifest.json", manifest)
    return Change(bundle.directory, number, counts, anew.notes)


def _with_vectors(
    bundle: Bundle, catalog: Catalog, plan: Mapping[str, Item], details: Mapping[str, Any]
) -> Rewritten:
    """What a change to `catalog` writes anew in a bundle whose items have vectors."""
    from llmrec.model.item_tables import TABLE_FILES, write_tables

    tables = _tables(bundle, catalog, plan, details)
    stale = int(bundle.manifest.get(STALE, 0)) + (0 if tables is None else len(tables[1]))
    index_anew = tables is not None and _index_anew(bundle, len(catalog), stale)

    def write(directory: Path) -> None:
        if tables is not None:
            write_tables(bundle.directory, directory, *tables, bundle.recipe.items.parts)
        if index_anew:
            prepare_search(directory, bundle.recipe.search)

    paths = (*(TABLE_FILES if tables else ()), *((INDEX,) if index_anew else ()))
    return Rewritten(paths, write, {STALE: 0 if index_anew else stale})


def _index_anew(bundle: Bundle, items: int, stale: int) -> bool:
    """Whether a catalogue of `items` items needs its search index anew: it has none, or one of other rows.

    A search scores items that an index lacks one by one, and finds changed ones by where they were: a few
    do no harm.
    """
    if bundle.recipe.search.index_for(items) is None:
        return False
    return f"{INDEX}/index.json" not in bundle.manifest["parts"] or stale > STALE_SHARE * items


def _trained(bundle: AnyBundle) -> int:
    """How many items, the first ones, were there in training."""
    return int(bundle.manifest.get("trained_items", len(bundle.catalog)))


def _tables(
    bundle: Bundle, catalog: Catalog, plan: Mapping[str, Item], details: Mapping[str, Any]
) -> tuple[ItemTables, np.ndarray] | None:
    """The model's tables for `catalog` and the rows that are new.

    None when nothing of `plan` is new that the model knows of items: their texts and their prices.
    """
    from llmrec.model.item_tables import ItemTables, read_tables, scaled_facts

    known = len(bundle.catalog)
    rows = sorted(catalog.index(name) for name in plan)
    texts = {row: item_text(catalog[row]) for row in rows}
    unread = [row for row in rows if row >= known or texts[row] != item_text(bundle.catalog[row])]
    priced = [row for row in rows if row < known and catalog[row].price != bundle.catalog[row].price]
    changed = sorted({*unread, *priced})
    if not changed:
        return None
    old = read_tables(bundle.directory)
    vectors = np.zeros((len(catalog), old.text_vectors.shape[1]), dtype=np.float32)
    vectors[:known] = old.text_vectors
    if unread:
        vectors[unread] = _encoded(bundle, [texts[row] for row in unread], old.text_vectors)
    learnt = _learnt(bundle)
    # What nobody has learnt follows the text: of new items, and of those that came after training.
    made = [*(row for row in unread if _trained(bundle) <= row < known), *range(known, len(catalog))]
    id_part = np.concatenate(
        [old.id_part, np.zeros_like(old.id_part, shape=(len(catalog) - known, old.id_part.shape[1]))]
    )
    id_part[made] = stand_in(
        vectors[made],
        old.text_vectors[learnt],
        old.id_part[learnt],
        details.get("id_part", ID_PART),
        strength=details.get("strength", STRENGTH),
    )
    train = bundle.prepared.train(bundle.recipe.split)
    raw = fact_columns(ItemFacts.from_histories(catalog, train), train)[changed]
    facts = np.zeros_like(old.facts, shape=(len(catalog), old.facts.shape[1]))
    facts[:known] = old.facts
    facts[changed] = scaled_facts(bundle.directory, raw)
    return ItemTables(vectors, id_part, facts), np.array(changed, dtype=np.int64)


def _learnt(bundle: Bundle) -> np.ndarray:
    """Items whose id part training learnt from events, int64; all trained ones when none has any."""
    counts = np.bincount(bundle.prepared.train(bundle.recipe.split).items, minlength=_trained(bundle))
    found = np.flatnonzero(counts[: _trained(bundle)])
    return found if len(found) else np.arange(_trained(bundle))


def _encoded(bundle: Bundle, texts: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Vectors of `texts` float32 [texts, width], from the encoder that made `known` of the catalogue.

    Raises `BundleError` when the encoder found here makes other vectors of the catalogue's texts.
    """
    from llmrec.model.text_reader import text_reader

    probe = np.unique(np.linspace(0, len(known) - 1, _KNOWN_TEXTS).astype(np.int64))
    encoder = text_reader(bundle.recipe.items.text_encoder)
    vectors = encoder.encode([*(item_text(bundle.catalog[row]) for row in probe), *texts])
    again = vectors[: len(probe)]
    if again.shape[1] != known.shape[1] or np.abs(again - known[probe]).max() > _SAME:
        raise BundleError(
            f"the text encoder {bundle.recipe.items.text_encoder} found here is not the one that "
            f"{bundle.directory} was made with: restore it, or fine-tune again"
        )
    return vectors[len(probe) :]
