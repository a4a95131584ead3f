"""The bundle that answers, and others loaded next to it, to be switched to and rolled back from."""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmrec.bundle import read_manifest, readout_of
from llmrec.data.prepared import Prepared
from llmrec.errors import BundleError, LlmrecError, UnknownIdError
from llmrec.recommend import Shop
from llmrec.serving.chosen import Choice, choice_path, read_choice, write_choice
from llmrec.serving.facets import Facets, facets_of
from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import Refused
from llmrec.versions import newest_of, read_version, versions_of

_LOG = logging.getLogger("llmrec.serving")
KEPT = 3
"""Bundles that are loaded at once, the one that answers included."""


@dataclass(frozen=True)
class Live:
    """A loaded bundle: `shops` by mode; the first one answers where no mode is named.

    `log`: number of the last change of the catalogue that it has of the store's log. `made`: when this
    version was written, in seconds since 1970 UTC.
    """

    id: str
    directory: Path
    version: int
    log: int
    shops: dict[str, Shop]
    made: int

    @property
    def prepared(self) -> Prepared:
        """The data of the bundle."""
        return next(iter(self.shops.values())).prepared

    @cached_property
    def facets(self) -> Facets:
        """What its items can be filtered by; counted when it is first asked for."""
        return facets_of(self.prepared.catalog)

    def mode(self, named: str | None) -> str:
        """The mode to answer in; raises `LlmrecError` for one that is not served."""
        if named is not None and named not in self.shops:
            raise LlmrecError(
                f"the mode {named[:20]!r} is not served here, there is: {', '.join(self.shops)}"
            )
        return named or next(iter(self.shops))


class Bundles:
    """Loads bundles and says which one answers. A request keeps the one it began with to its end.

    What was switched to answers after a restart too (`chosen`): the newest version of the bundle at
    `directory`, whichever that is then, unless another one was chosen.
    """

    def __init__(
        self, directory: Path, modes: tuple[str, ...], metrics: Metrics, engine: str = "transformers"
    ) -> None:
        """`engine` as `Shop.open` takes it. Raises `LlmrecError` for a bundle that cannot be used."""
        self.root = Path(directory).absolute()
        self._modes, self._metrics, self._engine = modes, metrics, engine
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._loaded: OrderedDict[str, Live] = OrderedDict()
        self._served: list[str] = []
        self._answer(self._first().id)

    @property
    def current(self) -> Live:
        """The bundle that answers."""
        with self._lock:
            return self._loaded[self._served[-1]]

    @property
    def loaded(self) -> list[Live]:
        """All that are loaded."""
        with self._lock:
            return list(self._loaded.values())

    def load(self, directory: Path) -> Live:
        """Load a bundle next to the others; one that is loaded already stays. One load at a time."""
        with self._loading:
            version = read_version(directory)
            key = f"{_name(directory)}@{version.number}"
            with self._lock:
                if key in self._loaded:
                    return self._loaded[key]
            shops = {}
            for mode in self._modes or (readout_of(read_manifest(directory)),):
                shops[mode] = Shop.open(directory, mode, engine=self._engine)
                _ = shops[mode].lexicon  # read now, and not when the first one asks
            made = int((directory / "manifest.json").stat().st_mtime)
            live = Live(key, directory, version.number, version.log, shops, made)
            with self._lock:
                self._loaded[key] = live
                dropped = self._drop(key)
            if dropped:
                # Bundles are in cycles, and vLLM exempts from collection what is in memory when it starts.
                gc.unfreeze()
                gc.collect()
            return live

    def place(self, name: str | None, version: int | None) -> Path:
        """Where a bundle beside the first one lies, or one of its versions. Raises `LlmrecError`."""
        root = self.root
        if name is not None:
            if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
                raise LlmrecError("name: give the name of a directory beside the bundle, without any path")
            root = self.root.with_name(name)
            if not (root / "manifest.json").is_file():
                raise UnknownIdError(f"there is no bundle {name[:80]!r} beside {self.root.name}")
        if version is None or read_version(root).number == version:
            return root
        found = versions_of(root) / str(version)
        if not (found / "manifest.json").is_file():
            raise UnknownIdError(f"{root.name} has no version {version}: `llmrec items versions` lists them")
        return found

    def switch(self, key: str) -> tuple[Live, bool]:
        """Let a loaded bundle answer from now on; and whether it will after a restart.

        Where the choice cannot be written the switch is made nevertheless: it may be a way out of trouble.
        """
        live = self._answer(key)
        name, newest = _name(live.directory), read_version(self.root).number
        own = name == _name(self.root)
        choice = None if own and live.version == newest else Choice(None if own else name, live.version)
        try:
            write_choice(self.root, choice)
        except LlmrecError as error:
            _LOG.warning("%s answers until the next restart only: %s", live.id, error)
            return live, False
        return live, True

    def _first(self) -> Live:
        """The bundle to begin with."""
        choice = read_choice(self.root)
        if choice is None:
            return self.load(self.root)
        try:
            live = self.load(self.place(choice.name, choice.version))
        except LlmrecError as error:
            path = choice_path(self.root)
            raise BundleError(
                f"{error}; it was switched to: remove {path}, and the newest version answers"
            ) from error
        _LOG.warning("%s answers, which was switched to, and not the newest version", live.id)
        return live

    def _answer(self, key: str) -> Live:
        with self._lock:
            if key not in self._loaded:
                there = ", ".join(self._loaded)
                raise UnknownIdError(f"the bundle {key[:80]!r} is not loaded, there is: {there}")
            if not self._served or self._served[-1] != key:
                self._served = [*self._served[-1:], key]
            self._metrics.version.set(self._loaded[key].version)
            return self._loaded[key]

    def rollback(self) -> tuple[Live, bool]:
        """Let the bundle answer again that did before the last switch; as `switch`."""
        with self._lock:
            if len(self._served) < 2:
                raise Refused(409, "nothing was switched since the start, so there is nothing to roll back")
            before = self._served[-2]
        return self.switch(before)

    def _drop(self, new: str) -> bool:
        """Let go of what was loaded first, but not of `new`, what answers or did before; whether any."""
        before = len(self._loaded)
        for key in list(self._loaded):
            if len(self._loaded) > KEPT and key != new and key not in self._served:
                del self._loaded[key]
        return len(self._loaded) < before


def _name(directory: Path) -> str:
    """The name of a bundle, of whichever version."""
    newest = newest_of(directory)
    return directory.name if newest is None else newest.name
