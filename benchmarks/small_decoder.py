"""A small decoder over frozen states against decoding with the language model itself.

Run: python benchmarks/small_decoder.py latency                # the base as it comes, random rows for codes
     python benchmarks/small_decoder.py quality BUNDLE         # of a trained bundle that writes codes

`latency` times requests one after another: reading the prompt, and what comes behind that until the list is
there. `quality` trains a small decoder on what the bundle's model makes of the train fold's histories, and
asks both for the next items of a fold (so many `--questions` of it, drawn with seed 0), seen items left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import torch
from decoding import CODES, Took, catalogue, median, model_with_codes, timed
from drawn import drawn

from llmrec.codes.bundle import CodeBundle
from llmrec.codes.recommender import CodeRecommender
from llmrec.data.events import History
from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.continuations import Continuations, TokenEngine
from llmrec.decode.contract import Filters, Request
from llmrec.engines.contract import Engine
from llmrec.engines.small import SmallDecoderEngine
from llmrec.engines.transformers import TransformersEngine
from llmrec.evaluate.bootstrap import intervals
from llmrec.evaluate.protocol import ask, figures, questions
from llmrec.items.trie import Trie
from llmrec.model.code_tokens import CodeTokens
from llmrec.model.small_decoder import SmallDecoder, SmallDecoderSettings, item_ends
from llmrec.tune.small_decoder import ReadHistories, train_small_decoder, windows_of

ITEMS, LEVELS, EVENTS, WORDS = 12_000, 3, 50, 40
SHOWN = 20
"""Length of the lists whose quality is measured."""


class Begun:
    """An engine whose prompt was read before it is asked to begin."""

    def __init__(self, engine: TokenEngine) -> None:
        self._engine = engine

    def read(self, prompt: Sequence[int]) -> None:
        """Read the prompt."""
        self._session = self._engine.begin([prompt])

    def begin(self, prompts: Sequence[Sequence[int]]) -> Continuations:
        """The session of the prompt that was read."""
        return self._session


def latency(model: str, layers: int | None, rounds: int, settings: SmallDecoderSettings) -> None:
    """Print a table of milliseconds: of the processor / by the clock, the median of all requests."""
    network, first = model_with_codes(model, layers, LEVELS)
    tokens = CodeTokens(first, (CODES,) * LEVELS)
    sequences = catalogue(ITEMS, LEVELS, first)
    full = TransformersEngine(network)
    torch.manual_seed(0)
    decoder = SmallDecoder(network.config.hidden_size, tokens.sizes, settings)
    rng = np.random.default_rng(0)
    prompts = [
        [*sequences[rng.integers(0, ITEMS, EVENTS)].ravel().tolist(), *rng.integers(0, 1000, WORDS).tolist()]
        for _ in range(rounds + 1)
    ]
    ways: dict[str, TokenEngine] = {
        "the language model": full,
        "small decoder": SmallDecoderEngine(full, decoder, tokens),
    }
    trie = Trie.build(sequences)
    depth = network.config.num_hidden_layers
    print(
        f"{model}, {depth} layers, prompts of {len(prompts[0])} tokens, {ITEMS:,} items, {LEVELS} levels of "
        f"{CODES}, 20 beams, lists of 10\n\n| codes written by | prompt read | codes written | total |\n"
        "|---|---:|---:|---:|"
    )
    for name, engine in ways.items():
        BeamSearch(trie, engine, BeamSettings(), tokens.levels).search(prompts[:1], 10)
        rows = []
        for prompt in prompts[1:]:
            begun = Begun(engine)
            one = timed(partial(begun.read, prompt))
            search = BeamSearch(trie, begun, BeamSettings(), tokens.levels)
            two = timed(partial(search.search, [prompt], 10))
            rows.append((one, two, Took(one.processor + two.processor, one.wall + two.wall)))
        cells = [median(column) for column in zip(*rows, strict=True)]
        print(
            f"| {name} | "
            + " | ".join(f"{1000 * each.processor:.0f} / {1000 * each.wall:.0f}" for each in cells)
            + " |"
        )


def parts_of(histories: Sequence[History]) -> list[tuple[History, list[int]]]:
    """Parts of at most `EVENTS` events, and the item after each event; the last may have none."""
    found = []
    for events in histories:
        items = [event.item for event in events]
        for start in range(0, len(events) - 1, EVENTS):
            found.append((events[start : start + EVENTS], items[start + 1 : start + 1 + EVENTS]))
    return found


def read(
    recommender: CodeRecommender,
    engine: Engine,
    tokens: CodeTokens,
    parts: Sequence[tuple[History, list[int]]],
    states: int,
    last: bool,
) -> ReadHistories:
    """What the model makes of histories; with `last` only what comes after all of a part is a target."""
    codes = recommender.bundle.ids().codes
    prompts = [each.tokens for each in recommender.read([Request(history) for history, _ in parts])]
    at, real = item_ends(prompts, tokens, EVENTS)
    kept = engine.hidden_states(prompts, at)[real]
    lengths = real.sum(1)
    windows, starts = windows_of(lengths, states), np.cumsum(lengths) - lengths
    rows, targets = [], []
    for start, length, (_, after) in zip(starts.tolist(), lengths.tolist(), parts, strict=True):
        # A prompt holds the newest events: what it left out has no state.
        own = after[-1:] if last else after[max(0, len(after) - length) :]
        rows += range(start + length - 1, start + length) if last else range(start, start + len(own))
        targets += own
    return ReadHistories(
        torch.from_numpy(kept),
        torch.from_numpy(windows[rows]),
        torch.from_numpy(codes[targets].astype(np.int64)),
    )


def quality(place: Path, fold: str, count: int, epochs: int, settings: SmallDecoderSettings) -> None:
    """Train, and print recall and ndcg of both."""
    bundle = CodeBundle(place)
    if bundle.recipe.prompt.items != "token":
        raise SystemExit("items must be codes in the prompts: the states at their ends are read")
    prepared, split, tokens, engine = (
        bundle.prepared,
        bundle.recipe.split,
        bundle.tokens().tokens,
        bundle.engine(),
    )
    full = CodeRecommender(bundle, engine)
    train = prepared.train(split)
    histories = [train.history(user) for user in range(len(train))]
    known = read(full, engine, tokens, parts_of(histories), settings.states, last=False)
    asked = [
        (prepared.histories.history(case.user, case.cut)[-EVENTS:], [case.target])
        for case in questions(prepared, split, "valid")
    ]
    valid = read(full, engine, tokens, asked, settings.states, last=True)
    torch.manual_seed(0)
    decoder = SmallDecoder(known.states.shape[1], tokens.sizes, settings)
    best = train_small_decoder(decoder, known, valid, epochs, advance=lambda e, loss: print(e, f"{loss:.4f}"))
    cases = drawn(questions(prepared, split, fold), count)
    print(f"{len(known):,} targets, validation loss {best:.4f}, {len(cases):,} questions\n")
    print("| codes written by | recall@10 | ndcg@10 | seconds of processor |\n|---|---:|---:|---:|")
    requests = [
        Request(
            prepared.histories.history(case.user, case.cut),
            user=case.user,
            filters=Filters(exclude_seen=True),
        )
        for case in cases
    ]
    targets = np.array([case.target for case in cases])
    small = CodeRecommender(bundle, SmallDecoderEngine(engine, decoder, tokens))
    for name, recommender in (("the language model", full), ("small decoder", small)):
        before = process_time()
        values = figures(ask(recommender, requests, SHOWN), targets)
        taken = process_time() - before
        found = intervals(np.stack([values["recall@10"], values["ndcg@10"]], axis=1))
        shown = " | ".join(f"{each.mean:.4f} ±{(each.high - each.low) / 2:.4f}" for each in found)
        print(f"| {name} | {shown} | {taken:.0f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("latency", "quality"))
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fold", default="test")
    parser.add_argument("--questions", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--states", type=int, default=4)
    parser.add_argument("--width", type=int, default=192)
    given = parser.parse_args(arguments)
    settings = SmallDecoderSettings(given.states, given.width)
    torch.set_num_threads(1)
    if given.what == "latency":
        latency(given.model, given.layers, given.rounds, settings)
    elif given.bundle is None:
        parser.error("quality is that of a bundle: name one")
    else:
        quality(given.bundle, given.fold, given.questions, given.epochs, settings)


if __name__ == "__main__":
    main()
