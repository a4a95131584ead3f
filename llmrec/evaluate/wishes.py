"""How well wishes are heard: the share of a list that satisfies the wish, and the held-out item's recall.

A wish is derived from the held-out item and said in a wording that training never saw. The same questions
are asked three times: without the wish, with its words, and with its words and all that the parser
understood and a filter can hold enforced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrec.data.facts import ItemFacts
from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters, Recommender, Request
from llmrec.decode.filters import FilterIndex, from_objective, merge
from llmrec.evaluate.metrics import hits, recall
from llmrec.evaluate.protocol import bounds, questions
from llmrec.retrieve.rank import top_k
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.parse import parse
from llmrec.verbalize.seasons import season_of_words
from llmrec.verbalize.wishes import WishMaker

TOP = 10
_ASKED = 256
_LIKE = 0.2
"""An item is like another when the rarity-weighted cosine of their titles' words is at least this."""


@dataclass(frozen=True, slots=True)
class WishCase:
    """A question with a wish: what is meant, how it was said, what the parser read, and the answer."""

    position: int
    meant: Objective
    words: str
    read: Objective
    target: int


class Satisfaction:
    """Which items satisfy a wish; independent of how it was said and of what the parser reads."""

    def __init__(self, lexicon: Lexicon, filters: FilterIndex) -> None:
        self._lexicon = lexicon
        self._filters = filters
        self._season = [season_of_words(frozenset(text)) for text in lexicon.texts]

    def mask(self, wish: Objective, request: Request) -> np.ndarray:
        """Bool [items]: an item is of a season when its text shows it, and like an item by their titles."""
        fitting = self._filters.mask(from_objective(wish), request.history)
        if wish.season is not None:
            fitting &= np.array([season == wish.season for season in self._season], dtype=bool)
        if wish.like is not None:
            near = self._lexicon.nearest_titles(self._lexicon.titles[wish.like], len(fitting))
            alike = [item for similarity, item in near if similarity >= _LIKE and item != wish.like]
            fitting &= np.isin(np.arange(len(fitting)), alike)
        return fitting


def wish_cases(
    prepared: Prepared, maker: WishMaker, kind: str, split: str, fold: str, seed: int, most: int | None = None
) -> list[WishCase]:
    """Questions of the fold that a wish of `kind` fits; at most `most`, drawn with the seed."""
    rng = np.random.default_rng([seed, *kind.encode()])
    found = []
    for position, case in enumerate(questions(prepared, split, fold)):
        events = prepared.histories.history(case.user, case.cut + 1)
        wish = maker.derive(kind, events[-1], events[:-1], rng)
        if wish is not None:
            words = maker.say(wish, rng, "heldout")
            found.append(WishCase(position, wish, words, parse(words, maker.lexicon), case.target))
    if most is not None and len(found) > most:
        chosen = np.sort(rng.choice(len(found), most, replace=False))
        found = [found[number] for number in chosen]
    return found


def evaluate_wishes(
    recommender: Recommender,
    prepared: Prepared,
    maker: WishMaker,
    split: str = "leave-last-out",
    fold: str = "test",
    kinds: Sequence[str] | None = None,
    filter_seen: bool = True,
    seed: int = 0,
    most: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Two rows for each kind of wish, model alone and with enforcement; see docs/report.md.

    `kinds` default to the single ones that the catalogue allows; a kind that fits no question has no row.
    With `filter_seen` the lists leave seen items out, save for wishes for something new, which would then
    be granted before they are heard. `most` bounds the questions of a kind. `seed` draws wishes and
    wordings. `progress` is called with the kinds done and to do. Raises `LlmrecError` for an unknown kind
    or an empty fold.
    """
    kinds = maker.kinds_for(combinations=False) if kinds is None else kinds
    askers = {
        seen: _Asker(recommender, prepared, maker, Filters(exclude_seen=seen), split, fold)
        for seen in (True, False)
    }
    rows = []
    for done, kind in enumerate(kinds, 1):
        cases = wish_cases(prepared, maker, kind, split, fold, seed, most)
        seen = filter_seen and "new" not in kind.split("+")
        same = {
            "model": recommender.name,
            "dataset": prepared.name,
            "split": split,
            "fold": fold,
            "objective": f"wish:{kind}",
            "filter_seen": seen,
            "seed": seed,
        }
        if cases:
            rows += [same | row for row in askers[seen].rows(cases)]
        if progress:
            progress(done, len(kinds))
    return rows


class _Asker:
    """Asks the questions; the answers without a wish are kept, since many kinds share them."""

    def __init__(
        self,
        recommender: Recommender,
        prepared: Prepared,
        maker: WishMaker,
        filters: Filters,
        split: str,
        fold: str,
    ) -> None:
        self._recommender = recommender
        self._filters = filters
        facts = ItemFacts.from_histories(recommender.catalog, prepared.train(split))
        self._index = FilterIndex(recommender.catalog, facts)
        self._satisfies = Satisfaction(maker.lexicon, self._index)
        cases = questions(prepared, split, fold)
        self._plain = [
            Request(prepared.histories.history(case.user, case.cut), filters=filters, user=case.user)
            for case in cases
        ]
        self._targets = np.array([case.target for case in cases], dtype=np.int64)
        self._hit_plain: dict[int, float] = {}

    def rows(self, cases: Sequence[WishCase]) -> list[dict[str, Any]]:
        """The row of the model alone, then the one with enforcement, for the wishes of one kind."""
        self._ask_plain([case.position for case in cases if case.position not in self._hit_plain])
        start = time.perf_counter()
        alone, enforced = self._lists(cases)
        seconds = time.perf_counter() - start
        before = np.array([self._hit_plain[case.position] for case in cases])
        fits = [self._satisfies.mask(case.meant, self._plain[case.position]) for case in cases]
        understood = float(np.mean([case.read == case.meant for case in cases]))
        targets = np.array([case.target for case in cases], dtype=np.int64)
        rows = []
        for lists, is_enforced in ((alone, False), (enforced, True)):
            values = {"recall@10": _recall(lists, targets), "recall@10 without wish": before}
            shares = np.array([_share(row, fit) for row, fit in zip(lists, fits, strict=True)])
            answered = np.isfinite(shares)
            means = {name: float(column.mean()) for name, column in values.items()}
            found = bounds(values)
            if answered.any():
                means["honoured@10"] = float(shares[answered].mean())
                found |= bounds({"honoured@10": shares[answered]})
            rows.append(
                {
                    "enforced": is_enforced,
                    **means,
                    "understood": understood,
                    "empty": int((~answered).sum()),
                    "users": len(cases),
                    "seconds": seconds,
                    "intervals": found,
                }
            )
        return rows

    def _ask_plain(self, positions: Sequence[int]) -> None:
        for start in range(0, len(positions), _ASKED):
            part = positions[start : start + _ASKED]
            requests = [self._plain[position] for position in part]
            lists = self._rank(requests, self._recommender.scores(requests), [self._filters] * len(part))
            found = _recall(lists, self._targets[list(part)])
            self._hit_plain |= dict(zip(part, found.tolist(), strict=True))

    def _lists(self, cases: Sequence[WishCase]) -> tuple[np.ndarray, np.ndarray]:
        """Lists of the model alone and with enforcement, int64 [cases, 10]; the model is asked once."""
        alone, enforced = [], []
        for start in range(0, len(cases), _ASKED):
            part = cases[start : start + _ASKED]
            requests = [
                Request(plain.history, case.words, case.read, self._filters, plain.user)
                for case in part
                for plain in (self._plain[case.position],)
            ]
            scores = self._recommender.scores(requests)
            alone.append(self._rank(requests, scores, [self._filters] * len(part)))
            limits = [merge(from_objective(case.read), self._filters) for case in part]
            enforced.append(self._rank(requests, scores, limits))
        return np.concatenate(alone), np.concatenate(enforced)

    def _rank(self, requests: Sequence[Request], scores: np.ndarray, limits: Sequence[Filters]) -> np.ndarray:
        masks = [self._index.mask(limit, each.history) for limit, each in zip(limits, requests, strict=True)]
        return top_k(scores, np.stack(masks), TOP)[0]


def _recall(lists: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return recall(*hits(lists, targets), TOP)


def _share(row: np.ndarray, fitting: np.ndarray) -> float:
    """Share of a list's items that fit; NaN for an empty list."""
    items = row[row >= 0]
    return float(fitting[items].mean()) if len(items) else float("nan")
