"""Training sets: histories and wishes as token ids, in a `datasets` table on disk, memory-mapped.

One row is one pass over one window of a user's history: its head, and tails after cut points, some with a
goal in words and the event that answers it as target (`tune.goals`), the others with the next event. Each
`version` cuts and words the same histories anew; epoch e reads version e modulo their number.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.catalog import Value
from llmrec.data.events import Histories, History
from llmrec.data.prepared import Case, Prepared
from llmrec.errors import DataError
from llmrec.files import read_json, replace_directory, write_json
from llmrec.model.tokens import PromptTokens
from llmrec.tune.augment import augmented
from llmrec.tune.collate import Example, Tail
from llmrec.tune.goals import Ask, Asked, GoalMaker, spans
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.render import Verbalizer
from llmrec.verbalize.sought import Sought

Goals = Callable[[History], Ask]
"""What can be asked of one user's whole history: `GoalMaker.on`."""
PLAIN = "next-item"
"""Stands in the report for examples without a goal."""
_WISH_TOKENS = 128
"""Tokens of the context that training keeps free for a wish, a quarter of a small context."""


class ExampleBuilder:
    """Turns histories into examples with one verbalizer and one token map."""

    def __init__(
        self,
        verbalizer: Verbalizer,
        tokens: PromptTokens,
        goals: Goals | None,
        settings: ExampleSettings,
    ) -> None:
        self.verbalizer = verbalizer
        self.tokens = tokens
        self.goals = goals
        self.settings = settings

    def windows(self, history: History, attributes: Mapping[str, Value] | None = None) -> list[History]:
        """Cut a history that one prompt cannot hold into windows, newest complete.

        A prompt holds `max_events` events and the tokens of the base model's context, with room for a wish;
        the last event of a window is a target only. A window begins with the target of the one before it.
        """
        windows: list[History] = []
        end = len(history)
        while not windows or end > 1:
            past = history[: max(0, end - 1)]
            _, kept = self.tokens.fit(self.verbalizer, past, "", attributes, self._spare)
            start = len(past) - len(kept)
            windows.append(history[start:end])
            end = start + 1
        return windows

    @property
    def _spare(self) -> int:
        """Tokens that are kept free for a wish."""
        return min(_WISH_TOKENS, self.tokens.context // 4)

    def example(
        self,
        window: History,
        attributes: dict[str, Any],
        rng: np.random.Generator,
        before: History = (),
        after: History = (),
    ) -> Example | None:
        """One pass over a window; None when it has no next item to learn.

        `before` and `after` are the user's other events: goals look at them too. A cropped window is a
        history of its own.
        """
        if len(window) < 2:
            return None
        whole = len(window)
        window = augmented(window, self.settings, rng)
        if len(window) < whole:
            before = after = ()
        window, head = self._ordered(window, attributes, rng)
        targets = [event.item for event in window[1:]]
        # A cut after no event at all is among them: the prompt of someone without a history.
        cuts = np.sort(rng.choice(len(window), size=min(self.settings.cuts, len(window)), replace=False))
        ask = None if self.goals is None else self.goals((*before, *window, *after))
        tails: list[Tail] = []
        for cut in cuts.tolist():
            asked = self._asked(ask, len(before) + cut, rng)
            at = self._cut_at(head, window, cut, attributes)
            if at is not None:
                tails.extend(self._tails(window[:cut], window[cut].item, at, asked))
        item_at = self._item_positions(head)
        items = [event.item for event in window[:-1]]
        return Example(head, item_at, targets if item_at else [], tails, items)

    def _asked(self, ask: Ask | None, cut: int, rng: np.random.Generator) -> list[Asked]:
        """What is asked after the first `cut` events: each of `asks` times with the chance `wish_share`."""
        if ask is None:
            return []
        wanted = sum(rng.random() < self.settings.wish_share for _ in range(self.settings.asks))
        return ask(cut, rng, wanted) if wanted else []

    def _tails(self, history: History, following: int, at: int, asked: Sequence[Asked]) -> Iterator[Tail]:
        """What stands after one cut: the questions, and one without a goal where they are not `asks` many."""
        plain = len(asked) < self.settings.asks
        for each in asked:
            ids = self.tail(history, each.words)
            if at + len(ids) <= self.tokens.context:
                yield Tail(at, ids, each.target, len(history), each.search, each.goal)
            else:  # a wish too long for what the history leaves
                plain = True
        if plain:
            yield Tail(at, self.tail(history, ""), following, len(history))

    def _ordered(
        self, window: History, attributes: dict[str, Any], rng: np.random.Generator
    ) -> tuple[History, list[int]]:
        """The window, events of one moment perhaps in a new order, and the ids of its head."""
        orders = [window]
        if rng.random() < self.settings.shuffle_ties:
            orders.insert(0, shuffle_ties(window, rng))
        for order in orders:
            head = self.tokens.head(self.verbalizer.prompt(order[:-1], "", attributes))
            # Another order can take more words: a type of event is said when it changes.
            if len(head) + self._spare <= self.tokens.context:
                break
        return order, head

    def tail(self, history: History, words: str) -> list[int]:
        """Ids of what stands after the cut."""
        # Without statistics the tail does not depend on the history: no need to render it.
        seen = history if self.verbalizer.settings.statistics else ()
        return self.tokens.encode(self.verbalizer.prompt(seen, words).tail)

    def question(
        self,
        history: History,
        words: str,
        attributes: dict[str, Any],
        target: int,
        search: Sought = Sought(),  # noqa: B008
    ) -> Example:
        """A prompt as it is asked, with its answer: for validation."""
        prompt, kept = self.tokens.fit(self.verbalizer, history, words, attributes)
        head = self.tokens.head(prompt)
        tail = Tail(len(head), self.tokens.encode(prompt.tail), target, len(kept), search)
        return Example(head, [], [], [tail], [event.item for event in kept])

    def _item_positions(self, head: list[int]) -> list[int]:
        low, high = self.tokens.base, self.tokens.base + self.tokens.items
        return [at for at, token in enumerate(head) if low <= token < high]

    def _cut_at(self, head: list[int], window: History, cut: int, attributes: dict[str, Any]) -> int | None:
        """Length in tokens of the head of the first `cut` events; None when `head` does not begin with it.

        That is so after no event, with tokenizers that join the words before the cut with those after it.
        """
        positions = self._item_positions(head)
        if positions and cut:
            return positions[cut - 1] + 1
        shorter = self.tokens.head(self.verbalizer.prompt(window[:cut], "", attributes))
        return len(shorter) if head[: len(shorter)] == shorter else None


def shuffle_ties(history: History, rng: np.random.Generator) -> History:
    """Events of one known time in a new order; the times stay in order."""
    order = list(range(len(history)))
    start = 0
    for end in range(1, len(history) + 1):
        if end == len(history) or history[end].time is None or history[end].time != history[start].time:
            order[start:end] = (start + rng.permutation(end - start)).tolist()
            start = end
    return tuple(history[at] for at in order)


def build_examples(
    builder: ExampleBuilder,
    prepared: Prepared,
    split: str,
    directory: Path,
    seed: int,
    advance: Callable[[], None] = lambda: None,
    trained: Iterable[str] = (),
) -> None:
    """Write the training table of a split to `directory`; needs the packages of the extra `train`.

    `settings.json` counts the examples of each goal; goals of `trained` that got none stand there with 0.
    Raises `DataError` when no user has two events to learn from.
    """
    from datasets import Dataset, Features, List, Value, disable_progress_bars
    from datasets.exceptions import DatasetGenerationError

    disable_progress_bars()  # `advance` reports instead
    train = prepared.train(split)
    if np.diff(train.offsets).max(initial=0) < 2:
        raise DataError(f"{prepared.directory}: no user has two training events, there is nothing to learn")
    integers = List(Value("int32"))
    features = Features(
        {
            "version": Value("int32"),
            "user": Value("int32"),
            "head": integers,
            "item_at": integers,
            "next_item": integers,
            "cuts": integers,
            "tails": List(integers),
            "targets": integers,
            "events": integers,
            "searches": List(Value("string")),
            "asks": List(List(Value("float32"))),
            "goals": List(Value("string")),
            "items": integers,
            "length": Value("int32"),
        }
    )
    with replace_directory(directory) as temporary:
        try:
            table = Dataset.from_generator(
                _rows,
                features=features,
                gen_kwargs={
                    "builder": builder,
                    "train": train,
                    "prepared": prepared,
                    "seed": seed,
                    "advance": advance,
                },
                cache_dir=str(temporary / "cache"),
                fingerprint="examples",
            )
        except DatasetGenerationError as error:  # hides what went wrong in a row, or with the disk
            raise error.__cause__ or error from error
        table.save_to_disk(str(temporary / "table"))
        counts = Counter(name or PLAIN for names in table["goals"] for name in names)
        del table
        shutil.rmtree(temporary / "cache", ignore_errors=True)
        settings = {**dataclasses.asdict(builder.settings), "seed": seed}
        goals = dict(counts.most_common()) | {name: 0 for name in trained if name not in counts}
        write_json(temporary / "settings.json", {**settings, "goals": goals})


def _rows(
    builder: ExampleBuilder, train: Histories, prepared: Prepared, seed: int, advance: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    for version in range(builder.settings.versions):
        for user in range(len(train)):
            advance()
            rng = np.random.default_rng([seed, version, user])
            attributes = dict(prepared.attributes(user))
            history = train.history(user)
            end = len(history)
            for window in builder.windows(history, attributes):
                start = end - len(window)
                example = builder.example(window, attributes, rng, history[:start], history[end:])
                end = start + 1
                if example is not None:
                    yield {
                        "version": version,
                        "user": user,
                        "head": example.head,
                        "item_at": example.item_at,
                        "next_item": example.next_item,
                        "cuts": [tail.cut for tail in example.tails],
                        "tails": [list(tail.ids) for tail in example.tails],
                        "targets": [tail.target for tail in example.tails],
                        "events": [tail.events for tail in example.tails],
                        "searches": [tail.search.words for tail in example.tails],
                        "asks": [list(tail.search.asks) for tail in example.tails],
                        "goals": [tail.goal for tail in example.tails],
                        "items": list(example.items),
                        "length": example.length,
                    }


class ExampleTable:
    """The training table, read where it lies; rows of one version are one epoch."""

    def __init__(self, directory: Path) -> None:
        from datasets import load_from_disk

        self.settings: dict[str, Any] = read_json(directory / "settings.json", "training examples")
        self._table = load_from_disk(str(directory / "table"))
        if "goals" not in self.settings or "asks" not in self._table.column_names:
            raise DataError(f"{directory} was written by an older llmrec: remove it, it is made again")
        self._lengths = np.asarray(self._table["length"][:])
        self._versions = np.asarray(self._table["version"][:])

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, row: int) -> Example:
        values = self._table[int(row)]
        names = ("cuts", "tails", "targets", "events", "searches", "asks", "goals")
        tails = zip(*(values[name] for name in names), strict=True)
        return Example(
            values["head"],
            values["item_at"],
            values["next_item"],
            [
                Tail(cut, ids, target, events, Sought(words, tuple(asks)), goal)
                for cut, ids, target, events, words, asks, goal in tails
            ],
            values["items"],
        )

    def searches(self) -> list[str]:
        """The search words of all prompts, each once, sorted."""
        return sorted({words for row in self._table["searches"] for words in row} - {""})

    def batches(self, epoch: int, size: int, seed: int) -> list[np.ndarray]:
        """Row numbers of the batches of an epoch: shuffled, of like lengths together, the same for a seed."""
        rng = np.random.default_rng([seed, epoch])
        versions = np.unique(self._versions)
        rows = rng.permutation(np.flatnonzero(self._versions == versions[epoch % len(versions)]))
        bucket = 8 * size
        batches: list[np.ndarray] = []
        for start in range(0, len(rows), bucket):
            some = rows[start : start + bucket]
            some = some[np.argsort(self._lengths[some], kind="stable")]
            batches.extend(some[at : at + size] for at in range(0, len(some), size))
        return [batches[at] for at in rng.permutation(len(batches))]


def validation_questions(
    builder: ExampleBuilder, prepared: Prepared, cases: list[Case]
) -> list[tuple[Example, np.ndarray]]:
    """Prompts of evaluation cases as they are asked, each with the items of the history before its target."""
    questions = []
    for case in cases:
        history = prepared.histories.history(case.user, case.cut)
        example = builder.question(history, "", dict(prepared.attributes(case.user)), case.target)
        questions.append((example, np.array([event.item for event in history], dtype=np.int64)))
    return questions


def goal_validation(
    builder: ExampleBuilder, goals: GoalMaker, prepared: Prepared, split: str, seed: int
) -> list[tuple[Example, np.ndarray]]:
    """For each user of the valid fold a goal drawn as in training, as it is asked, with what is left out.

    Users for whom no goal has a target among their events of the fold have no question.
    """
    questions = []
    for user, cut, stop in spans(prepared, split, "valid"):
        history = prepared.histories.history(user, stop)
        for asked in goals.on(history)(cut, np.random.default_rng([seed, user]), 1):
            past, attributes = history[:cut], dict(prepared.attributes(user))
            example = builder.question(past, asked.words, attributes, asked.target, asked.search)
            seen = past if goals.leaves_out_seen(asked.objective) else ()
            questions.append((example, np.array([event.item for event in seen], dtype=np.int64)))
    return questions
