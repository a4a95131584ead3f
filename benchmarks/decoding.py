"""What decoding inside a catalogue costs: against `generate`, by size of catalogue, and the trie itself.

Run: python benchmarks/decoding.py

The model gets a token for each code of each level with random rows: for timing, and for equal lists, that is
as good as any. Prompts are random words. Both ways of decoding use the same weights, prompts and beams.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from time import perf_counter, process_time

import numpy as np
import torch
from transformers import PreTrainedModel

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.continuations import Continuations, TokenEngine
from llmrec.engines.transformers import TransformersEngine
from llmrec.items.trie import Trie
from llmrec.model.pretrained import load_backbone
from llmrec.quiet import quiet

CODES, SEEN = 256, 50
FILTERS = (f"{SEEN} seen", "half")


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one call: of the processor, and by the clock."""

    processor: float
    wall: float

    def __str__(self) -> str:
        return f"{self.processor:.2f} / {self.wall:.2f}"


def timed(call: Callable[[], object]) -> Took:
    """How long `call` takes."""
    start, clock = process_time(), perf_counter()
    call()
    return Took(process_time() - start, perf_counter() - clock)


def median(many: Sequence[Took]) -> Took:
    """The median of each time."""
    return Took(*np.median([[each.processor, each.wall] for each in many], axis=0).tolist())


def catalogue(items: int, levels: int, first: int) -> np.ndarray:
    """Different random sequences of one token of each level, int32 [items, levels]."""
    rng = np.random.default_rng(0)
    chosen = np.unique(rng.integers(0, CODES**levels, int(items * 1.1) + 10))
    chosen = rng.permutation(chosen)[:items]
    codes = np.stack([chosen // CODES**level % CODES for level in range(levels)], axis=1)
    return (codes + first + CODES * np.arange(levels)).astype(np.int32)


def model_with_codes(name: str, layers: int | None, levels: int) -> tuple[PreTrainedModel, int]:
    """The model, with random rows for the tokens of codes behind its vocabulary, and the first of these."""
    model = load_backbone(name, layers=layers)
    first = model.config.get_text_config().vocab_size
    torch.manual_seed(0)
    with quiet(), torch.no_grad():
        model.resize_token_embeddings(first + CODES * levels, mean_resizing=False)
        rows = model.get_input_embeddings().weight
        rows[first:] = torch.randn(CODES * levels, rows.shape[1]) * rows[:first].std()
    return model, first


def generate(
    model: PreTrainedModel, prompts: list[list[int]], sequences: np.ndarray, beams: int, renormalise: bool
) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """A call of `generate` inside the catalogue: tokens [prompts, beams, levels] and scores [prompts, beams].

    What may follow is looked up in a dictionary that is made before.
    """
    following: dict[tuple[int, ...], set[int]] = {}
    for row in sequences.tolist():
        for level, token in enumerate(row):
            following.setdefault(tuple(row[:level]), set()).add(token)
    allowed = {prefix: sorted(tokens) for prefix, tokens in following.items()}
    ids, length = torch.tensor(prompts, device=model.device), len(prompts[0])

    def call() -> tuple[np.ndarray, np.ndarray]:
        with quiet():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                prefix_allowed_tokens_fn=lambda _, own: allowed[tuple(own[length:].tolist())],
                num_beams=beams,
                num_return_sequences=beams,
                max_new_tokens=sequences.shape[1],
                length_penalty=0.0,
                do_sample=False,
                renormalize_logits=renormalise,
                output_scores=True,
                return_dict_in_generate=True,
                pad_token_id=0,
            )
        shape = (len(prompts), beams)
        written, scores = output.sequences[:, length:].cpu(), output.sequences_scores.float().cpu()
        return written.reshape(*shape, -1).numpy(), scores.reshape(shape).numpy()

    return call


def against_generate(
    model: PreTrainedModel,
    prompts: list[list[int]],
    sequences: np.ndarray,
    beams: int,
    rounds: int,
    compared: set[str],
) -> None:
    """Rows of a table: one for each kind of scores, `generate` where it is to be compared."""
    trie, engine = Trie.build(sequences), TransformersEngine(model)
    searches = {
        scores: BeamSearch(trie, engine, BeamSettings(beams, scores))  # type: ignore[arg-type]
        for scores in ("vocabulary", "renormalised", "raw")
    }
    found = {scores: search.search(prompts, beams) for scores, search in searches.items()}  # warms up
    took: dict[str, list[Took]] = {scores: [] for scores in searches}
    theirs: dict[str, tuple[Took, str]] = {}
    for half in range(2):  # rounds before and after `generate`, so that a busy hour is shared
        for _ in range(rounds):
            for scores, search in searches.items():
                took[scores].append(timed(lambda search=search: search.search(prompts, beams)))
        for scores in compared if half == 0 else ():
            call, results = generate(model, prompts, sequences, beams, scores == "renormalised"), []
            taken = timed(lambda call=call, results=results: results.append(call()))
            theirs[scores] = taken, compare(found[scores], results[0], sequences)
    for scores, many in took.items():
        ours = median(many)
        cells = ["–", "–", "–", "–"]
        if scores in theirs:
            other, same = theirs[scores]
            cells = [
                str(other),
                f"{other.processor / ours.processor:.1f}",
                f"{other.wall / ours.wall:.1f}",
                same,
            ]
        print(f"| {len(prompts)} | {scores} | {ours} | {' | '.join(cells)} |", flush=True)


def compare(
    ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray], sequences: np.ndarray
) -> str:
    """Whether lists are equal, and how far scores are apart."""
    (items, scores), (tokens, values) = ours, theirs
    equal = (sequences[items] == tokens).all(axis=2).sum()
    return f"{equal} of {items.size}, {np.abs(scores - values).max():.0e}"


class Waiting:
    """Continuations that take no time: random numbers that were drawn before, the same for every prefix."""

    def __init__(self, prompts: int, values: np.ndarray) -> None:
        self.prefixes, self._values = prompts, values

    def log_probabilities(
        self, parents: np.ndarray, tails: Sequence[np.ndarray], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """Float32 [n, m]."""
        self.prefixes += len(parents)
        return self._values[: len(parents), : len(tokens)]


class WaitingEngine:
    """Begins `Waiting`."""

    def __init__(self) -> None:
        self._values = np.random.default_rng(0).standard_normal((2048, 4 * CODES)).astype(np.float32)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Waiting:
        """No model at all."""
        return Waiting(len(prompts), self._values)


class WatchedEngine:
    """Another engine, and the processor time that it took to begin."""

    def __init__(self, engine: TokenEngine) -> None:
        self._engine, self.began = engine, 0.0

    def begin(self, prompts: Sequence[Sequence[int]]) -> Continuations:
        """What the other engine gives."""
        start = process_time()
        session = self._engine.begin(prompts)
        self.began += process_time() - start
        return session


def step_time(
    trie: Trie, engine: TokenEngine, settings: BeamSettings, prompts: list[list[int]], allowed: np.ndarray
) -> float:
    """Milliseconds of the processor for a level, without reading the prompts."""
    watched = WatchedEngine(engine)
    search = BeamSearch(trie, watched, settings)
    taken = timed(lambda: search.search(prompts, settings.width, allowed)).processor
    return 1000 * (taken - watched.began) / trie.depth


def by_size(
    model: PreTrainedModel,
    first: int,
    prompts: list[list[int]],
    levels: int,
    beams: int,
    rounds: int,
    sizes: list[int],
    ways: Sequence[tuple[str, str]],
) -> None:
    """Rows of a table: milliseconds of the processor for a step at each size, sizes taking turns.

    `ways` are kinds of scores and names of filters.
    """
    rng = np.random.default_rng(1)
    tries = {items: Trie.build(catalogue(items, levels, first)) for items in sizes}
    filters = {}
    for items in sizes:
        seen, half = np.ones((2, len(prompts), items), dtype=bool)
        np.put_along_axis(seen, rng.integers(0, items, (len(prompts), SEEN)), False, axis=1)
        half[:] = rng.random((len(prompts), items)) < 0.5
        filters[items] = dict(zip(FILTERS, (seen, half), strict=True))
    engines = {"with the model": TransformersEngine(model), "search alone": WaitingEngine()}
    took: dict[tuple[int, str, str, str], list[float]] = {}
    for number in range(rounds + 1):
        for items, (scores, name), what in product(sizes, ways, engines):
            settings = BeamSettings(beams, scores)  # type: ignore[arg-type]
            taken = step_time(tries[items], engines[what], settings, prompts, filters[items][name])
            if number:  # the first round warms up
                took.setdefault((items, scores, name, what), []).append(taken)
    for (scores, name), what in product(ways, engines):
        each = [float(np.median(took[items, scores, name, what])) for items in sizes]
        cells = " | ".join(f"{value:.2f}" for value in each)
        print(
            f"| {len(prompts)} | {scores} | {name} | {what} | {cells} | {each[-1] / each[0]:.2f} |",
            flush=True,
        )


def trie_rows(sizes: list[int], levels: int) -> None:
    """Rows of a table: what a trie takes."""
    for items in sizes:
        sequences = catalogue(items, levels, 0)
        built: list[Trie] = []
        tracemalloc.start()
        taken = timed(lambda s=sequences, b=built: b.append(Trie.build(s)))
        trie, (_, peak) = built[0], tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(
            f"| {items:,} | {taken.processor:.2f} | {len(trie.tokens):,} | {trie.nbytes / 1e6:.0f} | "
            f"{sequences.nbytes / 1e6:.0f} | {peak / 1e6:.0f} |",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layers", type=int, help="First layers of the model (default: all).")
    parser.add_argument("--items", type=int, default=12_000, help="Items where generate is compared.")
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=288, help="Tokens of a prompt.")
    parser.add_argument("--beams", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--skip-batch", action="store_true", help="Compare generate for one request alone.")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[10**4, 10**5, 10**6], help="None: no such table."
    )
    parser.add_argument(
        "--tries", type=int, nargs="*", default=[10**4, 10**5, 10**6, 10**7], help="As --sizes."
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    levels, beams, rounds = arguments.levels, arguments.beams, arguments.rounds
    if arguments.tries:
        print("| items | seconds | nodes | MB of the trie | MB of the sequences | MB while it is built |")
        print("|" + "---:|" * 6)
        trie_rows(arguments.tries, levels)
    model, first = model_with_codes(arguments.model, arguments.layers, levels)
    rng = np.random.default_rng(0)
    prompts = rng.integers(100, first, (arguments.batch, arguments.prompt)).tolist()
    if sizes := arguments.sizes:
        columns = " | ".join(f"{items:,} items" for items in sizes)
        print(f"\n| requests | scores | filter | | {columns} | ratio |")
        print("|---:|---|---|---|" + "---:|" * (len(sizes) + 1))
        ways = [(scores, name) for scores in ("raw", "renormalised") for name in FILTERS]
        by_size(model, first, prompts[:1], levels, beams, rounds, sizes, ways)
        if not arguments.skip_batch:
            by_size(model, first, prompts, levels, beams, 1, sizes, ways[:1])
    print("\n| requests | scores | ours | generate | ratio, processor | ratio, wall | items equal, scores |")
    print("|---:|---|---:|---:|---:|---:|---|")
    sequences = catalogue(arguments.items, levels, first)
    against_generate(model, prompts[:1], sequences, beams, rounds, {"vocabulary", "renormalised"})
    if not arguments.skip_batch:
        against_generate(model, prompts, sequences, beams, rounds, {"vocabulary"})


if __name__ == "__main__":
    main()
