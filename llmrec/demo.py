"""The whole line on the bundled sample: models, data, fine-tuning, measuring, asking."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from llmrec.data.sample import sample_yaml
from llmrec.errors import LlmrecError, require_extra
from llmrec.evaluate.report import read_report, write_report
from llmrec.stages import Stage, StageRecord, llmrec_command, run_stages

CUSTOMERS = (
    ("12583", "garden things under 3 pounds"),
    ("14911", "for Christmas, not a mug"),
    ("17841", "something new for me, between 2 and 5 pounds"),
)
"""Three customers of the sample, and a wish for each."""


def recipe_path(name: str) -> Path:
    """A recipe that comes with llmrec: `llmrec/recipes` in a wheel, `finetune/recipes` in a checkout."""
    package = Path(str(resources.files("llmrec")))
    places = [package / "recipes" / f"{name}.yaml", package.parent / "finetune" / "recipes" / f"{name}.yaml"]
    for place in places:
        if place.is_file():
            return place
    raise LlmrecError(f"there is no recipe {name!r} in this installation")


def demo_stages(directory: Path, recipe: Path) -> list[Stage]:
    """The stages of the demo; each is one command that a user could type."""
    data, bundle, report = directory / "data", directory / "bundle", directory / "evaluation"
    return [
        Stage("language model", llmrec_command("models", "pull", "smollm2-135m"), ()),
        Stage("text encoder", llmrec_command("models", "pull", "all-minilm-l6-v2"), ()),
        Stage("validate", llmrec_command("validate", str(sample_yaml())), (), (sample_yaml().parent,)),
        Stage(
            "prepare",
            llmrec_command("prepare", str(sample_yaml()), "--out", str(data)),
            (data,),
            (sample_yaml().parent,),
        ),
        Stage(
            "fine-tune",
            llmrec_command("finetune", str(recipe), "--data", str(data), "--out", str(bundle)),
            (bundle,),
            (recipe, data),
        ),
        Stage(
            "evaluate",
            llmrec_command("evaluate", str(bundle), "--out", str(report), "--wish-questions", "200"),
            (report / "report.json", report / "report.md"),
            (bundle,),
        ),
    ]


def run_demo(directory: Path, recipe: Path | None = None) -> None:
    """Run what is not finished yet, then show figures and recommendations on stdout."""
    require_extra("train", ("torch", "transformers", "peft", "datasets", "implicit"), "the demo")
    records = run_stages(demo_stages(directory, recipe or recipe_path("sample")), directory / "stages.json")
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
    for user, wish in CUSTOMERS:
        for say in ("", wish):
            console.print(answers_table(shop.ask(user=user, say=say, k=5, why=True), user, say))
    asked = f'llmrec recommend {bundle} --user {CUSTOMERS[0][0]} --say "{CUSTOMERS[0][1]}" -k 10'
    program = Path(sys.executable).parent / "llmrec"
    console.print(f"Report: {directory / 'report.md'}", highlight=False)
    console.print(f"Ask more:\n  {asked.replace('llmrec', str(program), 1)}", highlight=False, soft_wrap=True)
