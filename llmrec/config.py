"""Recipes: one YAML file says how a bundle is made; typed, checked, kept in the bundle."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from llmrec.errors import LlmrecError
from llmrec.model.settings import AdapterSettings, HeadSettings, ItemSettings, ModelSettings
from llmrec.retrieve.settings import SearchSettings
from llmrec.tune.code_settings import CodeSettings
from llmrec.tune.settings import ExampleSettings, GoalSettings, LossSettings, TrainSettings
from llmrec.unique_keys import load_unique
from llmrec.verbalize.render import PromptSettings

VERSION = 1
READOUTS = ("retrieve", "codes")
"""How a model names items: at query tokens, as vectors; or by writing the codes of their IDs."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a bundle.

    data: a prepared directory, a data.yaml, or `sample`. out: the bundle to write. model: a known name,
    a hub name or a directory; its first `layers` layers are kept (None: all), `random` takes its shape
    with fresh weights. split: the split to train and validate on. prompts: folder of templates (None:
    those that come with llmrec). readout: one of `READOUTS`. `codes` are the settings of the second; it has
    no `head`, no `search`, no `queries`, of `items` the `text_encoder` and of `loss` the `label_smoothing`.
    """

    data: str
    out: str
    model: str
    version: int = VERSION
    layers: int | None = None
    random: bool = False
    split: str = "leave-last-out"
    prompts: str | None = None
    items: ItemSettings = field(default_factory=ItemSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    prompt: PromptSettings = field(default_factory=PromptSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    examples: ExampleSettings = field(default_factory=ExampleSettings)
    goals: GoalSettings = field(default_factory=GoalSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    readout: str = "retrieve"
    codes: CodeSettings = field(default_factory=CodeSettings)

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise LlmrecError(f"recipe: version is {self.version}, this llmrec reads {VERSION}")
        if self.layers is not None and self.layers < 1:
            raise LlmrecError(f"recipe: layers is {self.layers}, it must be at least 1")
        if self.readout not in READOUTS:
            raise LlmrecError(
                f"recipe: readout is {self.readout!r}, it must be one of: {', '.join(READOUTS)}"
            )
        if self.readout == "retrieve" and self.prompt.queries < 1:
            raise LlmrecError("recipe: prompt: queries is 0, it must be at least 1")
        unused = next(self._unused(), None)
        if unused is not None:
            raise LlmrecError(f"recipe: {unused} says nothing where readout is {self.readout}: leave it out")

    def _unused(self) -> Iterator[str]:
        """What is said that the readout does not listen to."""
        if self.readout == "retrieve":
            if self.codes != CodeSettings():
                yield "codes"
            return
        listened = (
            ("head", self.head, HeadSettings()),
            ("search", self.search, SearchSettings()),
            ("items", self.items, ItemSettings(text_encoder=self.items.text_encoder)),
            ("loss", self.loss, LossSettings(label_smoothing=self.loss.label_smoothing)),
        )
        yield from (name for name, said, usual in listened if said != usual)

    @property
    def prompts_read(self) -> PromptSettings:
        """How prompts read: one that a model goes on writing has no query tokens."""
        return self.prompt if self.readout == "retrieve" else dataclasses.replace(self.prompt, queries=0)

    @property
    def model_settings(self) -> ModelSettings:
        """What of this recipe decides the model."""
        return ModelSettings(
            self.model, self.layers, self.random, self.prompt.queries, self.items, self.head, self.adapter
        )


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raises `LlmrecError` with file and key at the first thing that is wrong."""
    try:
        values = load_unique(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LlmrecError(f"there is no recipe {path}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LlmrecError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    return build(Recipe, values, str(path))


def recipe_of(values: Any, where: str) -> Recipe:
    """The recipe that a bundle keeps.

    What its readout does not listen to is left out: those are the usual values of the llmrec that wrote the
    bundle, and this one may have others.
    """
    if isinstance(values, dict):
        if values.get("readout", "retrieve") == "retrieve":
            values = {key: value for key, value in values.items() if key != "codes"}
        else:
            heard = {"items": ("text_encoder",), "loss": ("label_smoothing",), "head": (), "search": ()}
            values = {
                key: {name: one for name, one in value.items() if name in heard[key]}
                if key in heard and isinstance(value, dict)
                else value
                for key, value in values.items()
            }
    return build(Recipe, values, where)


def changed(
    recipe: Recipe, data: str | None = None, out: str | None = None, seed: int | None = None
) -> Recipe:
    """The recipe with other data, another bundle directory or another seed, where given."""
    train = recipe.train if seed is None else dataclasses.replace(recipe.train, seed=seed)
    return dataclasses.replace(
        recipe,
        data=recipe.data if data is None else data,
        out=recipe.out if out is None else out,
        train=train,
    )


def as_values(settings: Any) -> dict[str, Any]:
    """The plain values of a settings dataclass, as `build` reads them."""
    values: dict[str, Any] = _plain(dataclasses.asdict(settings))
    return values


def _plain(value: Any) -> Any:
    """The value as YAML and JSON give it back: lists for tuples."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def build(kind: type[_T], values: Any, where: str) -> _T:
    """Make the dataclass `kind` of plain `values`; an unknown key or a wrong type is an error."""
    if not isinstance(values, dict):
        raise LlmrecError(f"{where}: expected keys and values, got {type(values).__name__}")
    hints = typing.get_type_hints(kind)
    known = [each.name for each in dataclasses.fields(kind)]  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise LlmrecError(f"{where}: unknown key {name!r}, known: {', '.join(known)}")
        given[name] = _checked(hints[name], value, f"{where}: {name}")
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and each.name not in given:
            raise LlmrecError(f"{where}: {each.name} is missing")
    try:
        return kind(**given)
    except LlmrecError as error:
        raise LlmrecError(_placed(str(error), where)) from error


def _placed(message: str, where: str) -> str:
    """A message with the place that it is about before it, which it may have said in part itself."""
    places = where.split(": ")
    for at in range(len(places)):
        said = ": ".join(places[at:])
        if message.startswith((f"{said}: ", f"{said} ")):
            return ": ".join((*places[:at], message))
    return f"{where}: {message}"


def _checked(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`: a dataclass, a plain type, a tuple or dict of one type, each or None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if value is None else _checked(options[0], value, where)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where)
    if hint is Any:
        return value
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        each = typing.get_args(hint)[0]
        return tuple(_checked(each, one, f"{where}[{at}]") for at, one in enumerate(value))
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        each = typing.get_args(hint)[1]
        for key in value:
            if not isinstance(key, str):  # YAML reads `no:` as false
                raise LlmrecError(f"{where}: the key {key!r} is no text, put it in quotes")
        return {key: _checked(each, one, f"{where}.{key}") for key, one in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    plain = typing.get_origin(hint) or hint
    if not isinstance(value, plain) or (hint is int and isinstance(value, bool)):
        named = {tuple: "a list", dict: "keys and values"}.get(plain, plain.__name__)
        raise LlmrecError(f"{where} must be {named}, got {value!r}")
    return value
