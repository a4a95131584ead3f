"""What a folder of results was made with: a run that goes on there must be one with the same settings."""

from pathlib import Path
from typing import Any

from llmrec.errors import LlmrecError
from llmrec.files import read_json, write_json


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Keep plain `settings` in the folder; raises `LlmrecError` where it keeps others."""
    kept = folder / "settings.json"
    if not kept.is_file():
        write_json(kept, settings)
    elif read_json(kept, "settings") != settings:
        raise LlmrecError(f"{folder} was made with other settings: choose another --out")
