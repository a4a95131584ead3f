"""Versions of a bundle: the newest is BUNDLE itself, older ones stay whole in `BUNDLE.versions/N`.

Files are replaced and never changed in place, so versions share those that are equal as hard links.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.errors import BundleError, LlmrecError
from llmrec.files import read_json, replace_directory

FIRST = "fit"
"""The kind of change that a new bundle is; that of a manifest without `change`."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version: its number, where it lies, its number of items, and what made it of the one before."""

    number: int
    directory: Path
    items: int
    change: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a change makes anew in a bundle beside its catalogue.

    `write` puts `paths` (a directory stands for all in it) into the directory of the next version, `manifest`
    are entries of its manifest that are other then, and `notes` are for people.
    """

    paths: tuple[str, ...] = ()
    write: Callable[[Path], None] = lambda directory: None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def change_of(kind: str, **details: Any) -> dict[str, Any]:
    """A manifest's `change`: what was done, when (UTC), and more of it."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0, tzinfo=None)
    return {"kind": kind, "time": f"{now.isoformat()}Z", **details}


def versions_of(directory: Path) -> Path:
    """Where the older versions of the bundle `directory` lie."""
    return directory.with_name(f"{directory.name}.versions")


def newest_of(directory: Path) -> Path | None:
    """The bundle of which `directory` is an older version, None when it is none."""
    parent = directory.resolve().parent
    older = parent.name.endswith(".versions") and directory.name.isdecimal()
    return parent.with_name(parent.name.removesuffix(".versions")) if older else None


def read_version(directory: Path) -> Version:
    """The version in `directory`; raises `BundleError` when its manifest cannot be read."""
    try:
        manifest = read_json(directory / "manifest.json", "bundle")
        return Version(
            int(manifest.get("version", 1)),
            directory,
            int(manifest["data"]["items"]),
            dict(manifest.get("change", {"kind": FIRST})),
        )
    except (LlmrecError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{directory} is no version of a bundle ({error})") from error


def older_numbers(directory: Path) -> list[int]:
    """Numbers of the older versions that are kept, ascending."""
    folder = versions_of(directory)
    if not folder.is_dir():
        return []
    return sorted(int(each.name) for each in folder.iterdir() if each.name.isdecimal() and each.is_dir())


def list_versions(directory: Path) -> list[Version]:
    """All versions that are kept, ascending; the last one is the bundle `directory` itself."""
    current = read_version(directory)
    older = [n for n in older_numbers(directory) if n < current.number]
    return [*(read_version(versions_of(directory) / str(n)) for n in older), current]


@contextlib.contextmanager
def next_version(directory: Path, keep: bool = True) -> Iterator[tuple[Path, int]]:
    """Yield an empty directory and its number; it becomes the bundle `directory` when the block ends well.

    With `keep` the version that it replaces, if there is one, goes to `versions_of(directory)`; without, a
    bundle is written over and numbers begin at 1. Hold `files.only_writer(directory)`.
    """
    number = 1
    if keep:
        present = [read_version(directory).number] if (directory / "manifest.json").is_file() else []
        number += max([*present, *older_numbers(directory)], default=0)
    with replace_directory(directory) as temporary:
        yield temporary, number
        if keep and directory.exists():
            _keep(directory)


def _keep(directory: Path) -> None:
    """Put the bundle among the older versions, where it may be already: a run may have ended right after."""
    target = versions_of(directory) / str(read_version(directory).number)
    if target.exists():
        same = (target / "manifest.json").read_bytes() == (directory / "manifest.json").read_bytes()
        if not same:
            raise LlmrecError(f"{target} is a version of another bundle: move {target.parent} away")
        return
    with replace_directory(target) as temporary:
        link_tree(directory, temporary)


def link_tree(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """The files of `source` under `target`, as hard links where the file system can, else as copies.

    Left out: names that begin with a dot, and the paths in `without`, relative to `source` (a directory's
    name leaves out all in it).
    """

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copyfile(one, other)

    def ignored(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(source)
        return [name for name in names if name.startswith(".") or (inside / name).as_posix() in without]

    shutil.copytree(source, target, copy_function=link, ignore=ignored, dirs_exist_ok=True)
