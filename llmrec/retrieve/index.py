"""The search index of a catalogue: what proposes first candidates, and the graph that they are explored in.

index.json      kind, numbers of items and neighbours, versions, seconds
proposal.faiss  HNSW over 8-bit rows, or IVF-PQ: the items with the largest inner product, roughly
neighbours.npy  int32 [items, 40], -1 for none: 32 items like the item by Euclidean distance (the level-0
                lists of a second HNSW, or an exact choice out of what IVF-PQ finds), then 8 with a large
                inner product
landmarks.npy   int64 [about 2 sqrt(items)], items drawn at random, where exploration starts besides

A graph of inner products alone cannot do: all its edges lead to items with long rows, and many others, the
long tail, have no edge that leads to them. A graph of distances alone needs more rounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llmrec.errors import BundleError, LlmrecError, require_extra
from llmrec.files import read_json

FORMAT = 1
_PROPOSED = {"hnsw": 64, "ivfpq": 512}
"""Candidates that faiss proposes for one user, all queries together, where lists are not longer."""
_LEAST, _MOST = 8, {"hnsw": 16, "ivfpq": 128}
"""Candidates proposed for one query, where lists are not longer; those of IVF-PQ cost next to nothing."""
_SPARE = {"hnsw": 1, "ivfpq": 2}
"""As many times k are proposed: codes of IVF-PQ are coarse, and put the k best among the 2 k best."""
_ROWS_READ = 6_000
"""Rows of IVF-PQ that are read for one query, of at most `_LISTS` inverted lists: all of the nearest."""
_LISTS, _WIDER, _WIDEST = 2_500, 8, 4
"""Of more lists more is read, and more candidates proposed, as many times as there are lists, to a point."""
_MORE_READ = 4
"""How much more is read, at most, where only some items are allowed."""
AGAIN = "make it again: llmrec index BUNDLE"


class ItemIndex:
    """A search index as it lies in a directory, memory-mapped. Later items than its own may exist."""

    def __init__(self, directory: Path) -> None:
        """Raises `BundleError` for what is no index, `MissingExtraError` without faiss."""
        require_extra("train", ["faiss"], "searching with an index")
        self.directory = Path(directory)
        facts = _read_facts(self.directory)
        self.kind: str = facts["kind"]
        self.items: int = facts["items"]
        try:
            self._neighbours = np.load(self.directory / "neighbours.npy", mmap_mode="r", allow_pickle=False)
            self.landmarks: np.ndarray = np.load(self.directory / "landmarks.npy", allow_pickle=False)
            self._proposal = _read_faiss(self.directory / "proposal.faiss")
        except (OSError, ValueError, RuntimeError) as error:
            raise BundleError(f"{self.directory} cannot be read as an index ({error}): {AGAIN}") from error
        if self._neighbours.shape[:1] != (self.items,) or self._proposal.ntotal != self.items:
            raise BundleError(f"the parts of {self.directory} do not fit together: {AGAIN}")

    @property
    def _wide(self) -> int:
        """How much wider than in a small catalogue is looked."""
        lists = int(self._proposal.nlist) if self.kind == "ivfpq" else 0
        return max(1, min(_WIDER, lists // _LISTS))

    @property
    def inner(self) -> int:
        """Width of the rows that were indexed."""
        return int(self._proposal.d)

    def neighbours(self, ids: np.ndarray) -> np.ndarray:
        """The neighbours of those of the items `ids` that are indexed, int32 [n, 40], -1 for none."""
        found: np.ndarray = self._neighbours.take(ids[ids < self.items], axis=0)
        return found

    def propose(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """Candidates for the queries float32 [M, inner] of one user, int64 [n], some more than once.

        The k best by the maximum over the queries are among the k best of each: with few queries as many
        are asked for. With many, exploration finds the rest. Of those that `allowed` bool [items] has, if it
        is given: then more is read, as less of it counts.
        """
        import faiss

        many, wide = len(queries), self._wide
        most, proposed = (min(wide, _WIDEST) * each[self.kind] for each in (_MOST, _PROPOSED))
        each = max(_LEAST, min(most, proposed // many), _SPARE[self.kind] * min(k, 4 * k // many))
        chosen, more = None, 1
        if allowed is not None:
            own = allowed[: self.items]
            bits = np.packbits(own, bitorder="little")
            chosen = faiss.IDSelectorBitmap(bits)
            more = min(_MORE_READ, max(1, self.items // max(1, int(np.count_nonzero(own)))))
        if self.kind == "hnsw":
            how = faiss.SearchParametersHNSW(efSearch=more * each, sel=chosen)
        else:
            lists = max(1, round(_ROWS_READ * self._proposal.nlist / self.items))
            how = faiss.SearchParametersIVF(nprobe=more * wide * lists, sel=chosen)
        # A request is too small to be worth threads, and idle OpenMP threads slow down what runs beside.
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            _, found = self._proposal.search(np.ascontiguousarray(queries), each, params=how)
        finally:
            faiss.omp_set_num_threads(threads)
        ids: np.ndarray = found[found >= 0]
        return ids


def _read_facts(directory: Path) -> dict[str, Any]:
    path = directory / "index.json"
    if not path.is_file():
        raise BundleError(f"{directory} is no search index (no index.json): {AGAIN}")
    try:
        facts = read_json(path, "search index")
        if facts["format"] != FORMAT:
            raise BundleError(f"{directory} has index format {facts['format']!r}, not {FORMAT}: {AGAIN}")
        return {"kind": str(facts["kind"]), "items": int(facts["items"])}
    except BundleError:
        raise
    except (LlmrecError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is not usable ({error}): {AGAIN}") from error


def _read_faiss(path: Path) -> Any:
    import faiss

    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
