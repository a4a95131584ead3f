"""`llmrec items`: items of a bundle come and go without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmrec.change_items import Change
    from llmrec.versions import Version

items = typer.Typer(
    no_args_is_help=True, help="Add, change and retire items of a bundle without training; docs/items.md."
)

BundlePath = Annotated[Path, typer.Argument(help="A bundle.")]
RowsPath = Annotated[Path, typer.Argument(help="One JSON object a line, see docs/items.md.")]


@items.command("add")
def add(
    bundle: BundlePath,
    rows: RowsPath,
    id_part: Annotated[
        str | None,
        typer.Option(help="What stands in for the id part that training learns: neighbours, mean or zero."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="From 0 to 1: how much the new items come up at the cost of known ones."),
    ] = None,
) -> None:
    """Add items, or bring retired ones back; they can be recommended at once."""
    from llmrec.change_items import add_items

    _report(lambda: add_items(bundle, rows, id_part, strength))


@items.command("update")
def update(bundle: BundlePath, rows: RowsPath) -> None:
    """Change the fields that the rows give: text, title, price, categories, attributes."""
    from llmrec.change_items import update_items

    _report(lambda: update_items(bundle, rows))


@items.command("retire")
def retire(
    bundle: BundlePath,
    ids: Annotated[Path, typer.Argument(help='An id, or {"id": ...}, a line.')],
) -> None:
    """Never recommend these items again; histories that hold them still work."""
    from llmrec.change_items import retire_items

    _report(lambda: retire_items(bundle, ids))


@items.command("versions")
def versions(bundle: BundlePath) -> None:
    """List the versions that are kept, the newest last, and what changed in each."""
    from llmrec.versions import list_versions

    for version in list_versions(bundle.resolve()):
        typer.echo(_line(version))


@items.command("rollback")
def rollback(
    bundle: BundlePath,
    number: Annotated[int, typer.Argument(help="The version to go back to.")],
) -> None:
    """Make an older version current again, as a new version."""
    from llmrec.change_items import rollback

    change = rollback(bundle, number)
    typer.echo(f"{bundle} is now version {change.version}, with what version {number} has")


def _report(run: Callable[[], Change]) -> None:
    """Do a change and say what it was; the faults of a file are listed before its error."""
    from llmrec.data.item_rows import RowsError

    try:
        change = run()
    except RowsError as error:
        for line in error.lines():
            typer.echo("".join(c if c.isprintable() else "?" for c in line), err=True)
        raise
    if not change.words:
        typer.echo(f"nothing to change: {change.directory} stays at version {change.version}")
        return
    typer.echo(f"{change.words}: {change.directory} is now version {change.version}")
    for note in change.notes:
        typer.echo(note)


def _line(version: Version) -> str:
    """A version as one line without control characters."""
    change = version.change
    counts = change.get("counts", {})
    what = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    if change.get("kind") == "rollback":
        what = f"as version {change.get('to')}"
    if names := change.get("items", []):
        more = ", ..." if sum(counts.values()) > len(names) else ""
        what += f" ({', '.join(names)}{more})"
    if "id_part" in change:
        what += f", id part: {change['id_part']}"
    if "strength" in change:
        what += f", strength {change['strength']:g}"
    said = f"{version.number}  {change.get('time', '')}  {version.items:,} items  {change.get('kind')}"
    line = f"{said}: {what}" if what else said
    return "".join(c if c.isprintable() else "?" for c in f"{line}  {version.directory}")
