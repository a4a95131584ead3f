"""Settings of a model that writes codes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from llmrec.errors import LlmrecError
from llmrec.items.quantise.settings import QuantiserSettings

FORMS = ("none", "penalty", "weight")
STARTS = ("words", "events")


@dataclass(frozen=True, slots=True)
class TaskWeights:
    """What each task's mean loss counts; 0 for a task that is not trained.

    history: every next item of a history, as it is read (one sequence a user). next: the next item after cut
    points, asked as it will be asked. wish: the same with a goal in words (`tune.goals`). text_to_id: the
    codes of an item from its words; id_to_text: its title from its codes; titles_to_id: the codes of the
    next item from the titles of those before. next_title: the title of the next item from those titles
    (M6-Rec section 3, BIGRec): a model that learnt it recommends in words too (`--mode text`).
    """

    history: float = 1.0
    next: float = 1.0
    wish: float = 1.0
    text_to_id: float = 0.5
    id_to_text: float = 0.25
    titles_to_id: float = 0.25
    next_title: float = 0.0

    def __post_init__(self) -> None:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            if not 0 <= value < float("inf"):
                raise LlmrecError(f"codes: tasks: {name} is {value}, it must be at least 0")
        if not any(values.values()):
            raise LlmrecError("codes: tasks are all 0, nothing would train")

    @property
    def writes_codes(self) -> bool:
        """Whether a model that trains so writes codes after a history."""
        return any((self.history, self.next, self.wish, self.titles_to_id)) or not self.next_title


TASKS = tuple(each.name for each in fields(TaskWeights))
"""Names of the tasks; their places are their numbers."""
HISTORY, NEXT, WISH, TEXT_TO_ID, ID_TO_TEXT, TITLES_TO_ID, NEXT_TITLE = range(len(TASKS))


@dataclass(frozen=True, slots=True)
class BeamAware:
    """What training knows of the beam search to come (BEAR, `tune.beam_aware`).

    form: "penalty" adds, for each code, `weight` times how far it is from the `width` most likely codes of
    its level; "weight" gives codes that are among them more weight, as BEAR's authors published it; "none"
    does neither. temperature: how soft the border is.
    """

    form: str = "none"
    weight: float = 0.25
    temperature: float = 2.75
    width: int = 10

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise LlmrecError(
                f"codes: beam_aware: form is {self.form!r}, it must be one of: {', '.join(FORMS)}"
            )
        if self.weight < 0 or not self.temperature > 0 or self.width < 1:
            raise LlmrecError(
                "codes: beam_aware: weight must be at least 0, temperature above 0, width above 0"
            )


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """The IDs that a model writes, and what it learns of them.

    ids: a directory that `llmrec ids build` wrote; None: they are made of the recipe's data with `quantiser`,
    `levels`, `collisions`, `vectors` and `weight`, as that command makes them. tasks: weights. aligned: share
    of passes over a history that come with one example of each of text_to_id, id_to_text and titles_to_id;
    next_title comes `title_prompts` times with every pass. titles: newest items whose titles are read. beam:
    prefixes kept when items are searched, in validation and later. questions: validation prompts of a kind,
    at most. start: what an untrained model knows of codes: `words`, what their items say; `events`, also who
    takes them together, by a layer more (`model.history_layer`).
    """

    ids: str | None = None
    quantiser: str = "balanced"
    levels: tuple[int, ...] = (256, 256, 256)
    collisions: str = "relocate"
    vectors: str = "text"
    weight: float = 0.5
    tasks: TaskWeights = field(default_factory=TaskWeights)
    aligned: float = 0.5
    titles: int = 6
    title_prompts: int = 1
    beam: int = 20
    questions: int = 2000
    start: str = "words"
    beam_aware: BeamAware = field(default_factory=BeamAware)

    def __post_init__(self) -> None:
        if not 0 <= self.aligned <= 1:
            raise LlmrecError(f"codes: aligned is {self.aligned}, it must be from 0 to 1")
        if not 0 <= self.weight <= 1:
            raise LlmrecError(f"codes: weight is {self.weight}, it must be from 0 to 1")
        for name in ("titles", "title_prompts", "beam", "questions"):
            if getattr(self, name) < 1:
                raise LlmrecError(f"codes: {name} is {getattr(self, name)}, it must be at least 1")
        if self.start not in STARTS:
            raise LlmrecError(f"codes: start is {self.start!r}, it must be one of: {', '.join(STARTS)}")
        if self.ids is None:
            self.quantised()  # a mistake is an error before the work

    def quantised(self) -> QuantiserSettings:
        """How IDs are made where none are given."""
        return QuantiserSettings(self.quantiser, self.levels)
