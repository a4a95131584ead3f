"""What is said of single items: their words before their ID, and their ID before their title."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml

from llmrec.errors import LlmrecError
from llmrec.verbalize.prompt import ItemToken, Segment, Words
from llmrec.verbalize.templates import Templates

FILE = "items.yaml"
_VERSION = 1
_PARTS = {"text_to_id": "{text}", "id_to_text": "{item}"}


@dataclass(frozen=True, slots=True)
class ItemWordings:
    """Wordings by task; each has its placeholder once: `{text}`, the item's words, or `{item}`, its ID."""

    text_to_id: tuple[str, ...]
    id_to_text: tuple[str, ...]

    @classmethod
    def load(cls, templates: Templates) -> ItemWordings:
        """Those of `templates`, or llmrec's own where these have none. Raises `LlmrecError` for a mistake."""
        source = templates if FILE in templates.sources else Templates.load()
        where = f"{source.origin}/{FILE}"
        try:
            values = yaml.safe_load(source.text(FILE))
        except yaml.YAMLError as error:
            raise LlmrecError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict) or values.get("version") != _VERSION:
            raise LlmrecError(f"{where} must have version: {_VERSION}")
        found = {}
        for name, mark in _PARTS.items():
            wordings = values.get(name)
            if not isinstance(wordings, list) or not wordings:
                raise LlmrecError(f"{where}: {name} must be a list of wordings")
            for wording in wordings:
                if not isinstance(wording, str) or wording.count(mark) != 1 or wording.startswith("{item}"):
                    raise LlmrecError(
                        f"{where}: {name}: {wording!r} must have {mark} once, and a word before it"
                        if mark == "{item}"
                        else f"{where}: {name}: {wording!r} must have {mark} once"
                    )
            found[name] = tuple(wordings)
        return cls(**found)

    def before_id(self, text: str, rng: np.random.Generator) -> list[Segment]:
        """A prompt that an item's ID follows; `text` is cleaned already."""
        wording = self.text_to_id[int(rng.integers(len(self.text_to_id)))]
        return [Words(wording.replace("{text}", text))]

    def before_title(self, item: int, rng: np.random.Generator) -> list[Segment]:
        """A prompt that an item's title follows."""
        before, after = self.id_to_text[int(rng.integers(len(self.id_to_text)))].split("{item}")
        return [Words(before), ItemToken(item), *([Words(after)] if after else [])]
