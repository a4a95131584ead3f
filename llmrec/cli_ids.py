"""`llmrec ids`: semantic IDs of a catalogue, made and judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from llmrec.errors import LlmrecError

ids = typer.Typer(no_args_is_help=True, help="Make and judge semantic IDs of a catalogue; docs/ids.md.")


@ids.command("build")
def build(
    data: Annotated[Path, typer.Argument(help="A prepared dataset.")],
    out: Annotated[
        Path,
        typer.Option(help="Directory of the IDs; older ones are replaced, and their generation counts on."),
    ],
    quantiser: Annotated[str, typer.Option(help="kmeans, balanced, rqvae, tree or lsh.")] = "balanced",
    levels: Annotated[
        str | None, typer.Option(help="Codes a level, with commas; default 256,256,256, a tree's by items.")
    ] = None,
    vectors: Annotated[
        str,
        typer.Option(
            help="text, events, FILE (.npy; .safetensors of a SASRec: docs/ids.md), text+events, text+FILE."
        ),
    ] = "text",
    encoder: Annotated[str, typer.Option(help="The model that reads texts.")] = "all-minilm-l6-v2",
    weight: Annotated[
        float | None, typer.Option(help="Share of what stands beside the text, from 0 to 1.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split whose train fold has the events.")] = "leave-last-out",
    collisions: Annotated[
        str, typer.Option(help="relocate: the nearest free code; token: a last code tells items apart.")
    ] = "relocate",
    reserve: Annotated[
        int | None, typer.Option(min=0, help="Codes of the last token that are kept for new items.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of rqvae.")] = None,
    gradient: Annotated[
        str | None, typer.Option(help="How rqvae learns through codes: straight-through or rotation.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where rqvae is trained: cpu (default), cuda.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the quantiser.")] = 0,
) -> None:
    """Give every item of a prepared dataset its own few codes; writes a report and what the codes mean."""
    from llmrec.data.prepared import Prepared
    from llmrec.items.fusion import WEIGHT
    from llmrec.items.ids import RESERVE
    from llmrec.items.quantise.settings import GRADIENTS, QuantiserSettings, RqVaeSettings, tree_sizes
    from llmrec.make_ids import QUALITY, VectorSettings, make_ids

    prepared = Prepared(data)
    usual = tree_sizes(len(prepared.catalog)) if quantiser == "tree" else QuantiserSettings().sizes
    sizes = usual if levels is None else _sizes(levels)
    fused = vectors.startswith("text+")
    _check_applies(fused, "--vectors text+events or text+FILE", {"--weight": weight})
    _check_applies(collisions == "token", "--collisions token", {"--reserve": reserve})
    own = {"--epochs": epochs, "--gradient": gradient, "--device": device}
    _check_applies(quantiser == "rqvae", "--quantiser rqvae", own)
    how = GRADIENTS[0] if gradient is None else gradient
    rqvae = RqVaeSettings(gradient=how, epochs=epochs or RqVaeSettings().epochs)
    settings = QuantiserSettings(quantiser, sizes, rqvae=rqvae)
    source = VectorSettings(vectors, encoder, split, weight=WEIGHT if weight is None else weight)
    kept = RESERVE if reserve is None else reserve
    made = make_ids(
        prepared, out, settings, source, collisions, seed, kept, "cpu" if device is None else device
    )
    typer.echo((out / QUALITY).read_text(encoding="utf-8"))
    typer.echo(f"wrote {out}: {len(made):,} IDs, generation {made.generation}")


@ids.command("report")
def report(
    directory: Annotated[Path, typer.Argument(help="A directory of IDs, or a bundle that has them.")],
    codes: Annotated[bool, typer.Option("--codes", help="Show what the first codes mean.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how good IDs are, how crowded by new items, and whether it is time for new ones."""
    from llmrec.report_ids import codes_page, read_report, report_page

    if json:
        import json as json_module

        typer.echo(json_module.dumps(read_report(directory), indent=1))
    else:
        typer.echo(codes_page(directory) if codes else report_page(directory))


def _check_applies(applies: bool, where: str, given: Mapping[str, object]) -> None:
    """Raise `LlmrecError` for an option with a value where it says nothing."""
    for option, value in given.items():
        if value is not None and not applies:
            raise LlmrecError(f"{option} says something with {where} alone: leave it out")


def _sizes(levels: str) -> tuple[int, ...]:
    """256,256,256 as numbers."""
    try:
        return tuple(int(size) for size in levels.split(","))
    except ValueError as error:
        raise LlmrecError(f"--levels are numbers with commas, such as 256,256,256, not {levels!r}") from error
