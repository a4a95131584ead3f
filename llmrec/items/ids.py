"""Semantic IDs of a catalogue: a few codes for each item, no two items alike, for good.

A published ID never moves. New items get codes in the books as they are; retiring an item frees nothing, for
models know its code and it may come back. Another division of the space is another generation, for which
models are trained anew.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.items.collisions import Room, Settler, costs_of, keys_of
from llmrec.items.quantise.contract import Quantiser, checked
from llmrec.items.quantise.fitting import fit
from llmrec.items.quantise.settings import MOST, QuantiserSettings, said

COLLISIONS = ("relocate", "token")
"""What is done when items want the same codes: all but one get others, or a last token tells them apart."""
RESERVE = 8
"""Codes of the last token that are kept for new items."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemIds:
    """The IDs of a catalogue's items, by index.

    codes: int32 [items, levels], rows differ. sizes: codes a level. wanted: int32 [items, quantised levels],
    what the quantiser chose before collisions were resolved; costs: float32 [items, 2], of that and of what
    the item got (see `Quantiser.costs`). collisions: one of `COLLISIONS`; "token" adds a level behind the
    quantiser's. generation: counts from 1. built: items that the generation was made for, the first ones; the
    others were added. All arrays are read-only.
    """

    codes: np.ndarray
    sizes: tuple[int, ...]
    wanted: np.ndarray
    costs: np.ndarray
    collisions: str
    generation: int
    built: int
    quantiser: Quantiser
    _keys: np.ndarray = field(init=False, repr=False)
    _order: np.ndarray = field(init=False, repr=False)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the codes and their levels: equal where every item has the same ID."""
        content = np.ascontiguousarray(self.codes, dtype="<i4").tobytes()
        return hashlib.sha256(repr((self.sizes, len(self))).encode() + content).hexdigest()

    def __post_init__(self) -> None:
        """Raises `LlmrecError` for arrays that are no IDs: other shapes, codes out of range, doubles."""
        check_levels(self.sizes)
        quantised = self.quantiser.settings.sizes
        expected = quantised if self.collisions == "relocate" else (*quantised, self.sizes[-1])
        if self.collisions not in COLLISIONS or self.sizes != expected:
            raise LlmrecError(f"item IDs: levels {said(self.sizes)} do not fit {self.collisions} {quantised}")
        items = len(self.codes)
        shapes = (self.codes, len(self.sizes)), (self.wanted, len(quantised)), (self.costs, 2)
        if any(array.shape != (items, width) for array, width in shapes) or not 0 < self.built <= items:
            raise LlmrecError("item IDs: the arrays have other shapes than the levels say")
        for codes, sizes in ((self.codes, self.sizes), (self.wanted, quantised)):
            if codes.dtype != np.int32 or (codes < 0).any() or (codes >= np.array(sizes)).any():
                raise LlmrecError(f"item IDs: there are codes outside of levels {said(sizes)}")
        keys = keys_of(self.codes, self.sizes)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        if (keys[1:] == keys[:-1]).any():
            raise LlmrecError("item IDs: two items have the same codes")
        for name, array in (("_keys", keys), ("_order", order)):
            object.__setattr__(self, name, array)
        for array in (self.codes, self.wanted, self.costs, keys, order):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        """Codes an item."""
        return len(self.sizes)

    @property
    def quantised(self) -> np.ndarray:
        """The codes without the token that tells items apart, int32 [items, quantised levels]."""
        return self.codes[:, : self.wanted.shape[1]]

    @property
    def capacity(self) -> int:
        """Items that one full code of the quantiser takes."""
        return 1 if self.collisions == "relocate" else self.sizes[-1]

    def item_of(self, codes: Sequence[int]) -> int:
        """The index of the item with these codes; raises `UnknownIdError` when no item has them."""
        found = int(self.items_of(np.array([codes], dtype=np.int64))[0])
        if found < 0:
            raise UnknownIdError(f"no item has the codes {said(tuple(codes))}")
        return found

    def items_of(self, codes: np.ndarray) -> np.ndarray:
        """Indices of the items with codes [n, levels], int64 [n]; -1 where no item has them."""
        codes = np.asarray(codes).reshape(-1, self.levels)
        inside = np.all((codes >= 0) & (codes < np.array(self.sizes)), axis=1)
        keys = keys_of(np.where(inside[:, None], codes, 0), self.sizes)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: np.ndarray = np.where(inside & (self._keys[place] == keys), self._order[place], -1)
        return found

    def added(self, vectors: np.ndarray) -> ItemIds:
        """The IDs with new items behind, whose vectors are [n, width], in the books as they are.

        No ID moves. A new item gets the code that the quantiser chooses for it, or the nearest that has room
        (see `collisions.Settler`); where a last token tells items apart, its next number. Raises
        `LlmrecError` when there is no room for all: then it is time for a new generation.
        """
        vectors = checked(vectors, self.quantiser.width)
        room = Room(self.quantiser.settings.sizes, self.capacity, self.quantised)
        free = room.below(0) - len(self)
        if len(vectors) > free:
            raise LlmrecError(
                f"{len(vectors):,} new items do not fit, levels {said(self.sizes)} have {free:,} free IDs: "
                "build a new generation of item IDs and fine-tune on it"
            )
        wanted = self.quantiser.codes(vectors)
        codes, costs = _settled(self.quantiser, vectors, wanted, room, self.collisions)
        return replace(
            self,
            codes=np.concatenate([self.codes, codes]),
            wanted=np.concatenate([self.wanted, wanted]),
            costs=np.concatenate([self.costs, costs]),
        )


def build_ids(
    vectors: np.ndarray,
    settings: QuantiserSettings,
    collisions: str = "relocate",
    seed: int = 0,
    generation: int = 1,
    reserve: int = RESERVE,
    device: str = "cpu",
    advance: Callable[[int], None] | None = None,
) -> ItemIds:
    """IDs for a catalogue with item vectors [items, width].

    A rebuild is a new generation: give `generation` one more than the last had. `reserve`: see `RESERVE`.
    `device` and `advance` as in `quantise.fitting.fit`. Raises `LlmrecError` when there are more items than
    codes, or vectors that cannot be quantised.
    """
    if collisions not in COLLISIONS:
        raise LlmrecError(f"collisions are resolved by one of {', '.join(COLLISIONS)}, not {collisions!r}")
    vectors = checked(vectors)
    codes = math.prod(settings.sizes)
    if collisions == "relocate" and len(vectors) > codes:
        raise LlmrecError(
            f"{len(vectors):,} items do not fit into the {codes:,} codes of levels {said(settings.sizes)}: "
            "take more or larger levels, or let a last token tell items apart"
        )
    if collisions == "token":
        check_levels((*settings.sizes, reserve + 1))  # before the work; the last level may get larger
    quantiser = fit(vectors, settings, seed, device, advance)
    wanted = quantiser.assign(vectors)
    _, groups = np.unique(keys_of(wanted, settings.sizes), return_counts=True)
    capacity = 1 if collisions == "relocate" else int(groups.max()) + reserve
    sizes = settings.sizes if collisions == "relocate" else (*settings.sizes, capacity)
    check_levels(sizes)
    room = Room(settings.sizes, capacity, wanted[:0])
    codes_, costs = _settled(quantiser, vectors, wanted, room, collisions)
    return ItemIds(codes_, sizes, wanted, costs, collisions, generation, len(vectors), quantiser)


def check_levels(sizes: Sequence[int]) -> None:
    """Raise `LlmrecError` when IDs of levels with these sizes have no numbers of 64 bits."""
    if math.prod(sizes) >= MOST:
        raise LlmrecError(f"levels {said(tuple(sizes))} have more than 2^62 IDs: use fewer")


def _settled(
    quantiser: Quantiser, vectors: np.ndarray, wanted: np.ndarray, room: Room, collisions: str
) -> tuple[np.ndarray, np.ndarray]:
    """Codes int32 [n, levels] in `room` and costs float32 [n, 2] as in `ItemIds`."""
    levels = len(room.sizes)
    found = Settler(quantiser, room).settle(vectors, wanted)
    got = costs_of(quantiser, vectors, found)
    costs = np.stack([costs_of(quantiser, vectors, wanted), got], axis=1)
    if collisions == "relocate":
        return found, costs
    keys = keys_of(found, room.sizes)
    order = np.lexsort((got, keys))
    names, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
    held = np.array([room.held(key, levels) for key in names.tolist()], dtype=np.int64)
    number = np.empty(len(found), dtype=np.int32)
    number[order] = np.arange(len(order)) - np.repeat(starts, counts) + np.repeat(held - counts, counts)
    return np.concatenate([found, number[:, None]], axis=1), costs
