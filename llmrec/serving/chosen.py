"""Which bundle was switched to, in a file beside the first one, so that it answers after a restart too."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from llmrec.config import build
from llmrec.errors import BundleError
from llmrec.files import read_json, write_json

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A version of a bundle; `name` is that of a directory beside the first bundle, None for that one."""

    name: str | None
    version: int


def choice_path(root: Path) -> Path:
    """The file; without it the newest version of the bundle `root` answers."""
    return root.with_name(f"{root.name}.answers.json")


def read_choice(root: Path) -> Choice | None:
    """What was switched to last; None where it was the newest version. Raises `LlmrecError`."""
    path = choice_path(root)
    if not path.exists():
        return None
    found = read_json(path, "choice of a bundle")
    if not isinstance(found, dict) or found.pop("format", None) != _FORMAT:
        raise BundleError(f"{path} says nothing of this llmrec: remove it, and the newest version answers")
    return build(Choice, found, str(path))


def write_choice(root: Path, choice: Choice | None) -> None:
    """Keep the choice, whole or not at all; raises `LlmrecError` where nothing can be written."""
    path = choice_path(root)
    if choice is not None:
        write_json(path, {"format": _FORMAT, **asdict(choice)})
    elif path.exists():
        try:
            path.unlink()
        except OSError as error:
            raise BundleError(f"{path} cannot be removed: {error.strerror}") from error
