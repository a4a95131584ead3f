"""Item IDs of a prepared dataset: vectors from texts, events or a file, codes, and pages that judge them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.device import device_of
from llmrec.errors import LlmrecError, require_extra
from llmrec.files import check_replaceable, only_writer, replace_directory, write_json, write_text
from llmrec.fit import text_vectors
from llmrec.items.fusion import WEIGHT
from llmrec.items.id_crowding import crowding
from llmrec.items.id_files import IDS, generation_of, write_ids
from llmrec.items.id_pages import picture_page, quality_page
from llmrec.items.id_picture import picture
from llmrec.items.id_quality import measure_ids
from llmrec.items.ids import RESERVE, ItemIds, build_ids
from llmrec.items.quantise.settings import QuantiserSettings
from llmrec.progress import track

TEXT, EVENTS = "text", "events"
SOURCES = (TEXT, EVENTS, f"{TEXT}+{EVENTS}")
"""What item vectors are made from, unless they come from a file."""
REPORT, QUALITY, CODES = "report.json", "report.md", "codes.md"


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """What item vectors are made from.

    source: one of `SOURCES`; a file: .npy [items, width], such as the item matrix of a bundle (rows of W), or
    the .safetensors of a SASRec; or `text+` and a file. encoder: reads texts. split, width: the events are
    those of this split's train fold, as vectors of this width. weight: share of what stands beside the text
    (see `items.fusion`).
    """

    source: str = "text"
    encoder: str = "all-minilm-l6-v2"
    split: str = "leave-last-out"
    width: int = 128
    weight: float = WEIGHT

    @property
    def reads_text(self) -> bool:
        """Whether the items' texts are a part."""
        return self.source == TEXT or self.source.startswith(f"{TEXT}+")

    @property
    def learnt(self) -> str:
        """What else is a part: `events`, the name of a file, or nothing."""
        return self.source[len(TEXT) + 1 :] if self.reads_text else self.source

    def as_dict(self) -> dict[str, Any]:
        """Plain values of what matters to `source`."""
        known: dict[str, Any] = {"source": self.source}
        if self.reads_text:
            known["encoder"] = self.encoder
        if self.learnt == EVENTS:
            known |= {"split": self.split, "width": self.width}
        if self.reads_text and self.learnt:
            known["weight"] = self.weight
        return known


def item_vectors(prepared: Prepared, settings: VectorSettings, workspace: Path) -> np.ndarray:
    """Vectors of the catalogue's items, float32 [items, width]; those of texts are kept in `workspace`.

    Raises `LlmrecError` for an unknown source and for a file that does not have a row for each item.
    """
    from llmrec.items.collaborative import collaborative_vectors
    from llmrec.items.fusion import fused

    items, parts = len(prepared.catalog), []
    if settings.learnt == EVENTS:
        parts.append(collaborative_vectors(prepared.train(settings.split), items, settings.width))
    elif settings.learnt:  # a file that cannot be read is an error before texts are
        parts.append(read_vectors(Path(settings.learnt), items))
    if settings.reads_text:
        parts.append(text_vectors(prepared, settings.encoder, workspace))
    return fused(parts[1], parts[0], settings.weight) if len(parts) == 2 else parts[0]


def read_vectors(path: Path, items: int) -> np.ndarray:
    """Rows for `items` items from a .npy file or from the item table of a saved SASRec, float32."""
    if path.suffix not in (".npy", ".safetensors"):
        raise LlmrecError(
            f"item vectors come from {', '.join(SOURCES)}, a .npy file, the .safetensors of a SASRec or "
            f"text+FILE, not from {str(path)!r}"
        )
    try:
        if path.suffix == ".npy":
            rows: np.ndarray = np.load(path, allow_pickle=False)
        else:
            require_extra("train", ["safetensors"], "reading a SASRec")
            from safetensors import safe_open

            with safe_open(path, framework="np") as file:
                rows = file.get_tensor("table.weight")[:-1]  # the last is the start token
    except FileNotFoundError as error:
        raise LlmrecError(f"there is no file {path} of item vectors") from error
    except (OSError, ValueError, EOFError) as error:
        raise LlmrecError(f"{path} cannot be read as item vectors ({error})") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise LlmrecError(f"{path} holds no item table of a SASRec ({error})") from error
    if rows.ndim != 2 or len(rows) != items:
        raise LlmrecError(f"{path} has shape {rows.shape}, the catalogue has {items:,} items")
    return rows.astype(np.float32)


def make_ids(
    prepared: Prepared,
    out: Path,
    settings: QuantiserSettings,
    vectors: VectorSettings,
    collisions: str = "relocate",
    seed: int = 0,
    reserve: int = RESERVE,
    device: str = "cpu",
    after: int = 0,
) -> ItemIds:
    """Build the item IDs of a prepared dataset, judge them, and write all to `out`; vectors go to OUT.work.

    Where `out` has IDs already, the new ones are the next generation and take their place; the generation is
    later than `after` too. Beside the files of `items.id_files` there are report.json and report.md
    (`items.id_quality`), and codes.md (`items.id_picture`).
    """
    out = Path(out)
    check_replaceable(out, IDS)
    if settings.kind == "rqvae":
        device = device_of(device)  # one that is not there is an error before vectors are made
    names = [item.id for item in prepared.catalog.items]
    with only_writer(out):
        generation = max(generation_of(out), after) + 1
        rows = item_vectors(prepared, vectors, Path(f"{out}.work"))
        started = time.monotonic()
        steps = settings.rqvae.epochs if settings.kind == "rqvae" else None
        with track(f"{settings.kind} codes", steps) as progress:
            ids = build_ids(rows, settings, collisions, seed, generation, reserve, device, progress.advance)
        seconds = time.monotonic() - started
        quality = measure_ids(ids, rows, seed)
        report = {
            "quality": quality.as_dict(),
            "crowding": crowding(ids).as_dict(),
            "vectors": vectors.as_dict(),
            "seed": seed,
            "seconds": round(seconds, 1),
        }
        with replace_directory(out) as temporary:
            write_ids(ids, temporary, names, vectors.as_dict())
            write_json(temporary / REPORT, report)
            write_text(temporary / QUALITY, quality_page(quality))
            meanings = picture(ids, [item.title for item in prepared.catalog.items])
            write_text(temporary / CODES, picture_page(meanings))
    return ids
