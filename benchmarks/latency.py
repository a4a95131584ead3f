"""From a request to its list at several sizes of catalogue: prefill, search and total apart.

Run: python benchmarks/search.py BUNDLE --out DIR, which draws the catalogues and builds their indexes
     python benchmarks/latency.py BUNDLE --search DIR

A request is a history of 50 events and a wish in words. Prefill is from there to the user vectors: reading
the wish, rendering the prompt, tokens, and the language model. Search is from the vectors to the ten best
items that the history does not have. Requests come one after another; the bundle's own items are in the
prompts, those of the catalogues are searched.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

from llmrec.bundle import Bundle
from llmrec.decode.contract import Request
from llmrec.decode.understand import understand
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.language_recommender import LanguageRecommender
from llmrec.model.adapters import merge
from llmrec.model.assemble import new_model
from llmrec.model.new_rows import NewRows
from llmrec.model.settings import AdapterSettings
from llmrec.retrieve.index import ItemIndex
from llmrec.retrieve.search import ItemSearch
from llmrec.retrieve.settings import SearchSettings
from llmrec.retrieve.storage import open_vectors
from llmrec.verbalize.lexicon import Lexicon
from llmrec.verbalize.wishes import WishMaker

EVENTS, K = 50, 10


def searches_of(folder: Path) -> dict[str, ItemSearch]:
    """Ways to search the catalogue in a folder: what the default settings choose for its size, and exact.

    Rows are float32 in memory, as recipes keep them where they do not say otherwise.
    """
    vectors = np.array(open_vectors(folder / "vectors.npy"), dtype=np.float32)
    settings = SearchSettings()
    kind = settings.index_for(len(vectors))
    found = {} if kind is None else {kind: ItemSearch(vectors, ItemIndex(folder / kind), settings)}
    return {**found, "exact": ItemSearch(vectors)}


def requests_of(bundle: Bundle, lexicon: Lexicon, count: int) -> list[Request]:
    """The newest 50 events of users who have them, again and again, each time with another wish."""
    histories, rng = bundle.prepared.histories, np.random.default_rng(0)
    maker = WishMaker(bundle.catalog, bundle.templates, lexicon)
    users = np.flatnonzero(np.diff(histories.offsets) >= EVENTS)
    if not len(users):
        raise LlmrecError(f"no user of {bundle.prepared.name} has {EVENTS} events")
    found: list[Request] = []
    for user in np.resize(users, 4 * count).tolist():
        past = histories.history(user)[-EVENTS:]
        wish = maker.draw(past[-1], past[:-1], rng)
        if wish is not None and len(found) < count:
            found.append(Request(past, maker.say(wish, rng)))
    return found


def of_depth(bundle: Bundle, layers: int) -> LanguageRecommender:
    """The bundle's recommender over the first layers of the base as it comes; only its times mean much."""
    settings = replace(bundle.recipe.model_settings, layers=layers, adapter=AdapterSettings("none"))
    vectors = np.load(bundle.directory / "text_vectors.npy", allow_pickle=False)
    model, _ = new_model(settings, vectors, bundle.tokens().base, dropout=0.0)
    engine = TransformersEngine(merge(model.backbone), NewRows.of(model), model.base)
    return LanguageRecommender(bundle, engine)


def measured(
    recommender: LanguageRecommender, lexicon: Lexicon, search: ItemSearch, requests: Sequence[Request]
) -> np.ndarray:
    """Milliseconds of prefill, search and total, float64 [requests, 3, 2]: on the clock, of processors."""
    taken = []

    def now() -> np.ndarray:
        return np.array([perf_counter(), process_time()])

    for request in requests:
        start = now()
        wish = understand(request.words, lexicon)
        vectors = recommender.user_vectors([Request(request.history, wish.heard, wish.meant)])
        middle = now()
        allowed = np.ones((1, len(search.vectors)), dtype=bool)
        allowed[0, [event.item for event in request.history]] = False
        search.top_k(vectors, K, allowed)
        end = now()
        taken.append((middle - start, end - middle, end - start))
    return 1000 * np.array(taken)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--search", type=Path, required=True, help="What benchmarks/search.py wrote.")
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--layers", type=int, help="Time this many layers of the base, untrained.")
    parser.add_argument("--requests", type=int, default=60)
    given = parser.parse_args(arguments)
    bundle = Bundle(given.bundle)
    recommender = LanguageRecommender(bundle) if given.layers is None else of_depth(bundle, given.layers)
    setting = recommender.setting if given.layers is None else f"first {given.layers} layers, untrained"
    lexicon = Lexicon.of(bundle.prepared)
    requests = requests_of(bundle, lexicon, given.requests)
    count = bundle.tokens().count
    tokens = np.mean([count(recommender.prompt(request)) for request in requests])
    print(
        f"{setting}; {len(requests)} requests of {EVENTS} events and a wish, on average "
        f"{tokens:.0f} tokens. Milliseconds: p50 / p95, and in brackets p50 of processor time.\n\n"
        "| items | search | threads | prefill | search | total | search of total |\n"
        "|---:|---|---:|---:|---:|---:|---:|"
    )
    for items in given.items:
        for name, search in searches_of(given.search / str(items)).items():
            for threads in given.threads:
                torch.set_num_threads(threads)
                measured(
                    recommender, lexicon, search, requests
                )  # pages of the index are read when first needed
                taken = measured(recommender, lexicon, search, requests)
                middle, high = np.quantile(taken, (0.5, 0.95), axis=0)
                cells = [
                    f"{own[0]:.1f} / {late[0]:.1f} ({own[1]:.1f})"
                    for own, late in zip(middle, high, strict=True)
                ]
                share = np.median(taken[:, 1, 0] / taken[:, 2, 0])
                print(
                    f"| {len(search.vectors):,} | {name} | {threads} | {' | '.join(cells)} | {share:.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
