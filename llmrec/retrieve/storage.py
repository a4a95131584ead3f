"""Item vectors on disk and in memory: V [items, inner] as .npy, float32 or float16, memory-mapped.

Large catalogues need not fit into memory: a search reads the rows it scores, the system keeps what is read
often. Scores are always computed in float32; with float16 they are exact for the rounded rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from llmrec.errors import LlmrecError

STORAGE = ("float32", "float16")
"""The types in which rows of V may be kept."""
_SIGN_AND_VALUE = np.int32(-0x70000001)
"""All bits but the three between a moved half's sign and its exponent."""
_EXPONENTS_APART = np.float32(2.0 ** (127 - 15))


def open_vectors(path: Path) -> np.ndarray:
    """The rows in a .npy file [items, inner], memory-mapped; raises `LlmrecError` for anything else."""
    try:
        vectors: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LlmrecError(f"{path} cannot be read as item vectors ({error})") from error
    if vectors.ndim != 2 or vectors.dtype.name not in STORAGE:
        raise LlmrecError(
            f"{path} holds {vectors.dtype.name} of shape {vectors.shape}; item vectors are float32 or "
            "float16 [items, inner]"
        )
    return vectors


def write_vectors(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, int], dtype: str) -> None:
    """Write rows that come in blocks, in order, as `dtype`: no more than a block is in memory.

    Raises `LlmrecError` when a value is not finite or too large for `dtype`, or the blocks do not make up
    `shape` [items, inner].
    """

    def checked() -> Iterator[np.ndarray]:
        largest, count = np.finfo(dtype).max, 0
        for block in blocks:
            count += len(block)
            if count > shape[0]:
                raise LlmrecError(f"{path}: more than {shape[0]:,} rows came")
            if not (np.abs(block) <= largest).all():
                raise LlmrecError(f"{path}: a value is not finite, or too large for {dtype}")
            yield block
        if count != shape[0]:
            raise LlmrecError(f"{path}: {count:,} rows came, {shape[0]:,} were expected")

    write_array(path, checked(), shape, dtype)


def write_array(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, int], dtype: str) -> None:
    """Write a .npy file from blocks that make up `shape`.

    Not by a memory map: when the disk gets full, that would end the process, and this raises `OSError`.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with Path(path).open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for block in blocks:
            handle.write(np.ascontiguousarray(block, dtype=dtype).data)


def rows_of(vectors: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Some rows, float32 [n, inner]."""
    return as_float32(vectors.take(ids, axis=0))


def blocks_of(vectors: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """All rows in order: where a block begins, and its rows, float32 [at most `size`, inner]."""
    for start in range(0, len(vectors), size):
        yield start, as_float32(vectors[start : start + size])


def as_float32(values: np.ndarray) -> np.ndarray:
    """Finite float16 or float32 values as float32; the same array where they are float32.

    Half precision takes a seventh of the time of `astype`, which goes value by value: the bits of exponent
    and fraction move to their places, and a product sets the exponent right (subnormal values too).
    """
    if values.dtype != np.float16:
        return np.asarray(values, dtype=np.float32)
    bits = np.ascontiguousarray(values).view(np.int16).astype(np.int32)  # copies of the sign in front
    bits <<= 13
    bits &= _SIGN_AND_VALUE
    single: np.ndarray = bits.view(np.float32)
    single *= _EXPONENTS_APART
    return single
