"""`llmrec batch` by several processes: Ray Data hands pieces of the file to actors, answers come in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError

from llmrec.engines.choice import choose_engine
from llmrec.errors import LlmrecError
from llmrec.serving.batch_file import Answerer, Rows, write_answers
from llmrec.serving.on_ray.cluster import LOCAL, cluster

_BLOCKS = 1_000
"""Parts of a file that Ray knows of at most; a part that was not finished is answered again after a stop."""


@dataclass(frozen=True, slots=True)
class Actors:
    """`count` processes, each with `cpus` and `gpus` of the cluster and an `engine` of `open_engine`."""

    count: int = 2
    cpus: float = 1.0
    gpus: float = 0.0
    engine: str = "transformers"


def run_batch_on_ray(
    bundle: Path,
    requests: Path,
    out: Path,
    modes: tuple[str, ...] = (),
    together: int = 32,
    actors: Actors | None = None,
    address: str = LOCAL,
) -> int:
    """`batch_file.run_batch` by some processes of a cluster, each with the bundle open.

    Their machines must see `bundle` and `requests` at the same paths. Raises `LlmrecError` as `run_batch`
    does, and when the cluster fails.
    """
    actors = actors or Actors()
    given = (bundle.absolute(), requests.absolute(), modes, actors.engine, actors.gpus > 0)

    def answers(source: BinaryIO) -> Iterator[Rows]:
        blocks = _blocks(source, together)
        return _answered(blocks, given, actors) if blocks else iter(())

    with cluster(address, actors.count * actors.cpus):
        try:
            return write_answers(requests, out, answers)
        except RayError as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise LlmrecError(f"Ray failed, run again to go on: {said}") from error


def _blocks(source: BinaryIO, together: int) -> list[pa.Table]:
    """Where each piece of `together` lines starts and how many lines it has, from where `source` stands."""
    start, pieces = source.tell(), []
    while lines := list(islice(source, together)):
        pieces.append((start, len(lines)))
        start += sum(map(len, lines))
    parts = np.array_split(np.array(pieces, dtype=np.int64).reshape(-1, 2), min(len(pieces), _BLOCKS) or 1)
    return [pa.table({"start": part[:, 0], "lines": part[:, 1]}) for part in parts if len(part)]


def _answered(
    blocks: list[pa.Table], given: tuple[Path, Path, tuple[str, ...], str, bool], actors: Actors
) -> Iterator[Rows]:
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    found = ray.data.from_arrow(blocks).map(
        _Actor,
        fn_constructor_args=given,
        compute=ray.data.ActorPoolStrategy(size=min(actors.count, len(blocks))),
        num_cpus=actors.cpus,
        num_gpus=actors.gpus or None,
    )
    for piece in found.iter_rows():
        if piece["fault"]:
            raise LlmrecError(piece["fault"])
        yield json.loads(piece["rows"])


class _Actor:
    """An open bundle in its own process. A fault goes back as text: Ray would wrap an error in its own."""

    def __init__(self, bundle: Path, requests: Path, modes: tuple[str, ...], engine: str, gpu: bool) -> None:
        self._requests, self._fault = requests, ""
        try:
            self._answerer = Answerer(bundle, modes, choose_engine(engine, gpu=gpu))
        except LlmrecError as error:
            self._fault = str(error)

    def __call__(self, piece: dict[str, Any]) -> dict[str, str]:
        """Answers to the lines of a piece, as JSON."""
        if self._fault:
            return {"rows": "", "fault": self._fault}
        try:
            with self._requests.open("rb") as source:
                source.seek(piece["start"])
                lines = list(islice(source, piece["lines"]))
        except OSError as error:
            return {"rows": "", "fault": f"{self._requests} cannot be read by an actor: {error.strerror}"}
        return {"rows": json.dumps(self._answerer(lines)), "fault": ""}
