"""A bundle: one directory with all that a tuned recommender is, checked by hashes, no pickle.

manifest.json            format, versions, recipe, base model, counts, and the SHA-256 of every part; the
                         `version` of the bundle and the `change` that made it (see `llmrec.versions`)
data/                    the prepared dataset (see `data.prepared`): catalogue, users, events, splits
prompts/                 the templates as trained with
tokenizer/               of the base model
adapter/ or backbone/    peft's files (LoRA, prompt tuning), or a plain checkpoint (full tuning)
new_parts.safetensors    id part, text map, token map, queries, inward map, weights of recent items
text_vectors.npy         float32 [items, text width]
item_matrix.npy          V, float32 or float16 [items, inner]
index/                   the search index of a large catalogue (see `retrieve.index`); it may be absent, and
                         may lack the last items, which are then all scored
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llmrec import __version__
from llmrec.config import Recipe, as_values, recipe_of
from llmrec.data.prepared import Prepared
from llmrec.errors import BundleError, LlmrecError, require_extra
from llmrec.files import only_writer, read_json, replace_file, sha256_of, write_json
from llmrec.progress import track
from llmrec.retrieve.index import ItemIndex
from llmrec.retrieve.indexing import build_index
from llmrec.retrieve.search import ItemSearch
from llmrec.retrieve.settings import SearchSettings
from llmrec.retrieve.storage import open_vectors, write_vectors
from llmrec.verbalize.render import Verbalizer
from llmrec.verbalize.templates import Templates
from llmrec.versions import FIRST, change_of, link_tree, next_version, versions_of

if TYPE_CHECKING:
    from llmrec.engines.contract import Engine
    from llmrec.model.head_arrays import HeadArrays
    from llmrec.model.tokens import PromptTokens
    from llmrec.model.tuned import TunedModel

FORMAT = 1
INDEX = "index"
"""The directory of the search index in a bundle."""
STALE = "stale_rows"
"""Key of the manifest: how many rows of V are new or other since the search index was made."""
KIND = "llmrec bundle"
_AGAIN = "make the bundle again: llmrec finetune RECIPE"


class AnyBundle:
    """What bundles of every readout have; opening one checks every part against its hash."""

    readout: ClassVar[str]
    always: ClassVar[tuple[str, ...]]
    """Parts that a bundle of this readout cannot be without."""

    def __init__(self, directory: Path) -> None:
        """Raises `BundleError` for what is no bundle, of another format or readout, or altered."""
        self.directory = Path(directory)
        self._stamp = _stamp(self.directory)
        self.manifest = read_manifest(self.directory)
        if readout_of(self.manifest) != self.readout:
            raise BundleError(
                f"{self.directory} was made with readout: {readout_of(self.manifest)}, "
                f"this reads bundles of readout: {self.readout}"
            )
        self._check_parts()
        try:
            self.recipe: Recipe = recipe_of(self.manifest["recipe"], f"{self.directory}/manifest.json")
            self.prepared = Prepared(self.directory / "data")
            self.templates = Templates.load(self.directory / "prompts")
        except (LlmrecError, KeyError) as error:
            raise BundleError(f"{self.directory} cannot be used ({error}): {_AGAIN}") from error
        self.catalog = self.prepared.catalog
        self._check_same()

    def _check_parts(self) -> None:
        parts = self.manifest.get("parts")
        if not isinstance(parts, dict):
            raise BundleError(f"{self.directory}/manifest.json lists no parts: {_AGAIN}")
        for name in self.always:
            if name not in parts:
                raise BundleError(f"{self.directory}/manifest.json does not list {name}: {_AGAIN}")
        base = self.manifest.get("base")
        if not isinstance(base, dict) or "fingerprint" not in base:
            raise BundleError(f"{self.directory}/manifest.json does not say its base model: {_AGAIN}")
        for name, digest in parts.items():
            path = self.directory / name
            if not path.is_file():
                raise BundleError(f"{path} is missing: {_AGAIN}")
            if sha256_of(path) != digest:
                raise BundleError(f"{path} was altered after the bundle was made: {_AGAIN}")

    @property
    def version(self) -> int:
        """Number of this version; 1 is the bundle as it was made."""
        return int(self.manifest.get("version", 1))

    def _check_same(self) -> None:
        """Raise `BundleError` when another version took this one's place: their parts must not be mixed."""
        if _stamp(self.directory) != self._stamp:
            raise BundleError(f"{self.directory} was changed while it was being read: run this again")

    def verbalizer(self, forbidden: tuple[str, ...] = ()) -> Verbalizer:
        """Renders prompts as in training; `forbidden` are the tokenizer's special tokens."""
        types = self.prepared.histories.event_types
        return Verbalizer(self.catalog, self.recipe.prompts_read, types, self.templates, forbidden)


class Bundle(AnyBundle):
    """A bundle whose model is read at query tokens; the model is loaded when asked for."""

    readout = "retrieve"
    always = ("data/manifest.json", "new_parts.safetensors", "text_vectors.npy", "item_matrix.npy")

    def tokens(self) -> PromptTokens:
        """The map from prompts to token ids, with the tokenizer of the base model."""
        require_extra("train", ["torch", "transformers"], "running a model")
        from llmrec.model.pretrained import load_tokenizer
        from llmrec.model.tokens import PromptTokens

        tokenizer = load_tokenizer(self.directory / "tokenizer")
        settings = self.recipe.model_settings
        return PromptTokens(tokenizer, len(self.catalog), settings.queries, settings.adapter.soft_prompt)

    def item_matrix(self) -> np.ndarray:
        """V, float32 or float16 [items, inner], memory-mapped."""
        matrix = open_vectors(self.directory / "item_matrix.npy")
        self._check_same()
        return matrix

    def search(self) -> ItemSearch:
        """Search over V as the recipe says, with the index if the bundle has one."""
        indexed = f"{INDEX}/index.json" in self.manifest["parts"]
        index = ItemIndex(self.directory / INDEX) if indexed else None
        found = ItemSearch(self.item_matrix(), index, self.recipe.search)
        self._check_same()
        return found

    def head(self) -> HeadArrays:
        """What turns hidden states into user vectors."""
        from llmrec.model.head_arrays import read_head

        head = read_head(self.directory, self.recipe.head.history_state)
        self._check_same()
        return head

    def engine(self, device: str = "auto") -> Engine:
        """The transformers engine with this bundle's merged model and the rows of its new tokens."""
        from llmrec.engines.transformers import TransformersEngine
        from llmrec.model.adapters import merge
        from llmrec.model.new_rows import NewRows

        model = self.model()
        rows = NewRows.of(model, self.item_matrix())  # before the adapter, with its soft prompt, is merged
        return TransformersEngine(merge(model.backbone), rows, model.base, device)

    def model(self) -> TunedModel:
        """The tuned model, adapter in place, in evaluation mode.

        Raises `BundleError` when the base model found here is not the one that the adapter was trained on.
        """
        require_extra("train", ["torch", "transformers", "peft"], "running a model")
        from llmrec.model.assemble import load_model

        def check(found: str) -> None:
            if found != self.manifest["base"]["fingerprint"]:
                raise BundleError(
                    f"{self.directory} was trained on another {self.recipe.model} than the one found here "
                    f"(fingerprint {self.manifest['base']['fingerprint']}, here {found}): "
                    "restore that model, or " + _AGAIN
                )

        model, _ = load_model(self.directory, self.recipe.model_settings, check)
        self._check_same()
        return model


def _stamp(directory: Path) -> tuple[int, int] | None:
    """What tells one manifest in `directory` from another, without reading it; None when there is none."""
    try:
        found = (directory / "manifest.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of the bundle in `directory`; raises `BundleError` when there is none that can be read."""
    path = directory / "manifest.json"
    if not path.is_file():
        raise BundleError(f"{directory} is not a bundle (no manifest.json): {_AGAIN}")
    try:
        manifest = read_json(path, "bundle")
    except LlmrecError as error:
        raise BundleError(f"{error}: {_AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise BundleError(f"{directory} is not a bundle (its manifest is of another kind): {_AGAIN}")
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{directory} has bundle format {manifest.get('format')!r}, this llmrec ({__version__}) reads "
            f"{FORMAT}: {_AGAIN}"
        )
    return manifest


def readout_of(manifest: Mapping[str, Any]) -> str:
    """How the model of a bundle names items: one of `config.READOUTS`."""
    recipe = manifest.get("recipe")
    return str(recipe.get("readout", "retrieve")) if isinstance(recipe, dict) else "retrieve"


def check_place(directory: Path) -> None:
    """Raise `LlmrecError` when something else than a bundle is in `directory`, where one is to be written."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    try:
        ours = read_json(directory / "manifest.json", "bundle")["kind"] == KIND
    except (LlmrecError, KeyError, TypeError):
        ours = False
    if not ours:
        raise LlmrecError(f"{directory} exists and is not a bundle: choose another name or remove it")


def write_bundle(
    directory: Path,
    recipe: Recipe,
    prepared: Prepared,
    templates: Templates,
    tokens: PromptTokens,
    model: TunedModel,
    base: dict[str, Any],
    training: dict[str, Any],
) -> Bundle:
    """Write a bundle read at query tokens; see `write_parts`."""
    from llmrec.model.assemble import save_model

    def fill(temporary: Path) -> None:
        save_model(temporary, recipe.model_settings, model)
        prepare_search(temporary, recipe.search)

    write_parts(directory, recipe, prepared, templates, tokens, fill, base, training)
    return Bundle(directory)


def write_parts(
    directory: Path,
    recipe: Recipe,
    prepared: Prepared,
    templates: Templates,
    tokens: PromptTokens,
    fill: Callable[[Path], None],
    base: dict[str, Any],
    training: dict[str, Any],
    keep: bool = False,
) -> None:
    """Write a bundle, whole or not at all, in place of an older one of that name.

    `fill` writes the parts of its readout into a directory. Where versions of that older one are kept, or
    with `keep`, it becomes one of them, and the numbers go on. `base` says which model it was (name, source,
    fingerprint), `training` what the run showed.
    """
    check_place(directory)
    keep = keep or versions_of(directory).is_dir()
    with (
        only_writer(directory) if keep else contextlib.nullcontext(),
        next_version(directory, keep) as (temporary, number),
    ):
        link_tree(prepared.directory, temporary / "data")
        templates.save(temporary / "prompts")
        tokens.tokenizer.save_pretrained(str(temporary / "tokenizer"))
        fill(temporary)
        write_json(
            temporary / "manifest.json",
            {
                "kind": KIND,
                "format": FORMAT,
                "version": number,
                "change": change_of(FIRST),
                "versions": {name: version(name) for name in ("llmrec", "torch", "transformers", "peft")},
                "base": base,
                "recipe": as_values(recipe),
                "data": {
                    "name": prepared.name,
                    "items": len(prepared.catalog),
                    "users": len(prepared.histories),
                },
                "training": training,
                "parts": hashes(temporary),
            },
        )


def prepare_search(directory: Path, settings: SearchSettings) -> None:
    """Store the item matrix in `directory` as `settings` say, and index it where they want an index."""
    path = directory / "item_matrix.npy"
    vectors = open_vectors(path)
    if vectors.dtype != settings.storage:
        with replace_file(path) as temporary:
            write_vectors(temporary, [vectors], vectors.shape, settings.storage)
        vectors = open_vectors(path)
    kind = settings.index_for(len(vectors))
    if kind is not None:
        with track("search index", total=2 * len(vectors)) as progress:
            build_index(vectors, directory / INDEX, kind, advance=progress.advance)


def hashes(directory: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The SHA-256 of every file below `directory` but the manifest; of those in `known`, as said there."""
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    given = known or {}
    return {
        name: given[name] if name in given else sha256_of(directory / name)
        for name in names
        if name != "manifest.json"
    }
