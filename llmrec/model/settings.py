"""Settings of the model's parts; no torch here, so that recipes can be read without it."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.errors import LlmrecError

ADAPTERS = ("lora", "prompt", "full", "none")
PARTS = ("both", "id_only", "text_only")
STARTS = ("events", "random")
STAND_INS = ("mean", "zero")


@dataclass(frozen=True, slots=True)
class ItemSettings:
    """`inner` width of the item table, which of its parts to use, and the encoder of the items' text.

    The encoder is a known name, a hub name or a directory, or "hash", which needs no model and only knows
    which words texts share. The id part starts from a factorisation of the training events ("events") or
    at random.

    dropout: chance that an item stands in a step, at input and output, without its own id part, so that text
    alone learns to reach items (URM section 1.4: items never seen). without_id: what an item without an id
    part has in its place while it trains, the mean of the others' or zero. newcomers: items without a
    training event are as if they came later: they have no id part, are never a negative, and end with what
    `llmrec items add` gives; otherwise all that training teaches of them is that nobody takes them.

    own_pairs: whether an id part that starts from the events starts, in a step, from the step's own histories
    too. Without them what a history says of an item is what other histories say, as it is when the model is
    asked; with them the start knows the answers that it trains on.
    """

    inner: int = 128
    parts: str = "both"
    id_start: str = "events"
    text_encoder: str = "all-minilm-l6-v2"
    dropout: float = 0.0
    without_id: str = "mean"
    newcomers: bool = False
    own_pairs: bool = True

    def __post_init__(self) -> None:
        if self.parts not in PARTS:
            raise LlmrecError(f"items: parts is {self.parts!r}, it must be one of: {', '.join(PARTS)}")
        if self.id_start not in STARTS:
            raise LlmrecError(f"items: id_start is {self.id_start!r}, it must be one of: {', '.join(STARTS)}")
        if self.inner < 1:
            raise LlmrecError(f"items: inner is {self.inner}, it must be at least 1")
        if self.without_id not in STAND_INS:
            raise LlmrecError(
                f"items: without_id is {self.without_id!r}, it must be one of: {', '.join(STAND_INS)}"
            )
        if not 0 <= self.dropout <= 1:
            raise LlmrecError(f"items: dropout is {self.dropout}, it must be from 0 to 1")
        if self.dropout and self.parts != "both":
            raise LlmrecError(f"items: dropout needs both parts of an item, parts is {self.parts!r}")


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """How the backbone adapts; rank, alpha and dropout belong to LoRA, `tokens` to prompt tuning.

    "full" trains all weights of the decoder layers (the word embeddings stay); "none" trains only the
    new parts (item tokens and query head).
    """

    kind: str = "lora"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    tokens: int = 16

    def __post_init__(self) -> None:
        if self.kind not in ADAPTERS:
            raise LlmrecError(f"adapter: kind is {self.kind!r}, it must be one of: {', '.join(ADAPTERS)}")
        for name in ("rank", "alpha", "tokens"):
            if getattr(self, name) < 1:
                raise LlmrecError(f"adapter: {name} is {getattr(self, name)}, it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise LlmrecError(f"adapter: dropout is {self.dropout}, it must be from 0 to below 1")

    @property
    def soft_prompt(self) -> int:
        """Number of soft prompt rows."""
        return self.tokens if self.kind == "prompt" else 0


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """`history_state`: add the state at the history's end to each query's (see `model.query_head`).

    `recent`: how many of the newest items' rows of V are added to every user vector (0: none). `search`: add
    what the search words of a wish are near to; needs items with a text part. `facts`: let user vectors
    prefer facts of items (`data.fact_columns`). `asks`: let each part of a wish change them by weights of its
    own. `seen`: let items of the history (the newest `recent`) gain or lose score by a learnt amount.
    """

    history_state: bool = True
    recent: int = 50
    search: bool = True
    facts: bool = True
    asks: bool = True
    seen: bool = True

    def __post_init__(self) -> None:
        if self.recent < 0:
            raise LlmrecError(f"head: recent is {self.recent}, it must not be below 0")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """All that decides the shape of a tuned model and what it starts from.

    name: a known name, a hub name or a directory; its first `layers` layers are kept (None: all), `random`
    takes its shape with fresh weights. queries: number of query tokens.
    """

    name: str
    layers: int | None = None
    random: bool = False
    queries: int = 4
    items: ItemSettings = field(default_factory=ItemSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)

    @property
    def own_backbone(self) -> bool:
        """Whether a bundle must hold the backbone itself: it is changed, or cannot be had again."""
        return self.adapter.kind == "full" or self.random
