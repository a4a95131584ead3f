"""The description of a dataset, `data.yaml` version 1: tables, their sources and their columns.

docs/data.md documents every field. A mistake in the file becomes one line that names the field.
"""

from __future__ import annotations

import codecs
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from llmrec.errors import DataError
from llmrec.unique_keys import load_unique

VERSION = 1
"""Version of the data.yaml format that this llmrec reads."""

Format = Literal["csv", "tsv", "parquet", "jsonl", "python-literal"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HuggingFace(_Part):
    """A split of a Hugging Face dataset; `data_files` reads local files through a builder (`name: csv`)."""

    name: str
    split: str = "train"
    config: str | None = None
    revision: str | None = None
    data_files: str | list[str] | None = None


class Source(_Part):
    """Where rows come from: exactly one of `path`, `huggingface`, `sql`; the rest are options of a path."""

    path: str | list[str] | None = None
    huggingface: HuggingFace | None = None
    sql: str | None = None
    database: str | None = None
    format: Format | None = None
    delimiter: str | None = None
    quote: str = '"'
    header: list[str] | None = None
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _check(self) -> Source:
        given = [name for name in ("path", "huggingface", "sql") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of path, huggingface, sql")
        if self.database is not None and self.sql is None:
            raise ValueError("database goes with sql")
        if self.path is None and self.model_fields_set & {
            "format",
            "delimiter",
            "quote",
            "header",
            "encoding",
        }:
            raise ValueError("format, delimiter, quote, header and encoding go with path")
        if len(self.quote) > 1:
            raise ValueError('quote is one character, or "" for none')
        if self.delimiter == "":
            raise ValueError("delimiter is empty")
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise ValueError(str(error)) from error
        return self

    def format_of(self, path: Path) -> Format:
        """The format of one file: as declared, else by its suffix (a `.gz` after it is ignored)."""
        if self.format is not None:
            return self.format
        suffixes = [suffix.lower() for suffix in path.suffixes]
        if suffixes and suffixes[-1] == ".gz":
            suffixes.pop()
        found = SUFFIXES.get(suffixes[-1]) if suffixes else None
        if found is None:
            raise DataError(
                f"{path}: its suffix does not tell the format: "
                "set `format` to csv, tsv, parquet, jsonl or python-literal"
            )
        return found


class Column(_Part):
    """A column of the source, by name."""

    column: str = Field(min_length=1)


class TimeColumn(Column):
    """A time; `format` is auto, unix, unix-ms, iso, or a strptime pattern such as `%m/%d/%Y %H:%M`."""

    format: str = "auto"

    @model_validator(mode="after")
    def _check(self) -> TimeColumn:
        if self.format not in ("auto", "unix", "unix-ms", "iso") and "%" not in self.format:
            raise ValueError("format is auto, unix, unix-ms, iso or a pattern with %")
        return self


class ListColumn(Column):
    """A list, a list of lists, or a string that `separator` splits."""

    separator: str | None = Field(default=None, min_length=1)


class AttributeColumn(Column):
    """An attribute: text as it is, or a number."""

    type: Literal["text", "number"] = "text"


def _named(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _attributes(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {"column": name} for name in value}
    return value


def _sourced(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


AnyColumn = Annotated[Column, BeforeValidator(_named)]
AnyTime = Annotated[TimeColumn, BeforeValidator(_named)]
AnyList = Annotated[ListColumn, BeforeValidator(_named)]
AnyAttribute = Annotated[AttributeColumn, BeforeValidator(_named)]
AnyAttributes = Annotated[dict[str, AnyAttribute], BeforeValidator(_attributes)]
AnyScenarios = Annotated[dict[Annotated[str, Field(min_length=1)], AnyColumn], BeforeValidator(_attributes)]
AnySource = Annotated[Source, BeforeValidator(_sourced)]


class ItemColumns(_Part):
    """Columns of the items table."""

    id: AnyColumn
    title: AnyColumn | None = None
    text: Annotated[list[str], BeforeValidator(_listed)] = []
    price: AnyColumn | None = None
    categories: AnyList | None = None
    attributes: AnyAttributes = {}


class EventColumns(_Part):
    """Columns of the events table."""

    user: AnyColumn
    item: AnyColumn
    time: AnyTime | None = None
    type: AnyColumn | None = None
    value: AnyColumn | None = None
    order: AnyColumn | None = None
    scenarios: AnyScenarios = {}


class UserColumns(_Part):
    """Columns of the users table."""

    id: AnyColumn
    attributes: AnyAttributes = {}


class Items(_Part):
    """The items table; `keep: with-events` leaves out items that no event names."""

    source: AnySource
    columns: ItemColumns
    keep: Literal["all", "with-events"] = "all"


class Events(_Part):
    """The events table; `type` names one type for all rows."""

    source: AnySource
    columns: EventColumns
    type: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Events:
        if self.type is not None and self.columns.type is not None:
            raise ValueError("give either type or columns.type")
        return self


class Users(_Part):
    """The users table."""

    source: AnySource
    columns: UserColumns


class GlobalTime(_Part):
    """A split at a moment: midnight UTC of a date, or a time."""

    date: datetime.datetime | datetime.date

    @property
    def seconds(self) -> int:
        """The moment in seconds since 1970 UTC."""
        moment = self.date
        if not isinstance(moment, datetime.datetime):
            moment = datetime.datetime(moment.year, moment.month, moment.day)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp())


def split_moment(text: str) -> GlobalTime:
    """A moment given by hand, such as `2011-10-01`. Raises `DataError` when it is none."""
    try:
        return GlobalTime.model_validate({"date": text})
    except ValidationError as error:
        raise DataError(f"{text!r} is not a date: write it as 2011-10-01") from error


class LeaveLast(_Part):
    """A split by counts: of each user the last `n` events test, as many before them validate."""

    n: int = Field(ge=1, le=1000)


class Splits(_Part):
    """Splits beside leave-last-out, which is always made."""

    global_time: GlobalTime | None = Field(default=None, alias="global-time")
    leave_last: LeaveLast | None = Field(default=None, alias="leave-last")


class Description(_Part):
    """A whole `data.yaml`."""

    version: Literal[1]
    name: str = Field(min_length=1)
    currency: str | None = None
    items: Items
    events: Events
    users: Users | None = None
    splits: Splits = Splits()

    def tables(self) -> Iterator[tuple[str, Items | Events | Users]]:
        """The tables in the order they are read: items, users, events."""
        yield "items", self.items
        if self.users is not None:
            yield "users", self.users
        yield "events", self.events


@dataclass(frozen=True, slots=True)
class Dataset:
    """A description with the file it stands in and the folder that its relative paths start from."""

    description: Description
    path: Path
    root: Path


def _explain(path: Path, error: ValidationError) -> DataError:
    problems = error.errors(include_url=False)
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    what = {"missing": "is missing", "extra_forbidden": "is not a known field"}.get(
        first["type"], ": " + str(first["msg"]).removeprefix("Value error, ")
    )
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return DataError(f"{path}: {where} {what}".replace(" : ", ": ") + f"{more}; see docs/data.md")


def parse_description(value: Any, path: Path) -> Description:
    """Check a parsed YAML value; `path` names the file in the `DataError` that a mistake raises."""
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a mapping of fields; see docs/data.md")
    if value.get("version", VERSION) != VERSION:
        raise DataError(f"{path}: version {value['version']!r} of the format; this llmrec reads {VERSION}")
    try:
        return Description.model_validate(value)
    except ValidationError as error:
        raise _explain(path, error) from error


def load_description(path: Path, root: Path | None = None) -> Dataset:
    """Read `data.yaml`. Relative paths in it start from `root`, by default the folder of the file.

    Raises:
        DataError: the file is missing, is not YAML, or a field is wrong.
    """
    path = Path(path)
    try:
        value = load_unique(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: give the path of a data.yaml") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if root is not None and not Path(root).is_dir():
        raise DataError(f"--root {root} is not a directory")
    return Dataset(parse_description(value, path), path, Path(root) if root else path.parent)
