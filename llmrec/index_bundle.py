"""A bundle gets a search index, another one, or none: a new version with the same model and answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from llmrec.bundle import INDEX, STALE, Bundle, hashes, prepare_search
from llmrec.config import as_values
from llmrec.errors import BundleError
from llmrec.files import only_writer, write_json
from llmrec.versions import change_of, link_tree, newest_of, next_version, read_version


def index_bundle(directory: Path, kind: str | None = None) -> Bundle:
    """Index the item matrix of the bundle `directory` anew, as its recipe says or as `kind`, which it keeps.

    Raises `LlmrecError` for a kind that there is not or that the catalogue is too small for, and when another
    run is changing the bundle; it is then as it was.
    """
    place = Path(directory).resolve()
    newest = newest_of(place)
    if newest is not None:
        raise BundleError(f"{directory} is an older version of {newest}: index that one")
    read_version(place)  # before a lock file is made where there is no bundle
    with only_writer(place):
        bundle = Bundle(place)
        recipe = bundle.recipe
        if kind is not None:
            recipe = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, kind=kind))
        wanted = recipe.search.index_for(len(bundle.catalog))
        with next_version(place) as (temporary, number):
            link_tree(place, temporary, ("manifest.json", INDEX))
            prepare_search(temporary, recipe.search)
            # As known, but for what `prepare_search` may write.
            known = {
                name: digest
                for name, digest in bundle.manifest["parts"].items()
                if name != "item_matrix.npy" and not name.startswith(f"{INDEX}/")
            }
            manifest = {
                **bundle.manifest,
                "version": number,
                "change": change_of("index", search=wanted or "exact"),
                "recipe": as_values(recipe),
                STALE: 0,
                "parts": hashes(temporary, known),
            }
            write_json(temporary / "manifest.json", manifest)
    return Bundle(place)
