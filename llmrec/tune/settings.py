"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmrec.errors import LlmrecError

PRECISIONS = ("auto", "no", "bf16", "fp16")
SCHEDULES = ("cosine", "linear", "constant")
SAMPLERS = ("uniform", "popularity", "in_batch", "mixed")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A run of `epochs` passes; `batch` histories a step on each process, `accumulate` steps an update.

    Two learning rates: new parts (item tokens, query head) start from nothing and learn faster than the
    backbone. The id part, where it starts from the events, learns at `id_rate` times the first and does not
    decay. All warm up linearly over the share `warmup` of all updates; then they follow a cosine or a line to
    zero, or stay (`schedule`).
    `average`: decay of the moving average of the weights that is validated and kept (0: the weights).
    `patience`: validations without a better ndcg@10 before the run ends early (0: never).
    `validate_every`: epochs between validations. `checkpoint_minutes`: at most so long is lost.
    `precision` "auto" is bf16 on a GPU that has it and full precision elsewhere.
    `pack`: histories of a step share rows where that leaves less padding; what is learnt is the same.
    `gradient_checkpointing`: the backbone's activations are computed again in the backward pass, which takes
    a third more time and much less memory.
    """

    epochs: int = 10
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 2e-3
    backbone_learning_rate: float = 5e-4
    id_rate: float = 0.1
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    dropout: float = 0.1
    average: float = 0.98
    patience: int = 3
    validate_every: int = 1
    checkpoint_minutes: float = 2.0
    precision: str = "auto"
    seed: int = 0
    schedule: str = "cosine"
    pack: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise LlmrecError(
                f"train: schedule is {self.schedule!r}, it must be one of: {', '.join(SCHEDULES)}"
            )
        if self.precision not in PRECISIONS:
            raise LlmrecError(
                f"train: precision is {self.precision!r}, it must be one of: {', '.join(PRECISIONS)}"
            )
        for name in ("epochs", "batch", "accumulate", "validate_every"):
            if getattr(self, name) < 1:
                raise LlmrecError(f"train: {name} is {getattr(self, name)}, it must be at least 1")
        for name in ("learning_rate", "backbone_learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise LlmrecError(f"train: {name} is {getattr(self, name)}, it must be above 0")
        for name in ("weight_decay", "warmup", "dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise LlmrecError(f"train: {name} is {getattr(self, name)}, it must be from 0 to below 1")
        if not 0 <= self.seed < 2**32:
            raise LlmrecError(f"train: seed is {self.seed}, it must be from 0 to below 2**32")


@dataclass(frozen=True, slots=True)
class ExampleSettings:
    """`versions` of each history, `cuts` in each pass, `asks` tails at each, the share of them with a goal.

    Where no goal has a target after the cut, a tail is the plain next item whatever `wish_share` is.

    Tails at one cut have different goals and read the history once: a model of many goals hears each of them
    more often, at the cost of the tails alone. A tail without a goal stands at most once at a cut.

    `shuffle_ties` is the share of passes in which events of one moment change places: their order says
    nothing, so it should teach nothing. `crop` is the share of passes that see a random window of the history
    only, `shuffle` the share in which events change places within runs of `shuffle_within`: two ways to make
    more of few histories (`tune.augment`).
    """

    versions: int = 4
    cuts: int = 4
    asks: int = 1
    wish_share: float = 0.5
    shuffle_ties: float = 0.0
    crop: float = 0.0
    shuffle: float = 0.0
    shuffle_within: int = 3

    def __post_init__(self) -> None:
        for name in ("versions", "cuts", "asks"):
            if getattr(self, name) < 1:
                raise LlmrecError(f"examples: {name} is {getattr(self, name)}, it must be at least 1")
        if self.shuffle_within < 2:
            raise LlmrecError(f"examples: shuffle_within is {self.shuffle_within}, it must be at least 2")
        for name in ("wish_share", "shuffle_ties", "crop", "shuffle"):
            if not 0 <= getattr(self, name) <= 1:
                raise LlmrecError(f"examples: {name} is {getattr(self, name)}, it must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class GoalSettings:
    """Which goals train (see prompts/README.md): the table of the templates, or that of `file`, changed.

    `add`: further rows of the table. `only`: the goals that train, default all. `weights`: other weights, 0
    for none. `held_out`: goals and combinations that are never trained, nor is what is made of them or asks
    the same under another name (`tune.held_out`).
    """

    file: str | None = None
    add: dict[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LossSettings:
    """`query_weight` of the query tokens' loss beside the sequence loss, label smoothing, and sampling.

    A catalogue of more than `full_softmax_up_to` items is sampled; all rows of a step share its candidates,
    and every logit is corrected for how often its item was to be expected (`tune.negatives`). `sampler`:
    "uniform" or "popularity" (** `popularity_power`) draw `negatives` items with replacement, "in_batch"
    takes the targets of the step's other histories, "mixed" is popularity and in_batch together.

    `hard_share` of the draws come from hard negatives instead: the `hard_top` items that the model itself
    ranks first for `hard_rows` prompts, those prompts' targets left out, found again every `hard_every`
    updates.
    """

    sequence_weight: float = 1.0
    query_weight: float = 1.0
    label_smoothing: float = 0.0
    full_softmax_up_to: int = 100_000
    negatives: int = 8192
    popularity_power: float = 0.5
    sampler: str = "popularity"
    hard_share: float = 0.0
    hard_every: int = 100
    hard_rows: int = 64
    hard_top: int = 100

    def __post_init__(self) -> None:
        for name in ("sequence_weight", "query_weight", "popularity_power"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise LlmrecError(f"loss: {name} is {getattr(self, name)}, it must be at least 0")
        if self.sequence_weight + self.query_weight == 0:
            raise LlmrecError("loss: sequence_weight and query_weight are both 0, nothing would train")
        if not 0 <= self.label_smoothing < 1:
            raise LlmrecError(
                f"loss: label_smoothing is {self.label_smoothing}, it must be from 0 to below 1"
            )
        for name in ("negatives", "hard_every", "hard_rows", "hard_top"):
            if getattr(self, name) < 1:
                raise LlmrecError(f"loss: {name} is {getattr(self, name)}, it must be at least 1")
        if self.sampler not in SAMPLERS:
            raise LlmrecError(f"loss: sampler is {self.sampler!r}, it must be one of: {', '.join(SAMPLERS)}")
        if not 0 <= self.hard_share < 1:  # something must reach the items that no list holds
            raise LlmrecError(f"loss: hard_share is {self.hard_share}, it must be from 0 to below 1")
