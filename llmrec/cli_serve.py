"""`llmrec serve` and `llmrec keys`. Imports are inside, so that help is instant."""

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli_engines import EngineOption

keys = typer.Typer(no_args_is_help=True, help="API keys of a service: make them, list them, revoke them.")

KeysPath = Annotated[Path, typer.Argument(help="The file of keys; only hashes are in it.")]


def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    host: Annotated[str, typer.Option(help="Where to listen; other machines need --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 8000,
    store: Annotated[
        str, typer.Option(help="Address of the store (docs/store.md); default BUNDLE.store.db.")
    ] = "",
    keys: Annotated[Path | None, typer.Option(help="Ask for API keys of this file.")] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help="Modes to serve, the first by default; as `llmrec recommend`.")
    ] = None,
    together: Annotated[int, typer.Option(help="Requests that one call of the model answers.")] = 16,
    waiting: Annotated[int, typer.Option(help="Requests that may wait; more are refused.")] = 128,
    deadline: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 10.0,
    body: Annotated[int, typer.Option(help="Bytes of a request.")] = 1 << 20,
    page: Annotated[bool, typer.Option(help="Have a web page at /.")] = True,
    log: Annotated[bool, typer.Option(help="Log a line for each request.")] = True,
    engine: EngineOption = "auto",
) -> None:
    """Answer over HTTP, with a web page at /; docs/serving.md."""
    from llmrec.errors import require_extra

    require_extra("serve", ["fastapi", "uvicorn", "prometheus_client"], "llmrec serve")
    from llmrec.serving.run import serve as run
    from llmrec.serving.settings import ServiceSettings

    modes = tuple(mode or ())
    run(
        ServiceSettings(
            bundle, host, port, store, keys, modes, together, waiting, deadline, body, page, engine
        ),
        log,
    )


def batch(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    requests: Annotated[Path, typer.Argument(help="A body of /v1/recommend a line, docs/serving.md.")],
    out: Annotated[Path, typer.Option(help="File of answers; one of a run that stopped is gone on with.")],
    mode: Annotated[
        list[str] | None, typer.Option(help="Modes, the first by default; as `llmrec recommend`.")
    ] = None,
    together: Annotated[int, typer.Option(min=1, help="Requests that one call of the model answers.")] = 32,
    engine: EngineOption = "auto",
) -> None:
    """Answer a file of requests of any size, a line each; goes on where it stopped."""
    from llmrec.errors import require_extra

    require_extra("serve", ["fastapi", "prometheus_client"], "llmrec batch")
    from llmrec.serving.batch_file import run_batch

    count = run_batch(bundle, requests, out, tuple(mode or ()), together, engine)
    typer.echo(f"wrote {out}: {count:,} answers")


@keys.command("add")
def add(
    path: KeysPath,
    scope: Annotated[list[str], typer.Option(help="ask, write or admin; again for another one.")],
    note: Annotated[str, typer.Option(help="Whose it is.")] = "",
    days: Annotated[float | None, typer.Option(help="Days until it expires; default never.")] = None,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 50.0,
) -> None:
    """Make a key and print it: this once, nobody can read it again."""
    from llmrec.serving.keys import add_key

    typer.echo(add_key(path, scope, note, days, rate))


@keys.command("list")
def show(path: KeysPath) -> None:
    """Show ids, scopes, rates and expiries."""
    from llmrec.serving.keys import read_keys

    for key in read_keys(path):
        expires = f"expires {key.expires}" if key.expires else "does not expire"
        line = f"{key.id}  {','.join(key.scopes)}  {key.rate:g}/s  {expires}  {key.note}".rstrip()
        typer.echo("".join(char if char.isprintable() else "?" for char in line))


@keys.command("revoke")
def revoke(path: KeysPath, name: Annotated[str, typer.Argument(help="The id that `list` shows.")]) -> None:
    """Take a key away; a running service refuses it at once."""
    from llmrec.serving.keys import revoke_key

    revoke_key(path, name)
    typer.echo(f"revoked {name}")
