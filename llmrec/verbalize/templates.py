"""Prompt templates and wordings: files, read from the package or from a bundle's own copies."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmrec.errors import LlmrecError
from llmrec.files import write_text

_SUFFIXES = (".jinja", ".yaml")


class Templates:
    """The texts of a `prompts/` folder by file name, `*.jinja` compiled strictly.

    Templates run in jinja2's sandbox, since a bundle may come from elsewhere. A variable that a template
    names and nobody gives is an error. Values are inserted as they are, never parsed.
    """

    def __init__(self, sources: Mapping[str, str], origin: str) -> None:
        """`sources` maps file names to texts; `origin` names the place in errors."""
        self.sources = dict(sources)
        self.origin = origin
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        self._compiled: dict[str, Template] = {}
        for name, source in self.sources.items():
            if not name.endswith(".jinja"):
                continue
            try:
                self._compiled[name.removesuffix(".jinja")] = environment.from_string(source)
            except TemplateError as error:
                line = getattr(error, "lineno", None)
                where = f"{origin}/{name}" + (f", line {line}" if line else "")
                raise LlmrecError(f"{where} is not a valid template: {error}") from error

    @classmethod
    def load(cls, directory: Path | None = None) -> Templates:
        """Read the templates and wordings of `directory`, by default those that come with llmrec."""
        folder: Traversable = _shipped() if directory is None else Path(directory)
        if not folder.is_dir():
            raise LlmrecError(f"there is no folder of prompt templates at {folder}")
        try:
            sources = {
                entry.name: entry.read_text(encoding="utf-8")
                for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
                if entry.name.endswith(_SUFFIXES)
            }
        except (OSError, UnicodeDecodeError) as error:
            raise LlmrecError(f"the prompt templates in {folder} cannot be read: {error}") from error
        return cls(sources, str(folder))

    def save(self, directory: Path) -> None:
        """Write all files into `directory`, as `load` reads them."""
        for name, source in self.sources.items():
            write_text(Path(directory) / name, source)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the templates, sorted, without suffix."""
        return tuple(sorted(self._compiled))

    def render(self, name: str, variables: Mapping[str, Any]) -> str:
        """Fill in the template `name`; unknown names, undefined variables and failing code are errors."""
        if name not in self._compiled:
            raise LlmrecError(
                f"{self.origin} has no template {name}.jinja, it has: {', '.join(self.names) or 'none'}"
            )
        try:
            return self._compiled[name].render(variables)
        except TemplateError as error:
            raise LlmrecError(f"{self.origin}/{name}.jinja cannot be rendered: {error}") from error

    def text(self, name: str) -> str:
        """The text of a file such as `wishes.yaml`."""
        if name not in self.sources:
            raise LlmrecError(f"{self.origin} has no file {name}")
        return self.sources[name]


def _shipped() -> Traversable:
    """`llmrec/prompts` in an installed package, the repository's `prompts` in a source checkout."""
    package = resources.files("llmrec")
    inside = package / "prompts"
    return inside if inside.is_dir() else Path(str(package)).parent / "prompts"
