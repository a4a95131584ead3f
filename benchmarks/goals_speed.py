"""What several wishes of one user cost: asked one by one, as a batch, and with their history read once.

Run: python benchmarks/goals_speed.py BUNDLE

A request is timed from the words to the ten best items. Ways take turns in each round, so that a busy
machine is busy for all of them; a round's saving is a ratio within the round.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from transformers import DynamicCache

from llmrec.bundle import Bundle
from llmrec.data.events import History
from llmrec.decode.contract import Filters, Request
from llmrec.engines.contract import Branching
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.language_recommender import LanguageRecommender
from llmrec.model.attention import attention_inputs
from llmrec.verbalize.wishes import WishMaker

EVENTS, WISHES, K = 50, (1, 4, 16), 10
DRAWS = 50 * max(WISHES)
"""Wishes drawn for a user until there are enough different ones."""
ALONE, BATCH = "one by one", "batch of whole prompts"
PACKED, CACHED = "tails packed behind one head", "keys and values of the head kept"


class BatchEngine(TransformersEngine):
    """Shares nothing: every prompt goes through the model whole."""

    def branch_states(self, branchings: Sequence[Branching], at: Sequence[np.ndarray]) -> list[np.ndarray]:
        """States of all prompts as one batch."""
        return [self.hidden_states(each.prompts, own) for each, own in zip(branchings, at, strict=True)]


class CachingEngine(TransformersEngine):
    """Shares heads the other way: one pass over the head keeps keys and values, a second reads the tails."""

    @torch.inference_mode()
    def branch_states(self, branchings: Sequence[Branching], at: Sequence[np.ndarray]) -> list[np.ndarray]:
        """States of each branching by two passes."""
        return [self._two_passes(each, own) for each, own in zip(branchings, at, strict=True)]

    def _two_passes(self, branching: Branching, at: np.ndarray) -> np.ndarray:
        head, lengths = len(branching.head), [len(tail) for tail in branching.tails]
        ends = np.cumsum(lengths)
        visible = torch.zeros((1, ends[-1], head + ends[-1]), dtype=torch.bool)
        visible[:, :, :head] = True
        for start, end in zip(ends - lengths, ends, strict=True):
            causal = torch.ones((end - start, end - start), dtype=torch.bool).tril()
            visible[:, start:end, head + start : head + end] = causal
        positions = torch.cat([torch.arange(head), *(head + torch.arange(length) for length in lengths)])[
            None
        ]
        cache, decoder = DynamicCache(), self.model.get_decoder()
        first = decoder(
            inputs_embeds=self._embed(torch.tensor([list(branching.head)])),
            past_key_values=cache,
            use_cache=True,
        )
        second = decoder(
            inputs_embeds=self._embed(torch.tensor([[id for tail in branching.tails for id in tail]])),
            position_ids=positions[:, head:],
            past_key_values=cache,
            use_cache=True,
            **attention_inputs(self.model, visible, positions[:, head:], positions),
        )
        states = torch.cat([first.last_hidden_state[0], second.last_hidden_state[0]])
        places = at + np.where(at >= head, (ends - lengths)[:, None], 0)
        return states[torch.as_tensor(places)].float().numpy()


def lists_of_all(
    recommender: LanguageRecommender, users: Sequence[Sequence[Request]], together: bool = True
) -> np.ndarray:
    """The best items of all users' requests, int64 [requests, K], each user's together or one by one."""
    found = []
    for requests in users:
        for some in (requests,) if together else ([request] for request in requests):
            allowed = np.stack([recommender.filters.mask(each.filters, each.history) for each in some])
            states = recommender.read(some)
            vectors, gains = np.stack([each.vectors for each in states]), [each.gains for each in states]
            found.append(recommender.search.top_k(vectors, K, allowed, gains)[0])
    return np.concatenate(found)


def questions(bundle: Bundle, users: int) -> list[list[Request]]:
    """The wishes of some users with long histories; nothing that they have seen."""
    histories, rng = bundle.prepared.histories, np.random.default_rng(0)
    maker = WishMaker(bundle.catalog, bundle.templates)
    found = []
    for user in np.flatnonzero(np.diff(histories.offsets) >= EVENTS).tolist():
        past = histories.history(user)[-EVENTS:]
        words = wishes_of(maker, past, rng) if len(found) < users else []
        if len(words) == max(WISHES):
            found.append([Request(past, each, filters=Filters(exclude_seen=True)) for each in words])
    if not found:
        raise LlmrecError(f"no user of {bundle.prepared.name} has {EVENTS} events and a last one to wish for")
    return found


def wishes_of(maker: WishMaker, history: History, rng: np.random.Generator) -> list[str]:
    """Different wishes that the last event fulfils; too few where its item says little of itself."""
    found: dict[str, None] = {}
    for _ in range(DRAWS):
        if len(found) == max(WISHES):
            break
        objective = maker.draw(history[-1], history[:-1], rng)
        if objective is not None:
            found[maker.say(objective, rng)] = None
    return list(found)


def measured(ways: dict[str, Callable[[], np.ndarray]], rounds: int) -> tuple[dict[str, np.ndarray], bool]:
    """Seconds of each way in each round, and whether all lists were equal."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    equal = True
    for number in range(rounds + 1):
        found = []
        for name, way in ways.items():
            start = perf_counter()
            found.append(way())
            if number:  # the first round warms up
                seconds[name].append(perf_counter() - start)
        equal = equal and all(np.array_equal(found[0], other) for other in found)
    return {name: np.array(taken) for name, taken in seconds.items()}, equal


def row(seconds: dict[str, np.ndarray], users: int) -> list[str]:
    """Milliseconds a user and the saving against one by one: median, and 10% to 90% of the rounds."""
    base = seconds[ALONE]
    cells = [f"{1000 * np.median(base) / users:.1f}"]
    for name in (BATCH, CACHED, PACKED):
        low, middle, high = np.quantile(base / seconds[name], (0.1, 0.5, 0.9))
        cells += [f"{1000 * np.median(seconds[name]) / users:.1f}", f"{middle:.2f} ({low:.2f} to {high:.2f})"]
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of milliseconds and savings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--users", type=int, default=5, help="Users asked for, all in every round.")
    given = parser.parse_args(arguments)
    bundle = Bundle(given.bundle)
    own = bundle.engine()
    recommenders = {PACKED: LanguageRecommender(bundle, own)}
    for name, kind in ((BATCH, BatchEngine), (CACHED, CachingEngine)):
        recommenders[name] = LanguageRecommender(bundle, kind(own.model, own.new_rows, own.base))
    users = questions(bundle, given.users)
    prompts = [recommenders[PACKED].prompt(request) for requests in users for request in requests]
    tokens = bundle.tokens()
    head, tail = (
        np.mean([len(tokens.encode(getattr(prompt, part))) for prompt in prompts])
        for part in ("head", "tail")
    )
    print(
        f"{recommenders[PACKED].setting}; {len(bundle.catalog):,} items; {len(users)} users with {EVENTS} "
        f"events; mean tokens: head {head:.0f}, tail {tail:.0f}\n"
    )
    names = " | ".join(f"{name}, ms | saving" for name in (BATCH, CACHED, PACKED))
    print(f"| threads | wishes | {ALONE}, ms | {names} | lists equal |\n|{'---:|' * 9}---|")
    for threads in given.threads:
        torch.set_num_threads(threads)
        for count in WISHES:
            asked = [requests[:count] for requests in users]
            ways = {ALONE: partial(lists_of_all, recommenders[PACKED], asked, False)}
            ways |= {
                name: partial(lists_of_all, recommenders[name], asked) for name in (BATCH, CACHED, PACKED)
            }
            seconds, equal = measured(ways, given.rounds)
            cells = " | ".join(row(seconds, len(asked)))
            print(f"| {threads} | {count} | {cells} | {'yes' if equal else 'NO'} |", flush=True)


if __name__ == "__main__":
    main()
