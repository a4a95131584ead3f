"""Asking a bundle, or an untuned model: answers to wishes in words, one or several of a person."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle, open_bundle
from llmrec.config import READOUTS
from llmrec.data.catalog import Value
from llmrec.data.events import History
from llmrec.data.prepared import Prepared
from llmrec.decode.answers import Answer, Answers, Asked
from llmrec.decode.contract import Filters, Request
from llmrec.decode.contradiction import contradiction
from llmrec.decode.readout import Found, Readout, Wanted, nearest_each
from llmrec.decode.understand import limits_in_words, understand
from llmrec.decode.why import Cause
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.readouts import recommender_of
from llmrec.retrieve.diversity import POOL, differing
from llmrec.retrieve.merge import Ranked, merge
from llmrec.retrieve.parts import split_weighted
from llmrec.verbalize.clean import clean
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.wishes import WishMaker

MODES = (*READOUTS, "text")
"""How items are found: as a bundle's readout does, or by the words that a model writes."""
NOTHING_SEEN = Filters(exclude_seen=True)
"""The limits of a question that names none: items of the history are left out."""
VARIED = "a list that differs within itself"
_CATEGORIES_SHOWN = 10
_SAID = 60
"""Characters of a wish that an error names."""
_DEPTH, _LEAST_DEPTH = 10, 100
"""Lists to merge are so many times as long as what is asked for; with a preference, at least so long."""


def _of_all(wishes: Sequence[str], parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What is said of all wishes, then what is said of some, with their words."""
    every = [part for part in dict.fromkeys(parts[0]) if all(part in other for other in parts)]
    some = [
        f'{part} (for "{wish}")'
        for wish, own in dict(zip(wishes, parts, strict=True)).items()
        for part in own
        if part not in every
    ]
    return (*every, *some)


def _pool(asked: Asked, length: int) -> int:
    """Of how many items a list of `length` is chosen."""
    return min(asked.count, POOL * length) if asked.varied else length


class Shop:
    """A model that answers people: `Shop.open("bundle").ask(user="12583", say="something for tea")`."""

    def __init__(self, bundle: Bundle | CodeBundle | Prepared, recommender: Readout | None = None) -> None:
        """`recommender` answers, by default as the bundle was made to; without a bundle it must be given."""
        self.recommender: Readout
        if not isinstance(bundle, Prepared):
            self.bundle, self.prepared = bundle, bundle.prepared
            self.recommender = recommender_of(bundle) if recommender is None else recommender
        elif recommender is None:
            raise ValueError("a dataset alone answers nothing: give a recommender too")
        else:
            self.prepared, self.recommender = bundle, recommender
        self.catalog = self.prepared.catalog

    @classmethod
    def open(
        cls,
        directory: str | Path,
        mode: str | None = None,
        model: str | None = None,
        free: bool = False,
        confidence: float | None = None,
        engine: str = "transformers",
        checkpoint: str | Path | None = None,
    ) -> Shop:
        """Open a bundle; in the mode "text" also a prepared dataset, a data.yaml, or "sample".

        Without a mode the bundle answers as it was made to. In the mode "text" `model` writes the items'
        titles, by default the bundle's base model. With `free` it writes in its own words, which are looked
        up in the catalogue; a list whose best item is less sure than `confidence`, from 0 to 1, is not shown.
        `engine` is one of `engines.choice.ENGINES`; `checkpoint`, an export of the bundle, is for vLLM
        (`open_engine`). Raises `LlmrecError` when something is missing.
        """
        if mode is not None and mode not in MODES:
            raise LlmrecError(f"the mode is {mode!r}, it must be one of: {', '.join(MODES)}")
        if mode == "text":
            from llmrec.text.opening import open_text

            if checkpoint is not None:
                raise LlmrecError("an exported bundle answers as it was made to: leave --mode text out")
            return cls(*open_text(str(directory), model, free, confidence, engine))
        if model is not None or free or confidence is not None:
            raise LlmrecError("a model that writes needs the mode text: give --mode text too")
        bundle = open_bundle(Path(directory))
        if mode is not None and mode != bundle.readout:
            raise LlmrecError(
                f"{directory} was made with readout: {bundle.readout}, it cannot answer in the mode {mode}: "
                "leave --mode out"
            )
        exported = None if checkpoint is None else Path(checkpoint)
        return cls(bundle, recommender_of(bundle, engine, exported))

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words of the data, with which wishes are read."""
        return Lexicon.of(self.prepared)

    @cached_property
    def _wishes(self) -> WishMaker:
        """Says goals in words."""
        return WishMaker(self.catalog, lexicon=self.lexicon)

    def ask(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        say: str = "",
        k: int = 10,
        filters: Filters = NOTHING_SEEN,
        enforce: bool = True,
        hear: bool = True,
        why: bool = False,
    ) -> Answers:
        """Recommend `k` items to a user of the data, or after a history of item ids.

        `say` is the wish: the model hears it (unless `hear` is off), and what can be held exactly is
        enforced (unless `enforce` is off). Where no item at all is what the wish asks, its words (not its
        prices, nor what it rules out) are left to the model, and a note says so. `filters` hold in any case;
        by default they leave out what is in the history, unless the wish asks for it again. `why` measures
        what weighed most, at the cost of more prompts. Raises `LlmrecError` for unknown ids, categories and
        attributes, and when the limits leave no item.
        """
        return self.ask_many(user, history, (say,), k, filters, enforce, hear, why)[0]

    def ask_many(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        wishes: Sequence[str] = (),
        k: int = 10,
        filters: Filters = NOTHING_SEEN,
        enforce: bool = True,
        hear: bool = True,
        why: bool = False,
    ) -> list[Answers]:
        """A list for each of several wishes of one person, as `ask` gives it; the history is read once."""
        asked = self._asked(user, history, wishes, k, filters, enforce, hear)
        found = nearest_each(self.recommender, [self.wanted(each, k) for each in asked])
        return [self.answered(each, k, own, why) for each, own in zip(asked, found, strict=True)]

    def wanted(self, asked: Asked, k: int) -> list[Wanted]:
        """The lists of which `answered` makes that of one wish, which the model has `read`."""
        pool = _pool(asked, min(k, asked.count))
        if not asked.preferred:
            return [Wanted(asked.read, asked.allowed, pool)]
        masks = [asked.allowed, *(mask for _, mask, _ in asked.preferred)]
        return [Wanted(asked.read, mask, max(pool, _LEAST_DEPTH)) for mask in masks]

    def answered(self, asked: Asked, k: int, found: Sequence[Found], why: bool = False) -> Answers:
        """The list of one wish, made of those that are `wanted` for it."""
        items, scores = self._best(asked, min(k, asked.count), found)
        answers = self._answers(items, scores, self._because([asked], items, [0] * len(items), why))
        notes = (*asked.notes, *self._said(asked), *self._short(asked.count, k))
        return Answers(tuple(answers), asked.held, asked.left, notes, asked.favoured)

    def reasons(self, asked: Asked, items: np.ndarray) -> list[tuple[Cause, ...]]:
        """What weighed most for each of `items` int64 [n], for a wish that the model has `read`."""
        return self.recommender.because(asked.request, asked.read, items, asked.allowed)

    def ask_merged(
        self,
        user: str | None = None,
        history: Sequence[str] | None = None,
        wishes: Sequence[str] = (),
        how: str = "weights",
        weights: Sequence[float] | None = None,
        k: int = 10,
        filters: Filters = NOTHING_SEEN,
        enforce: bool = True,
        hear: bool = True,
        why: bool = False,
    ) -> Answers:
        """One list for several wishes of one person, merged as `retrieve.merge` does.

        Every item satisfies all that is enforced of the wish for which it is there.
        """
        asked = self._asked(user, history, wishes, k, filters, enforce, hear)
        found = nearest_each(self.recommender, [self.wanted(each, _DEPTH * k) for each in asked])
        lists = [
            Ranked(*self._best(each, min(_DEPTH * k, each.count), own))
            for each, own in zip(asked, found, strict=True)
        ]
        varied = how == "weights" and any(each.varied for each in asked)
        merged = merge(lists, k, "mmr" if varied else how, weights, self.recommender.item_vectors)
        goals = merged.goals.tolist()
        answers = [
            replace(answer, wish=wishes[goal])
            for answer, goal in zip(
                self._answers(merged.items, merged.scores, self._because(asked, merged.items, goals, why)),
                goals,
                strict=True,
            )
        ]
        return Answers(
            tuple(answers),
            _of_all(wishes, [each.held for each in asked]),
            _of_all(wishes, [each.left for each in asked]),
            (
                *_of_all(wishes, [(*each.notes, *self._said(each)) for each in asked]),
                *self._short(len(answers), k),
            ),
            _of_all(wishes, [each.favoured for each in asked]),
        )

    def _asked(
        self,
        user: str | None,
        history: Sequence[str] | None,
        wishes: Sequence[str],
        k: int,
        filters: Filters,
        enforce: bool,
        hear: bool,
    ) -> list[Asked]:
        """What each wish means, allows, and how the model scores the catalogue for it."""
        if k < 1:
            raise LlmrecError(f"k is {k}, it must be at least 1")
        if not wishes:
            raise LlmrecError("there is no wish: ask at least one (it may be empty)")
        events, position = self.prepared.asker(user, history)
        self._check(filters)
        found = []
        for say in wishes:
            try:
                found.append(self.understood(say, events, position, filters, enforce, hear))
            except LlmrecError as error:
                if len(wishes) == 1:
                    raise
                raise LlmrecError(f"the wish {clean(say, _SAID)!r}: {error}") from error
        read = self.recommender.read([each.request for each in found])
        return [replace(each, read=own) for each, own in zip(found, read, strict=True)]

    def understood(
        self,
        say: str,
        events: History,
        position: int | None = None,
        filters: Filters = NOTHING_SEEN,
        enforce: bool = True,
        hear: bool = True,
        goals: Objective | None = None,
        profile: Mapping[str, Value] | None = None,
    ) -> Asked:
        """One wish after `events`, not yet `read`; `goals` are wished for beside the words.

        `position` and `profile` as in `Request`. Raises as `ask`.
        """
        self._check(filters)
        said = "" if goals is None else self._wishes.say(goals, np.random.default_rng(0))
        wish = understand(say, self.lexicon, enforce, hear, goals, said)
        if wish.meant.seen_before and (enforce or hear):
            filters = replace(filters, exclude_seen=False)  # what is asked for again is in the history
        gentle = tuple(
            (part, weight) for part, weight in wish.enforced.weights if weight < 1 and part != "diverse"
        )
        (core, _), *beside = split_weighted(replace(wish.enforced, weights=gentle))
        firm = replace(wish, enforced=core)
        notes = []
        allowed = self.recommender.filters.mask(firm.limits(filters), events)
        if not allowed.any() and core.include_words:
            said = ", ".join(f'"{word}"' for word in core.include_words)
            notes.append(f"nothing in the catalogue is all of that; not enforced: {said}")
            firm = firm.without_words()
            allowed = self.recommender.filters.mask(firm.limits(filters), events)
        limits = firm.limits(filters)
        held = self._in_words(limits, events)
        if not allowed.any():
            hint = "" if core.empty else ", or enforce nothing of the wish (--no-enforce)"
            against = self._in_words(contradiction(self.recommender.filters, limits, events), events)
            raise LlmrecError(f"no item of the catalogue is all of: {'; '.join(against)}: ask for less{hint}")
        preferred, whole = [], limits
        for other, weight in beside:
            own = {name: getattr(other, name) for name in other.parts if name not in core.parts}
            part = replace(firm, enforced=Objective(**own))
            more = [each for each in self._in_words(part.limits(limits), events) if each not in held]
            mask = self.recommender.filters.mask(part.limits(limits), events)
            whole = part.limits(whole)
            if more and mask.any():
                preferred.append((" and ".join(more), mask, weight))
            elif more:
                notes.append(f"nothing that may be shown is {' and '.join(more)}")
        return Asked(
            Request(events, wish.heard, wish.meant, limits, position, profile=profile),
            allowed,
            None,
            (*held, VARIED) if core.diverse else held,
            wish.left(whole, self.catalog),
            tuple(notes),
            tuple(preferred),
            core.diverse,
        )

    def _in_words(self, limits: Filters, events: History) -> tuple[str, ...]:
        """The limits for people; where there is no history nothing is left out of it."""
        return limits_in_words(limits if events else replace(limits, exclude_seen=False), self.catalog)

    def _best(self, asked: Asked, length: int, found: Sequence[Found]) -> Found:
        """The list of one wish, at most `length` items."""
        items, scores = found[0]
        if asked.preferred:
            weights = [1.0, *(weight for _, _, weight in asked.preferred)]
            lists = [Ranked(*each) for each in found]
            mixed = merge(lists, _pool(asked, length), "weights", weights)
            items, scores = mixed.items, mixed.log_odds
        if not asked.varied:
            return items, scores
        weight = asked.request.objective.weight("diverse")
        chosen = differing(scores, self.recommender.item_vectors(items), length, weight)
        return items[chosen], scores[chosen]

    def _said(self, asked: Asked) -> tuple[str, ...]:
        """What the model has to say of its list."""
        return self.recommender.said(asked.read, asked.allowed)

    def _because(
        self, asked: Sequence[Asked], items: np.ndarray, goals: Sequence[int], why: bool
    ) -> list[tuple[Cause, ...]]:
        """The causes of each item, which is there for the wish of that number."""
        found: list[tuple[Cause, ...]] = [()] * len(items)
        for goal in sorted(set(goals)) if why else ():
            one, places = asked[goal], [place for place, other in enumerate(goals) if other == goal]
            reasons = self.recommender.because(one.request, one.read, items[places], one.allowed)
            for place, because in zip(places, reasons, strict=True):
                found[place] = because
        return found

    def _answers(
        self, items: np.ndarray, scores: np.ndarray, reasons: Sequence[tuple[Cause, ...]]
    ) -> list[Answer]:
        return [
            Answer(item.id, item.title, item.price, score, because)
            for item, score, because in zip(
                (self.catalog[at] for at in items.tolist()), scores.tolist(), reasons, strict=True
            )
        ]

    def _short(self, count: int, k: int) -> tuple[str, ...]:
        """A note where `count` items are all that may be shown, and fewer than asked for."""
        return (f"only {count:,} of {len(self.catalog):,} items may be shown",) if count < k else ()

    def _check(self, filters: Filters) -> None:
        """Refuse what a filter can only name by mistake; `FilterIndex.mask` checks the rest."""
        for name, bound in (("highest", filters.max_price), ("lowest", filters.min_price)):
            if bound is not None and not math.isfinite(bound):
                raise LlmrecError(f"the {name} price is {bound}: give a finite number or leave it out")
        for name in (*filters.include_categories, *filters.exclude_categories):
            if not len(self.recommender.filters.with_category(name)):
                raise UnknownIdError(f"no item is of the category {name!r}: {self._categories()}")

    def _categories(self) -> str:
        """The catalogue's categories for an error message, the most frequent first."""
        counts = Counter(name for item in self.catalog.items for name in item.categories)
        if not counts:
            return "this catalogue has no categories"
        names = ", ".join(name for name, _ in counts.most_common(_CATEGORIES_SHOWN))
        return f"the catalogue has {names}" + (" and others" if len(counts) > _CATEGORIES_SHOWN else "")
