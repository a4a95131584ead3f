"""Making a search index: two graphs for its neighbour lists, and what proposes first candidates.

See `retrieve.index` for the files and why both graphs are needed.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from llmrec.errors import LlmrecError, require_extra
from llmrec.files import replace_directory, write_json
from llmrec.retrieve.index import FORMAT, ItemIndex
from llmrec.retrieve.settings import SearchSettings
from llmrec.retrieve.storage import as_float32, blocks_of, rows_of, write_array

ALIKE, STRONG = 32, 8
"""Columns of `neighbours.npy` by distance and by inner product."""
_EFFORT = 64
"""Candidates kept while a node is linked into HNSW (`efConstruction`)."""
_SAMPLE = 100_000
"""Rows that quantisers are trained on, at least: more where IVF has many lists."""
_LIST = 500
"""Rows of an inverted list at most, on average: among so many of each near list neighbours are looked for."""
_LISTS_NEAR = 16
"""Inverted lists that an item's neighbours are looked for in."""
_BLOCK = 1 << 16


def build_index(
    vectors: np.ndarray,
    directory: Path,
    kind: str = "hnsw",
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> ItemIndex:
    """Index the rows of V, `vectors` [items, inner] float32 or float16, into `directory`, and open it.

    Works in blocks: besides the quantised rows and the graph no copy of `vectors` is in memory. Uses as many
    threads as OpenMP may (`OMP_NUM_THREADS`); only with one thread is the graph the same every time. What
    is found is scored exactly in any case. `advance` is told of rows done: each is done twice.
    Raises `LlmrecError` for an unknown kind and for too few items.
    """
    require_extra("train", ["faiss"], "building a search index")
    items = len(vectors)
    makers = {"hnsw": _build_hnsw, "ivfpq": _build_ivfpq}
    if kind not in makers:
        raise LlmrecError(f"there is no index of kind {kind!r}, choose one of: {', '.join(makers)}")
    SearchSettings(kind).index_for(items)
    import faiss

    started = time.monotonic()
    rng = np.random.default_rng(seed)
    landmarks = np.sort(rng.choice(items, size=min(items, 2 * int(np.sqrt(items)) + 1), replace=False))
    with replace_directory(Path(directory)) as temporary:
        np.save(temporary / "landmarks.npy", landmarks.astype(np.int64))
        neighbours = _no_neighbours(temporary / "neighbours.npy", items)
        with _by_products():
            proposal = makers[kind](vectors, neighbours, advance or (lambda _: None))
        lead_to_all(neighbours)
        neighbours.flush()
        with (temporary / "proposal.faiss").open("wb") as handle:
            faiss.write_index(proposal, faiss.PyCallbackIOWriter(handle.write))
        facts = {
            "format": FORMAT,
            "kind": kind,
            "items": items,
            "inner": vectors.shape[1],
            "neighbours": ALIKE + STRONG,
            "seed": seed,
            "faiss": faiss.__version__,
            "seconds": round(time.monotonic() - started, 1),
        }
        write_json(temporary / "index.json", facts)
    return ItemIndex(Path(directory))


@contextlib.contextmanager
def _by_products() -> Iterator[None]:
    """Let faiss compare many vectors by products of matrices, five times as fast as one by one.

    From version 1.15 it does so for 128,000 vectors and more alone.
    """
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 20
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def _no_neighbours(path: Path, items: int) -> np.memmap[Any, Any]:
    """Lists without an entry, int32 [items, 40], memory-mapped, to be filled: all of the file is there."""
    sizes = (min(_BLOCK, items - start) for start in range(0, items, _BLOCK))
    shape = (items, ALIKE + STRONG)
    write_array(path, (np.full((size, shape[1]), -1) for size in sizes), shape, "int32")
    return np.lib.format.open_memmap(path, "r+")


def _sample(vectors: np.ndarray, size: int) -> np.ndarray:
    """About `size` rows at equal distances, float32."""
    step = max(1, len(vectors) // size)
    return rows_of(vectors, np.arange(0, len(vectors), step))


def _build_hnsw(vectors: np.ndarray, neighbours: np.memmap[Any, Any], advance: Callable[[int], None]) -> Any:
    """Fill `neighbours` from two HNSW graphs; returns the one over inner products."""
    import faiss

    alike = _hnsw(vectors, ALIKE // 2, faiss.METRIC_L2, advance)
    for start, lists in _level_0(alike):
        neighbours[start : start + len(lists), :ALIKE] = lists
    del alike
    strong = _hnsw(vectors, STRONG, faiss.METRIC_INNER_PRODUCT, advance)
    for start, lists in _level_0(strong):
        neighbours[start : start + len(lists), ALIKE:] = lists[:, :STRONG]
    return strong


def _hnsw(vectors: np.ndarray, links: int, metric: int, advance: Callable[[int], None]) -> Any:
    """An HNSW index over 8-bit rows; level 0 has up to 2 * `links` neighbours."""
    import faiss

    index = faiss.IndexHNSWSQ(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, links, metric)
    index.hnsw.efConstruction = _EFFORT
    # Lists are filled up with what the pruning rule left out: exploration needs edges, not short paths.
    index.keep_max_size_level0 = True
    index.train(_sample(vectors, _SAMPLE))
    for _, block in blocks_of(vectors, _BLOCK):
        index.add(block)
        advance(len(block))
    return index


def _level_0(index: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of the neighbour lists of level 0: the first item, int32 [n, degree]."""
    import faiss

    graph = index.hnsw
    degree = graph.nb_neighbors(0)
    flat = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
    offsets = faiss.rev_swig_ptr(graph.offsets.data(), graph.offsets.size()).astype(np.int64)
    for start in range(0, index.ntotal, _BLOCK):
        begins = offsets[start : min(start + _BLOCK, index.ntotal)]
        yield start, flat[begins[:, None] + np.arange(degree)]


def _build_ivfpq(vectors: np.ndarray, neighbours: np.memmap[Any, Any], advance: Callable[[int], None]) -> Any:
    """Fill `neighbours` from the lists of IVF-PQ, list by list; returns the IVF-PQ index."""
    import faiss

    items, inner = vectors.shape
    lists = max(1, min(2 * int(np.sqrt(items)), items // 39), items // _LIST)
    parts = max(m for m in range(1, max(1, inner // 4) + 1) if inner % m == 0)
    bits = int(min(8, np.log2(items / 39)))
    centres = faiss.IndexFlatL2(inner)
    index = faiss.IndexIVFPQ(centres, inner, lists, parts, bits, faiss.METRIC_L2)
    index.cp.niter = 10
    index.train(_sample(vectors, max(_SAMPLE, 40 * lists)))
    own = np.empty(items, dtype=np.int32)
    for start, block in blocks_of(vectors, _BLOCK):
        _, assigned = centres.search(block, 1)
        own[start : start + len(block)] = assigned[:, 0]
        index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(assigned))
        advance(len(block))
    middles = centres.reconstruct_n(0, lists)
    with tempfile.TemporaryFile(dir=Path(str(neighbours.filename)).parent) as handle:
        _fill(neighbours, _Lists.of(vectors, own, lists, handle), middles, advance)
    index.metric_type = centres.metric_type = faiss.METRIC_INNER_PRODUCT  # lists and codes are good for both
    return index


@dataclass(frozen=True, slots=True)
class _Lists:
    """The rows of a catalogue in the order of their inverted lists, where each list is one stretch.

    ids: int64 [items], the item of each row. bounds: int64 [lists + 1], where lists begin. Rows of one list
    are read together thousands of times: from all over a large file that takes longer than to compare them.
    """

    rows: np.ndarray
    ids: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, own: np.ndarray, lists: int, handle: IO[bytes]) -> _Lists:
        """Write the rows of `vectors` to a file; `own` int32 [items] is the list of each."""
        ids = np.argsort(own, kind="stable")
        for start in range(0, len(ids), _BLOCK):
            handle.write(np.ascontiguousarray(vectors[ids[start : start + _BLOCK]]).tobytes())
        handle.flush()
        rows = np.memmap(handle, vectors.dtype, "r", shape=vectors.shape)
        bounds = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=lists))])
        return cls(rows, ids, bounds)

    def __getitem__(self, number: int) -> slice:
        """Where the rows of a list are."""
        return slice(int(self.bounds[number]), int(self.bounds[number + 1]))

    def all_of(self, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows of some lists, float32 [n, inner], and the items they belong to, int64 [n]."""
        places = [self[each] for each in numbers]
        rows = np.concatenate([as_float32(self.rows[place]) for place in places])
        return rows, np.concatenate([self.ids[place] for place in places])


def _fill(neighbours: np.ndarray, lists: _Lists, middles: np.ndarray, advance: Callable[[int], None]) -> None:
    """Fill `neighbours`: the closest of all in the lists nearest to an item's own, by exact distances.

    `middles` [lists, inner] are the centres of the lists.
    """
    import faiss

    for metric, columns in (
        (faiss.METRIC_L2, slice(ALIKE)),
        (faiss.METRIC_INNER_PRODUCT, slice(ALIKE, None)),
    ):
        _, near = faiss.knn(middles, middles, min(_LISTS_NEAR, len(middles)), metric)
        for number in range(len(middles)):
            own = lists[number]
            count = own.stop - own.start
            if count:
                others = [each for each in near[number].tolist() if each != number]
                rows, items = lists.all_of([number, *others])  # its own come first
                found = _closest(rows, items, count, neighbours[:1, columns].shape[1], metric)
                neighbours[lists.ids[own], columns] = found
                advance(count if columns.start else 0)


def _closest(rows: np.ndarray, items: np.ndarray, first: int, count: int, metric: int) -> np.ndarray:
    """For each of the `first` rows the `count` items whose rows are closest, but itself; -1 for none."""
    import faiss

    found = np.full((first, count), -1, dtype=np.int64)
    some = min(count + 1, len(rows))
    _, places = faiss.knn(rows[:first], rows, some, metric)
    near = items[places]
    # Where an item is not among its own closest, the last falls out in its place.
    itself = near == items[:first, None]
    itself[~itself.any(1), -1] = True
    found[:, : some - 1] = near[~itself].reshape(first, some - 1)
    return found


def lead_to_all(neighbours: np.ndarray) -> None:
    """Change lists int32 [items, degree] in place so that every item is in the list of another, if it can be.

    An item that no list has takes a place in a list of its own neighbours, that of the item which the most
    lists have. In lists of the nearest such items exist: hubs take their places.
    """
    items, degree = neighbours.shape
    counts = np.zeros(items, dtype=np.int64)
    for start in range(0, items, _BLOCK):
        near = neighbours[start : start + _BLOCK]
        counts += np.bincount(near[near >= 0], minlength=items)
    for column in range(degree):
        lonely = np.flatnonzero(counts == 0)
        hosts = neighbours[lonely, column]
        lonely, hosts = lonely[hosts >= 0], hosts[hosts >= 0]
        hosts, first = np.unique(hosts, return_index=True)  # one newcomer a list and pass
        lonely = lonely[first]
        lists = neighbours[hosts]
        place = np.where(lists < 0, items, counts[lists]).argmax(axis=1)
        left = lists[np.arange(len(hosts)), place]
        neighbours[hosts, place] = lonely
        counts[lonely] += 1
        np.subtract.at(counts, left[left >= 0], 1)
