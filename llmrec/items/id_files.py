"""Item IDs on disk: a directory with arrays (safetensors) and a manifest with their hashes.

manifest.json            format, generation, collisions, levels, items, built, catalog (hash of the item ids
                         in order), quantiser (its settings), vectors (what they were made from), parts (hash
                         of each file)
ids.safetensors          codes int32 [items, levels], wanted int32 [items, quantised levels],
                         costs float32 [items, 2]
quantiser.safetensors    what the quantiser learnt
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import LlmrecError, require_extra
from llmrec.files import check_replaceable, read_json, replace_directory, sha256_of, write_json
from llmrec.items.ids import ItemIds
from llmrec.items.quantise.fitting import restore
from llmrec.items.quantise.settings import QuantiserSettings

FORMAT = 1
MANIFEST = "manifest.json"
IDS, _QUANTISER = "ids.safetensors", "quantiser.safetensors"
_AGAIN = "build the item IDs again with `llmrec ids build`"


def save_ids(
    ids: ItemIds, directory: Path, names: Sequence[str], vectors: Mapping[str, Any] | None = None
) -> None:
    """Write the directory of `ids`, whole or not at all; see `write_ids`.

    Raises `LlmrecError` when the directory has anything else in it or cannot be written.
    """
    check_replaceable(directory, IDS)
    with replace_directory(directory) as temporary:
        write_ids(ids, temporary, names, vectors)


def write_ids(
    ids: ItemIds, directory: Path, names: Sequence[str], vectors: Mapping[str, Any] | None = None
) -> None:
    """Write the files of `ids` into a directory.

    `names` are the ids of the catalogue's items, by index; `vectors` says in plain values what the item
    vectors were made from, so that those of new items can be made alike.
    """
    require_extra("train", ["safetensors"], "saving item IDs")
    from safetensors.numpy import save_file

    if len(names) != len(ids):
        raise LlmrecError(f"{len(ids):,} item IDs are not those of a catalogue of {len(names):,} items")
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {"codes": ids.codes, "wanted": ids.wanted, "costs": ids.costs}
    save_file({name: np.ascontiguousarray(each) for name, each in arrays.items()}, directory / IDS)
    learnt = {name: np.ascontiguousarray(each) for name, each in ids.quantiser.arrays().items()}
    save_file(learnt, directory / _QUANTISER)
    manifest = {
        "format": FORMAT,
        "generation": ids.generation,
        "collisions": ids.collisions,
        "levels": list(ids.sizes),
        "items": len(ids),
        "built": ids.built,
        "catalog": names_digest(names),
        "quantiser": ids.quantiser.settings.as_dict(),
        "vectors": dict(vectors or {}),
        "parts": {name: sha256_of(directory / name) for name in (IDS, _QUANTISER)},
    }
    write_json(directory / MANIFEST, manifest)


def load_ids(directory: Path, names: Sequence[str] | None = None) -> ItemIds:
    """The IDs in `directory`; with `names`, only if they are those of this catalogue's items, in this order.

    Raises `LlmrecError` when they are not, or when a part is missing, altered or of another format.
    """
    require_extra("train", ["safetensors"], "reading item IDs")
    directory = Path(directory)
    manifest = read_json(directory / MANIFEST, "item IDs")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise LlmrecError(f"{directory} holds no item IDs that this llmrec reads: {_AGAIN}")
    try:
        ids = _read(directory, manifest)
        digest = str(manifest["catalog"])
    except (KeyError, TypeError, ValueError, AttributeError, LlmrecError) as error:
        raise LlmrecError(f"the item IDs in {directory} cannot be used ({error}): {_AGAIN}") from error
    if names is not None and (len(names) != len(ids) or names_digest(names) != digest):
        raise LlmrecError(
            f"the {len(ids):,} item IDs in {directory} are of another catalogue than these {len(names):,} "
            f"items: {_AGAIN}"
        )
    return ids


def _read(directory: Path, manifest: dict[str, Any]) -> ItemIds:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    arrays = {}
    for name in (IDS, _QUANTISER):
        path = directory / name
        if not path.is_file():
            raise LlmrecError(f"{name} is missing")
        if sha256_of(path) != manifest["parts"][name]:
            raise LlmrecError(f"{name} was altered")
        try:
            arrays[name] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise LlmrecError(f"{name}: {error}") from error
    settings = QuantiserSettings.from_dict(manifest["quantiser"])
    if len(arrays[IDS]["codes"]) != manifest["items"]:
        raise LlmrecError(f"{IDS} has other items than {MANIFEST} says")
    return ItemIds(
        arrays[IDS]["codes"],
        tuple(manifest["levels"]),
        arrays[IDS]["wanted"],
        arrays[IDS]["costs"],
        manifest["collisions"],
        int(manifest["generation"]),
        int(manifest["built"]),
        restore(settings, arrays[_QUANTISER]),
    )


def generation_of(directory: Path) -> int:
    """The generation of the IDs in `directory`, 0 where there are none; they need not be whole otherwise."""
    if not (directory / MANIFEST).is_file():
        return 0
    manifest = read_json(directory / MANIFEST, "item IDs")
    found = manifest.get("generation") if isinstance(manifest, dict) else None
    if not isinstance(found, int):
        raise LlmrecError(f"{directory / MANIFEST} names no generation: remove {directory} to start from 1")
    return found


def names_digest(names: Sequence[str]) -> str:
    """Hex SHA-256 of item ids in their order."""
    digest = hashlib.sha256()
    for name in names:
        raw = name.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8) + raw)
    return digest.hexdigest()
