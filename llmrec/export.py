"""A bundle as a plain checkpoint with its tokenizer, which vLLM and most other servers read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle, open_bundle
from llmrec.errors import LlmrecError, require_extra
from llmrec.files import check_replaceable, read_json, replace_directory, sha256_of, write_json

EXPORT = "llmrec-export.json"
"""Beside the checkpoint: of which bundle it is, and what its new tokens are."""
KIND = "llmrec export"
TARGETS = ("vllm",)


def export(directory: Path, out: Path, target: str = "vllm") -> dict[str, Any]:
    """Write the model of the bundle in `directory` into `out`, whole or not at all.

    Returns what `EXPORT` says. Whatever was learnt is folded in. Items, query tokens and a soft prompt are
    rows of the table of tokens, with a control token each. Raises `LlmrecError` for another target, for a
    directory with other files, and for what is no bundle.
    """
    if target not in TARGETS:
        raise LlmrecError(f"there is no export for {target!r}, only for: {', '.join(TARGETS)}")
    require_extra("train", ["torch", "transformers", "peft"], "exporting a model")
    bundle = open_bundle(directory)
    check_replaceable(out, EXPORT)
    with replace_directory(out) as temporary:
        found = {"kind": KIND, "format": 1, "for": target, **_made_of(bundle)}
        found |= _codes(bundle, temporary) if isinstance(bundle, CodeBundle) else _rows(bundle, temporary)
        write_json(temporary / EXPORT, found)
    return found


def check_export(directory: Path, bundle: Bundle | CodeBundle) -> None:
    """Raise `LlmrecError` unless `directory` is an export of this very version of `bundle`."""
    again = f"make it again: llmrec export {bundle.directory} --for vllm --out {directory}"
    if not (directory / EXPORT).is_file():
        raise LlmrecError(f"{directory} is no exported bundle (no {EXPORT}): {again}")
    found = read_json(directory / EXPORT, "exported bundle")
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise LlmrecError(f"{directory} is no exported bundle: {again}")
    if found.get("made_of") != _made_of(bundle)["made_of"]:
        raise LlmrecError(f"{directory} was exported from another bundle or version: {again}")


def _made_of(bundle: Bundle | CodeBundle) -> dict[str, Any]:
    return {
        "bundle": bundle.directory.name,
        "version": bundle.version,
        "readout": bundle.readout,
        "made_of": sha256_of(bundle.directory / "manifest.json"),
    }


def _codes(bundle: CodeBundle, out: Path) -> dict[str, Any]:
    """Copy a checkpoint that is plain already."""
    for part in ("backbone", "tokenizer"):
        shutil.copytree(bundle.directory / part, out, dirs_exist_ok=True)
    tokens = bundle.tokens().tokens
    return {
        "first_token": tokens.first,
        "tokens": {"codes": list(tokens.sizes), "soft_prompt": tokens.soft},
    }


def _rows(bundle: Bundle, out: Path) -> dict[str, Any]:
    """Merge the adapter and write a row for each item, query and row of a soft prompt."""
    from llmrec.model.new_rows import NewRows
    from llmrec.model.plain import write_with_rows

    model, tokens = bundle.model(), bundle.tokens()
    rows = NewRows.of(model, bundle.item_matrix())  # before the adapter, with its soft prompt, is merged
    write_with_rows(model, rows, tokens, out)
    counts = {"items": tokens.items, "queries": tokens.queries, "soft_prompt": tokens.soft_prompt}
    return {"first_token": tokens.base, "tokens": counts}
