"""How a bundle is searched: the `search` section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.errors import LlmrecError
from llmrec.retrieve.storage import STORAGE

KINDS = ("auto", "exact", "hnsw", "ivfpq")
_WIDTH, _WIDTH_A_QUERY = 250, 3
"""Items that a round opens besides k, with HNSW, and with IVF-PQ, which leaves little to be found."""
IVFPQ_LEAST = 1_000
"""Items below which product quantisation has nothing to learn from."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How the best items for a user's M vectors are found.

    kind: `exact` scores every allowed item; `hnsw` and `ivfpq` name the faiss index that proposes the first
    candidates for neighbour exploration; `auto` is `exact` for catalogues of at most `exact_up_to` items,
    else `ivfpq` where there are enough items for it, else `hnsw`. exact_up_to: where so many items or fewer
    are allowed, all of them are scored, whatever the kind. rounds: rounds of exploration, T in URM; 0 takes
    the proposal as it is; `hnsw` wants one more than `ivfpq`. width: each round opens the `width` + k best
    items so far; None: 250 with `hnsw`, three a query with `ivfpq`. storage: type of the rows of V in the
    bundle, `float32` or `float16`.
    """

    kind: str = "auto"
    exact_up_to: int = 20_000
    rounds: int = 3
    width: int | None = None
    storage: str = "float32"

    def __post_init__(self) -> None:
        for name, value, known in (("kind", self.kind, KINDS), ("storage", self.storage, STORAGE)):
            if value not in known:
                raise LlmrecError(f"search: {name} is {value!r}, it must be one of: {', '.join(known)}")
        for name, least in (("exact_up_to", 0), ("rounds", 0), ("width", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise LlmrecError(f"search: {name} is {value}, it must be at least {least}")

    def width_for(self, kind: str, queries: int) -> int:
        """Items that a round opens besides k, with an index of `kind` and so many vectors of a user."""
        if self.width is not None:
            return self.width
        return _WIDTH_A_QUERY * queries if kind == "ivfpq" else _WIDTH

    def index_for(self, items: int) -> str | None:
        """The kind of index that a catalogue of `items` items gets, None for none.

        Raises `LlmrecError` when there are too few for it.
        """
        if self.kind == "ivfpq" and items < IVFPQ_LEAST:
            raise LlmrecError(
                f"search: ivfpq needs {IVFPQ_LEAST:,} items, the catalogue has {items:,}: choose auto"
            )
        if self.kind == "auto":
            large = "ivfpq" if items >= IVFPQ_LEAST else "hnsw"
            return large if items > self.exact_up_to else None
        return None if self.kind == "exact" else self.kind
