"""What is known of item IDs on disk, those in a bundle too: the pages they were built with, or new ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrec.data.catalog import Catalog
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.files import read_json
from llmrec.items.id_crowding import crowding
from llmrec.items.id_files import IDS, MANIFEST, load_ids
from llmrec.items.id_pages import crowding_page, picture_page, quality_page
from llmrec.items.id_picture import picture
from llmrec.items.id_quality import measure_ids
from llmrec.items.ids import ItemIds
from llmrec.make_ids import CODES, QUALITY, REPORT


def read_report(directory: Path) -> dict[str, Any]:
    """What report.json says, with how crowded the IDs of `directory` are now; a bundle stands for its IDs.

    IDs without report.json, such as those of a bundle, are measured as they are, without what needs the
    vectors. Raises `LlmrecError` when there are no IDs that can be used.
    """
    place, ids = _ids_of(directory)
    if (place / REPORT).is_file():
        report = read_json(place / REPORT, "report of item IDs")
    else:
        vectors = read_json(place / MANIFEST, "item IDs").get("vectors", {})
        report = {"quality": measure_ids(ids).as_dict(), "vectors": vectors}
    return {**report, "crowding": crowding(ids).as_dict()}


def report_page(directory: Path) -> str:
    """How good the IDs are and how their new items fared; see `read_report`."""
    place, ids = _ids_of(directory)
    page = _page(place, QUALITY, lambda: quality_page(measure_ids(ids)))
    return f"{page}\n{crowding_page(crowding(ids))}"


def codes_page(directory: Path) -> str:
    """What the first codes mean. Without codes.md, the bundle around the IDs has the titles that say it."""
    place, ids = _ids_of(directory)
    page = _page(place, CODES, lambda: _codes_in_bundle(place))
    return f"{page}\n{crowding(ids).sentence}"


def _codes_in_bundle(place: Path) -> str:
    data = place.resolve().parent / "data"
    if not data.is_dir():
        raise LlmrecError(
            f"{place} has no {CODES}, and is in no bundle whose titles say what codes mean: "
            "build the item IDs with `llmrec ids build`"
        )
    items = Prepared(data).catalog.items
    ids = load_ids(place, [item.id for item in items])
    return picture_page(picture(ids, [item.title for item in items]))


def _ids_of(directory: Path) -> tuple[Path, ItemIds]:
    """Where the IDs of `directory` lie, and what they are; those of a bundle must name its items."""
    place, items = _place(directory), directory / "data" / "items.parquet"
    if place == directory or not items.is_file():
        return place, load_ids(place)
    return place, load_ids(place, [item.id for item in Catalog.load(items).items])


def _place(directory: Path) -> Path:
    """Where the IDs of `directory` lie, which has them itself or is a bundle."""
    for place in (directory, directory / "ids"):
        if (place / IDS).is_file():
            return place
    raise LlmrecError(
        f"{directory} has no item IDs (no {IDS}): give a directory that `llmrec ids build` wrote, "
        "or a bundle whose model writes codes"
    )


def _page(place: Path, name: str, make: Callable[[], str]) -> str:
    """The page that was written with report.json, or where there is none, one that is made now."""
    if not (place / REPORT).is_file():
        return make()
    try:
        return (place / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LlmrecError(f"the pages of {place} cannot be read: {error}") from error
