"""Random catalogues, filters and beams: what is wrong with the lists that decoding gives.

Run: python benchmarks/fuzz_decoding.py --requests 100000

An engine of random tables stands in for the model, so that every path through the trie is as likely as any
other, and items of the histories gain or lose at random. Each item of each list is checked against the
request's filters by their definition, not by the masks that decoding used. Some lists of each catalogue are
compared with what items score one by one: all of them where the beam is wide enough, or those that rise.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from time import process_time

import numpy as np

from llmrec.data.catalog import Catalog, Item
from llmrec.data.events import Event, History
from llmrec.data.facts import CategorySets
from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.caps import CategoryCap
from llmrec.decode.contract import Filters, Gains
from llmrec.decode.conventions import SCORES
from llmrec.decode.filters import FilterIndex
from llmrec.engines.table import TableEngine
from llmrec.items.trie import Trie

BATCH = 16
COMPARED = 4
"""Requests of a catalogue whose lists are compared with items scored one by one."""
CATEGORIES = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class Case:
    """A catalogue, how to search it, and some requests; sequences int64 [items, longest]."""

    catalog: Catalog
    sequences: np.ndarray
    search: BeamSearch
    k: int
    cap: CategoryCap | None
    prompts: list[list[int]]
    requests: list[tuple[History, Filters]]
    seeds: list[int]
    gains: list[Gains]


def draw_case(rng: np.random.Generator) -> Case:
    """A random case; every seventh is a catalogue of fewer than five items."""
    items = int(rng.integers(1, 5)) if rng.random() < 1 / 7 else int(np.exp(rng.uniform(0.7, 6.5)))
    sequences, vocabulary = draw_sequences(rng, items)
    catalog = draw_catalog(rng, len(sequences))
    settings = BeamSettings(
        width=int(rng.integers(1, 25)),
        scores=SCORES[rng.integers(3)],  # type: ignore[arg-type]
        temperature=float(rng.choice([0.0, 0.0, 0.5, 3.0])),
        groups=int(rng.choice([1, 1, 2, 5])),
        batch=int(rng.choice([5, 32])),
    )
    steps = int(rng.integers(2, 5)) if rng.random() < 0.3 else None
    engine = TableEngine(vocabulary, int(rng.integers(1 << 30)), float(rng.uniform(0, 20)), steps)
    cap = CategoryCap(CategorySets(catalog), int(rng.integers(1, 4))) if rng.random() < 0.25 else None
    requests = [draw_request(rng, catalog) for _ in range(BATCH)]
    return Case(
        catalog,
        sequences,
        BeamSearch(Trie.build(sequences), engine, settings),
        int(rng.integers(1, 25)),
        cap,
        [rng.integers(0, vocabulary, rng.integers(1, 6)).tolist() for _ in range(BATCH)],
        requests,
        rng.integers(0, 1 << 30, BATCH).tolist(),
        [draw_gains(rng, history) for history, _ in requests],
    )


def draw_sequences(rng: np.random.Generator, items: int) -> tuple[np.ndarray, int]:
    """Codes, one set of tokens a level, or words with an end token; and the size of the vocabulary."""
    length, codes = int(rng.integers(1, 6)), int(rng.integers(1, 17))
    if rng.random() < 0.7:
        rows = np.unique(rng.integers(0, codes, (items, length)), axis=0)
        rng.shuffle(rows)
        return rows + 3 + codes * np.arange(length), 3 + codes * length
    lengths = rng.integers(0, length + 1, items)  # titles may be empty, and equal
    rows = rng.integers(1, codes + 1, (items, length + 1))
    rows[np.arange(length + 1) > lengths[:, None]] = -1
    rows[np.arange(items), lengths] = 0
    return rows, codes + 1


def draw_catalog(rng: np.random.Generator, items: int) -> Catalog:
    """Items with prices, up to two categories, and a few that are retired."""
    return Catalog(
        Item(
            str(number),
            "",
            price=None if rng.random() < 0.1 else float(rng.integers(10)),
            categories=tuple(rng.choice(CATEGORIES, rng.integers(3), replace=False).tolist()),
            retired=bool(rng.random() < 0.1),
        )
        for number in range(items)
    )


def draw_request(rng: np.random.Generator, catalog: Catalog) -> tuple[History, Filters]:
    """A history and filters, from none to such that leave nothing."""
    some = [tuple(rng.integers(0, len(catalog), rng.integers(0, 12)).tolist()) for _ in range(3)]
    often = rng.random() ** 2  # of filters there are few or many
    filters = Filters(
        max_price=float(rng.integers(10)) if rng.random() < often else None,
        min_price=float(rng.integers(10)) if rng.random() < often / 3 else None,
        include_categories=(str(rng.choice(CATEGORIES)),) if rng.random() < often / 2 else (),
        exclude_categories=(str(rng.choice(CATEGORIES)),) if rng.random() < often else (),
        exclude_items=some[0] if rng.random() < often else (),
        allowed_items=some[1] if rng.random() < often / 3 else None,
        exclude_seen=bool(rng.random() < often),
    )
    return tuple(Event(item) for item in some[2]), filters


def draw_gains(rng: np.random.Generator, history: History) -> Gains:
    """What the items of a history gain: nothing, a little, or so much that it decides."""
    items = np.unique(np.array([event.item for event in history], dtype=np.int64))
    return items, (rng.normal(size=len(items)) * rng.choice([0.0, 1.0, 20.0])).astype(np.float32)


def permits(filters: Filters, item: Item, index: int, history: History) -> bool:
    """The definition of the filters that `draw_request` draws, for one item."""
    return not (
        item.retired
        or (
            filters.max_price is not None and not (item.price is not None and item.price <= filters.max_price)
        )
        or (
            filters.min_price is not None and not (item.price is not None and item.price >= filters.min_price)
        )
        or any(name not in item.categories for name in filters.include_categories)
        or any(name in item.categories for name in filters.exclude_categories)
        or index in filters.exclude_items
        or (filters.allowed_items is not None and index not in filters.allowed_items)
        or (filters.exclude_seen and any(event.item == index for event in history))
    )


def faults_of(case: Case) -> Counter[str]:
    """What is wrong with the lists of a case, by kind; `items` counts all items that came."""
    index_of = FilterIndex(case.catalog)
    allowed = np.stack([index_of.mask(filters, history) for history, filters in case.requests])
    found, scores = case.search.search(case.prompts, case.k, allowed, case.seeds, case.cap, case.gains)
    faults: Counter[str] = Counter()
    for row, (history, filters) in enumerate(case.requests):
        items = found[row][found[row] >= 0].tolist()
        real = [item for item in items if item < len(case.catalog)]
        own = scores[row, : len(items)]
        faults["items"] += len(items)
        faults["invalid"] += len(items) - len(real)
        faults["retired"] += sum(case.catalog[item].retired for item in real)
        faults["filtered"] += sum(not permits(filters, case.catalog[item], item, history) for item in real)
        faults["duplicate"] += len(items) - len(set(items))
        faults["short"] += not is_full(case, row, set(items), allowed[row])
        faults["not in order"] += bool((np.diff(own) > 0).any() or not np.isfinite(own).all())
        if case.cap is not None:
            counts = Counter(name for item in real for name in capped(case, allowed[row], item))
            faults["over the cap"] += any(count > case.cap.most for count in counts.values())
    row = int(np.argmax(found[:, 0]))
    if found[row, 0] >= 0:
        expected = score_of(case, row, int(found[row, 0]), allowed[row])
        faults["wrong score"] += abs(float(scores[row, 0]) - expected) > 1e-4
    for row in range(COMPARED):
        own = scores[row][found[row] >= 0]
        faults["not risen"] += misses(case, row, found[row].tolist(), float(scores[row, -1]), allowed[row])
        if compares(case):
            wanted = best_scores(case, row, allowed[row])
            faults["not the best"] += len(own) != len(wanted) or bool((np.abs(own - wanted) > 1e-4).any())
    return faults


def misses(case: Case, row: int, items: list[int], last: float, allowed: np.ndarray) -> bool:
    """Whether an item that gains is better than the `last` of a list that lacks it, however wide the beam."""
    settings = case.search.settings
    if settings.temperature > 0 or settings.groups > 1 or case.cap is not None:
        return False
    return any(
        gain > 0 and allowed[item] and item not in items and score_of(case, row, item, allowed) > last + 1e-4
        for item, gain in zip(*(each.tolist() for each in case.gains[row]), strict=True)
    )


def compares(case: Case) -> bool:
    """Whether the beam is so wide that lists are the best of all, and these are known."""
    settings, engine = case.search.settings, case.search.engine
    # With a cap it counts which of equal scores comes first, and rounding may decide that.
    clear = case.cap is None or (isinstance(engine, TableEngine) and engine.steps is None)
    return settings.width >= len(case.catalog) and settings.groups == 1 and clear


def best_scores(case: Case, row: int, allowed: np.ndarray) -> list[float]:
    """The scores of the list of one request, all of its items scored and what is drawn added."""
    items, trie = np.flatnonzero(allowed), case.search.trie
    scores = np.array([score_of(case, row, item, allowed) for item in items.tolist()])
    first = case.sequences[:, trie.first_choice]
    drawn = np.random.default_rng(case.seeds[row]).gumbel(size=len(np.unique(first)))
    drawn = case.search.settings.temperature * drawn[np.searchsorted(np.unique(first), first[items])]
    counts: Counter[str] = Counter()
    chosen: list[float] = []
    for at in np.argsort(-scores - drawn, kind="stable").tolist():
        names = capped(case, allowed, int(items[at]))
        if len(chosen) < case.k and (case.cap is None or all(counts[name] < case.cap.most for name in names)):
            counts.update(names)
            chosen.append(float(scores[at]))
    return sorted(chosen, reverse=True)


def capped(case: Case, allowed: np.ndarray, item: int) -> list[str]:
    """The categories of an item that count: those of at most nine in ten of the allowed items."""
    several = np.flatnonzero(allowed).tolist()
    return [
        name
        for name in case.catalog[item].categories
        if 10 * sum(name in case.catalog[each].categories for each in several) <= 9 * len(several)
    ]


def is_full(case: Case, row: int, items: set[int], allowed: np.ndarray) -> bool:
    """Whether no other item that the filters (and the cap) permit could stand in the list."""
    if len(items) == case.k:
        return True
    counts = Counter(name for item in items for name in capped(case, allowed, item))
    most = len(case.catalog) if case.cap is None else case.cap.most
    history, filters = case.requests[row]
    return not any(
        number not in items
        and permits(filters, item, number, history)
        and all(counts[name] < most for name in capped(case, allowed, number))
        for number, item in enumerate(case.catalog.items)
    )


def score_of(case: Case, row: int, item: int, allowed: np.ndarray) -> float:
    """The score of one item by its definition, token by token, and what the item gains."""
    scores, engine = case.search.settings.scores, case.search.engine
    gaining, gains = case.gains[row]
    session, total, before = engine.begin([case.prompts[row]]), float(gains[gaining == item].sum()), 0
    for level, token in enumerate(case.sequences[item].tolist()):
        if token < 0:
            break
        alike = (case.sequences[:, :level] == case.sequences[item, :level]).all(axis=1)
        among = (
            case.sequences[allowed & alike, level] if scores == "renormalised" else case.sequences[:, level]
        )
        tokens = np.unique(among[among >= 0])
        tail = case.sequences[item, before:level]
        values = session.log_probabilities(
            np.array([session.prefixes - 1]), [tail], tokens, whole=scores == "vocabulary"
        )[0].astype(np.float64)
        before = level
        total += float(values[tokens.tolist().index(token)])
        total -= 0.0 if scores == "vocabulary" else float(np.log(np.exp(values).sum()))
    return total


def main() -> None:
    """Print what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    total: Counter[str] = Counter()
    start, cases = process_time(), -(-arguments.requests // BATCH)
    for number in range(cases):
        rng = np.random.default_rng([arguments.seed, number])
        faults = faults_of(draw_case(rng))
        if any(count for name, count in faults.items() if name != "items"):
            print(f"case {number}: {dict(faults)}")
        total += faults
    taken = process_time() - start
    print(f"{cases * BATCH:,} requests, {cases:,} catalogues, {total.pop('items'):,} items, {taken:.0f} s")
    print(", ".join(f"{name}: {count}" for name, count in total.items()) or "nothing wrong")


if __name__ == "__main__":
    main()
