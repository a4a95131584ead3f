"""report.json and report.md: what was measured, on what, with what. Format: docs/report.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmrec.errors import LlmrecError
from llmrec.evaluate.page import page
from llmrec.files import read_json, write_json, write_text

VERSION: Literal[1] = 1
"""Steps with every change of a column's name or meaning."""


class Row(BaseModel):
    """One model's answers to one set of questions. Columns without a figure are left out.

    Rows may have more columns than these; a reader skips those that it does not know.
    """

    model_config = ConfigDict(extra="allow", populate_by_name=True, allow_inf_nan=False)

    model: str = Field(description="name of the recommender")
    dataset: str = Field(description="name of the prepared dataset")
    split: str = Field(description="leave-last-out or global-time")
    fold: Literal["train", "valid", "test"] = Field(default="test", description="whose events are targets")
    objective: str = Field(
        description="next-item, or wish:KIND or goal:NAME for questions with a wish of that kind or that goal"
    )
    filter_seen: bool = Field(description="items of the history before the target are left out of lists")
    recall_5: float | None = Field(default=None, alias="recall@5", ge=0, le=1)
    recall_10: float | None = Field(default=None, alias="recall@10", ge=0, le=1)
    recall_20: float | None = Field(default=None, alias="recall@20", ge=0, le=1)
    ndcg_5: float | None = Field(default=None, alias="ndcg@5", ge=0, le=1)
    ndcg_10: float | None = Field(default=None, alias="ndcg@10", ge=0, le=1)
    ndcg_20: float | None = Field(default=None, alias="ndcg@20", ge=0, le=1)
    mrr: float | None = Field(default=None, ge=0, le=1, description="cut at `depth`")
    depth: int | None = Field(default=None, ge=1, description="length of the lists, 100 where it is not told")
    coverage: float | None = Field(default=None, ge=0, le=1, description="share of items in any top 10")
    gini: float | None = Field(default=None, ge=0, le=1, description="of appearances in the top 10")
    novelty: float | None = Field(default=None, description="mean bits of the top 10, see docs/report.md")
    users: int = Field(ge=0, description="questions asked, one a user")
    targets_seen: int | None = Field(
        default=None, ge=0, description="questions whose target is in the history"
    )
    seconds: float = Field(ge=0, description="time to answer all questions")
    fit_seconds: float | None = Field(
        default=None, ge=0, description="time to fit, choice of setting included"
    )
    seed: int = Field(description="seed that the model was fitted with")
    setting: str | None = Field(default=None, description="the model's setting, in words")
    enforced: bool | None = Field(
        default=None, description="wish and goal rows: what can be enforced was enforced"
    )
    said: bool | None = Field(default=None, description="goal rows: the model heard the goal's words")
    long_tail_10: float | None = Field(
        default=None, alias="long_tail@10", ge=0, le=1, description="share of the top 10 outside the head"
    )
    honoured_10: float | None = Field(
        default=None,
        alias="honoured@10",
        ge=0,
        le=1,
        description="share of the top 10 that satisfies the wish",
    )
    recall_10_without: float | None = Field(
        default=None, alias="recall@10 without wish", ge=0, le=1, description="same questions, no wish"
    )
    understood: float | None = Field(
        default=None, ge=0, le=1, description="share of wishes that the parser read exactly as meant"
    )
    empty: int | None = Field(default=None, ge=0, description="wishes that left no item to recommend")
    intervals: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="95% bootstrap interval [low, high] over users, by column"
    )


class Comparison(BaseModel):
    """First model minus second on the same questions: paired bootstrap over users."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    first: str
    second: str
    metric: str
    dataset: str
    split: str
    fold: str = "test"
    objective: str
    filter_seen: bool
    difference: float
    low: float
    high: float
    p: float = Field(ge=0, le=1, description="two-sided bootstrap p-value")


class Report(BaseModel):
    """The whole of report.json."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: Literal[1] = VERSION
    rows: list[Row]
    comparisons: list[Comparison] = Field(default_factory=list)
    environment: dict[str, Any] = Field(
        default_factory=dict, description="versions, machine, and where known stages and peak memory"
    )

    def json_ready(self) -> dict[str, Any]:
        """As it stands in the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def schema() -> dict[str, Any]:
    """JSON schema of report.json; docs/report.schema.json is this."""
    return Report.model_json_schema(by_alias=True)


def write_report(
    directory: Path,
    rows: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> tuple[Path, Path]:
    """Write report.json and report.md to `directory`; each is whole or not there. Returns their paths.

    Raises `LlmrecError` when a row lacks a column, a figure is out of its range, or nothing can be written.
    """
    try:
        report = Report.model_validate(
            {"rows": list(rows), "environment": dict(environment), "comparisons": list(comparisons)}
        )
    except ValidationError as error:
        raise LlmrecError(f"the report is not valid: {_first(error)}") from error
    paths = Path(directory) / "report.json", Path(directory) / "report.md"
    value = report.json_ready()
    write_json(paths[0], value)
    write_text(paths[1], page(value))
    return paths


def read_report(path: Path) -> dict[str, Any]:
    """Read and check a report.json; raises `LlmrecError` when it is missing or of another form."""
    try:
        return Report.model_validate(read_json(path, "report")).json_ready()
    except ValidationError as error:
        raise LlmrecError(f"{path} is not a report of version {VERSION}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, found['loc'])) or 'top level'}: {found['msg']}"
