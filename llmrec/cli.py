"""The command line: one command a stage. Imports are inside the commands, so that help is instant."""

import sys

import typer

from llmrec.errors import LlmrecError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn a pretrained language model into the recommender of a catalogue.",
)


@app.callback()
def _root() -> None:
    """Keep `llmrec COMMAND` even while there is one command only."""


@app.command()
def version() -> None:
    """Print the version."""
    from llmrec import __version__

    typer.echo(__version__)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except LlmrecError as error:
        typer.echo(f"llmrec: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
