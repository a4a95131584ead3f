"""Training sets: histories and wishes as token ids, in a `datasets` table on disk, memory-mapped.

One row is one pass over one window of a user's history: its head, and tails after cut points, some with a
wish derived from the target (`verbalize.wishes`). Each `version` cuts and words the same histories anew;
epoch e reads version e modulo their number.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.catalog import Value
from llmrec.data.events import Event, Histories, History
from llmrec.data.prepared import Case, Prepared
from llmrec.errors import DataError
from llmrec.files import read_json, replace_directory, write_json
from llmrec.model.tokens import PromptTokens
from llmrec.tune.augment import augmented
from llmrec.tune.collate import Example, Tail
from llmrec.tune.settings import ExampleSettings
from llmrec.verbalize.render import Verbalizer

Wisher = Callable[[Event, History, np.random.Generator], tuple[str, str]]
"""Words of a wish that a target event fulfils after a history, and their search words; "" for none."""
_WISH_TOKENS = 128
"""Tokens of the context that training keeps free for a wish, a quarter of a small context."""


class ExampleBuilder:
    """Turns histories into examples with one verbalizer and one token map."""

    def __init__(
        self,
        verbalizer: Verbalizer,
        tokens: PromptTokens,
        wisher: Wisher | None,
        settings: ExampleSettings,
    ) -> None:
        self.verbalizer = verbalizer
        self.tokens = tokens
        self.wisher = wisher
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
        self, window: History, attributes: dict[str, Any], rng: np.random.Generator
    ) -> Example | None:
        """One pass over a window; None when it has no next item to learn."""
        if len(window) < 2:
            return None
        window = augmented(window, self.settings, rng)
        window, head = self._ordered(window, attributes, rng)
        targets = [event.item for event in window[1:]]
        # A cut after no event at all is among them: the prompt of someone without a history.
        cuts = np.sort(rng.choice(len(window), size=min(self.settings.cuts, len(window)), replace=False))
        tails = []
        for cut in cuts:
            words = search = ""
            if self.wisher is not None and rng.random() < self.settings.wish_share:
                words, search = self.wisher(window[cut], window[:cut], rng)
            at = self._cut_at(head, window, int(cut), attributes)
            if at is None:
                continue
            ids = self.tail(window[:cut], words)
            if at + len(ids) > self.tokens.context:  # a wish too long for what the history leaves
                ids, search = self.tail(window[:cut], ""), ""
            tails.append(Tail(at, ids, window[cut].item, int(cut), search))
        item_at = self._item_positions(head)
        items = [event.item for event in window[:-1]]
        return Example(head, item_at, targets if item_at else [], tails, items)

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
        self, history: History, words: str, attributes: dict[str, Any], target: int, search: str = ""
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
) -> None:
    """Write the training table of a split to `directory`; needs the packages of the extra `train`.

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
        del table
        shutil.rmtree(temporary / "cache", ignore_errors=True)
        write_json(temporary / "settings.json", {**dataclasses.asdict(builder.settings), "seed": seed})


def _rows(
    builder: ExampleBuilder, train: Histories, prepared: Prepared, seed: int, advance: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    for version in range(builder.settings.versions):
        for user in range(len(train)):
            advance()
            rng = np.random.default_rng([seed, version, user])
            attributes = dict(prepared.attributes(user))
            for window in builder.windows(train.history(user), attributes):
                example = builder.example(window, attributes, rng)
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
                        "searches": [tail.search for tail in example.tails],
                        "items": list(example.items),
                        "length": example.length,
                    }


class ExampleTable:
    """The training table, read where it lies; rows of one version are one epoch."""

    def __init__(self, directory: Path) -> None:
        from datasets import load_from_disk

        self.settings: dict[str, Any] = read_json(directory / "settings.json", "training examples")
        self._table = load_from_disk(str(directory / "table"))
        self._lengths = np.asarray(self._table["length"][:])
        self._versions = np.asarray(self._table["version"][:])

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, row: int) -> Example:
        values = self._table[int(row)]
        names = ("cuts", "tails", "targets", "events", "searches")
        tails = zip(*(values[name] for name in names), strict=True)
        return Example(
            values["head"],
            values["item_at"],
            values["next_item"],
            [Tail(*tail) for tail in tails],
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
    builder: ExampleBuilder, prepared: Prepared, cases: list[Case], seed: int | None = None
) -> list[tuple[Example, np.ndarray]]:
    """Prompts of evaluation cases as they are asked, each with the items of the history before its target.

    With a seed each has a wish that its target fulfils, drawn with it; cases that none fits are left out.
    """
    questions = []
    for case in cases:
        events = prepared.histories.history(case.user, case.cut + 1)
        history, target = events[:-1], events[-1]
        words = search = ""
        if seed is not None:
            if builder.wisher is None:
                continue
            words, search = builder.wisher(target, history, np.random.default_rng([seed, case.user]))
            if not words:
                continue
        attributes = dict(prepared.attributes(case.user))
        example = builder.question(history, words, attributes, case.target, search)
        questions.append((example, np.array([event.item for event in history], dtype=np.int64)))
    return questions
