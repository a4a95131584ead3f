"""`llmrec export` and `llmrec doctor`. Imports are inside, so that help is instant."""

from pathlib import Path
from typing import Annotated

import typer

EngineOption = Annotated[
    str, typer.Option(help="What runs the model: transformers, vllm, or auto (docs/engines.md).")
]
"""Of whatever goes on answering."""


def export(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    out: Annotated[Path, typer.Option(help="Directory to write; an earlier export is replaced.")],
    target: Annotated[str, typer.Option("--for", help="What is to run it: vllm.")] = "vllm",
) -> None:
    """Write a bundle's model as a plain checkpoint with its tokenizer; docs/engines.md says what for."""
    from llmrec.export import export

    found = export(bundle, out, target)
    counts = ", ".join(f"{name} {count}" for name, count in found["tokens"].items())
    typer.echo(f"new tokens from id {found['first_token']:,} on: {counts}")
    typer.echo(f"wrote {out}")


def doctor() -> None:
    """Say what is installed, which engine will run, and why the other does not."""
    from llmrec.doctor import diagnosis

    for name, found in diagnosis():
        typer.echo(f"{name:24} {found}")
