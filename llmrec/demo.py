"""The whole line on the bundled sample: models, data, fine-tuning, measuring, asking."""

from __future__ import annotations

import shlex
import sys
from importlib import resources
from pathlib import Path

from llmrec.config import Recipe, load_recipe
from llmrec.data.events import Histories
from llmrec.data.sample import sample_yaml
from llmrec.errors import LlmrecError, require_extra
from llmrec.evaluate.report import read_report, write_report
from llmrec.model.known import KNOWN_MODELS
from llmrec.stages import Stage, StageRecord, llmrec_command, run_stages

CUSTOMERS = (
    ("12583", "lunch things under 3 pounds"),
    ("12562", "for Christmas, not a mug"),
    ("13110", "something like the Chocolate Hot Water Bottle, up to 5 pounds"),
)
"""Three customers of the sample, and a wish for each."""
OTHER_WISH = "something new for me"
"""The wish of the first three users of other data."""


def recipe_path(name: str) -> Path:
    """A recipe that comes with llmrec: `llmrec/recipes` in a wheel, `finetune/recipes` in a checkout."""
    package = Path(str(resources.files("llmrec")))
    places = [package / "recipes" / f"{name}.yaml", package.parent / "finetune" / "recipes" / f"{name}.yaml"]
    for place in places:
        if place.is_file():
            return place
    raise LlmrecError(f"there is no recipe {name!r} in this installation")


def demo_stages(directory: Path, recipe_file: Path, recipe: Recipe) -> list[Stage]:
    """The stages of the demo; each is one command that a user could type.

    Only known models are fetched by a stage of their own. Data that is prepared already is used as it is.
    """
    bundle, report = directory / "bundle", directory / "evaluation"
    names = dict.fromkeys((recipe.model, recipe.items.text_encoder))
    stages = [
        Stage(f"fetch {name}", llmrec_command("models", "pull", name), ())
        for name in names
        if name in KNOWN_MODELS
    ]
    source = sample_yaml() if recipe.data == "sample" else Path(recipe.data)
    data = source
    if not source.is_dir():
        data = directory / "data"
        # What a data.yaml names most often lies beside it.
        inputs = (source.parent,) if recipe.data == "sample" else (source,)
        stages += [
            Stage("validate", llmrec_command("validate", str(source)), (), inputs),
            Stage("prepare", llmrec_command("prepare", str(source), "--out", str(data)), (data,), inputs),
        ]
    return [
        *stages,
        Stage(
            "fine-tune",
            llmrec_command("finetune", str(recipe_file), "--data", str(data), "--out", str(bundle)),
            (bundle,),
            (recipe_file, data),
        ),
        Stage(
            "evaluate",
            llmrec_command(
                "evaluate", str(bundle), "--out", str(report), "--wish-questions", "200", "--quiet"
            ),
            (report / "report.json", report / "report.md"),
            (bundle,),
        ),
    ]


def run_demo(directory: Path, recipe: Path | None = None) -> None:
    """Run what is not finished yet, then show figures and recommendations on stdout."""
    require_extra("train", ("torch", "transformers", "peft", "datasets", "implicit"), "the demo")
    file = recipe or recipe_path("sample")
    records = run_stages(demo_stages(directory, file, load_recipe(file)), directory / "stages.json")
    _write_report(directory, records)
    _show(directory)


def _write_report(directory: Path, records: list[StageRecord]) -> None:
    """The evaluation's report with the time of each stage and the peak memory, one folder up."""
    report = read_report(directory / "evaluation" / "report.json")
    found = report["environment"]
    found["stages"] = {record.name: round(record.seconds, 1) for record in records}
    found["peak_memory_gib"] = round(max(record.peak_mib for record in records) / 1024, 2)
    write_report(directory, report["rows"], found, report.get("comparisons", ()))


def _show(directory: Path) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from llmrec.recommend import Shop
    from llmrec.show import answers_table

    console = Console()
    console.print(Markdown((directory / "report.md").read_text(encoding="utf-8")))
    bundle = directory / "bundle"
    shop = Shop.open(bundle)
    asked = customers(shop.prepared.histories)
    for user, wish in asked:
        for say in ("", wish):
            console.print(answers_table(shop.ask(user=user, say=say, k=5, why=True), f"customer {user}", say))
    user, wish = asked[0]
    console.print(f"Report: {directory / 'report.md'}", highlight=False, soft_wrap=True)
    command = [*_program(), "recommend", str(bundle), "--user", user, "--say", wish, "-k", "10"]
    console.print(f"Ask more:\n  {shlex.join(command)}", markup=False, highlight=False, soft_wrap=True)


def customers(histories: Histories) -> list[tuple[str, str]]:
    """Users to show, each with a wish: those of the sample, or the first three of other data."""
    known = [(user, wish) for user, wish in CUSTOMERS if user in histories.users]
    return known or [(user, OTHER_WISH) for user in histories.users[:3]]


def _program() -> list[str]:
    """How a person calls llmrec in this environment."""
    script = Path(sys.executable).parent / "llmrec"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "llmrec.cli"]
