"""Beams on each engine, in one run: ours on vLLM and on transformers, vLLM's own, and `generate`.

Run: python benchmarks/engines.py
     python benchmarks/engines.py --beams 20 256 --prompt 1000      # what a GPU is for

Without vLLM (docs/engines.md) its rows are left out. On a GPU, where torch finds one, the model runs there.

The model and the catalogue are those of `decoding.py`. vLLM's `beam_search` knows no catalogue: it writes
what does not exist, and is here for its time. "cold" is with an empty cache of prompts, "again" is with them.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoding import Took, catalogue, generate, median, model_with_codes, timed

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.conventions import Scores
from llmrec.engines.transformers import TransformersEngine
from llmrec.items.trie import Trie
from llmrec.model.pretrained import load_tokenizer
from llmrec.quiet import quiet

Call = Callable[[], Any]
SCORES: tuple[Scores, ...] = ("raw", "renormalised")


@dataclass(frozen=True, slots=True)
class Vllm:
    """What vLLM runs: our engine on it, and its own `LLM`, with the same model."""

    engine: Any
    llm: Any

    @classmethod
    def of(cls, folder: Path, beams: int) -> Vllm:
        """Both, of the checkpoint in `folder`."""
        from vllm import LLM

        from llmrec.engines.vllm.tokens import VllmTokens

        engine = VllmTokens(folder)
        llm = LLM(
            str(folder), dtype="float32", enforce_eager=True, block_size=32, kv_cache_memory_bytes=2 << 30,
            max_num_seqs=512, max_num_batched_tokens=8192, max_logprobs=2 * beams,
            disable_log_stats=True,
        )  # fmt: skip
        return cls(engine, llm)

    def beams(self, prompts: list[list[int]], beams: int, levels: int) -> Call:
        """A call of vLLM's own beam search, without a catalogue."""
        from vllm.sampling_params import BeamSearchParams

        settings = BeamSearchParams(beam_width=beams, max_tokens=levels, ignore_eos=True)
        return lambda: self.llm.beam_search([{"prompt_token_ids": prompt} for prompt in prompts], settings)


def took(call: Call, rounds: int, before: Call = lambda: None) -> Took:
    """The median of some rounds, `before` each of which something is done that does not count."""
    many = []
    for _ in range(rounds):
        before()
        many.append(timed(call))
    return median(many)


def rows(
    prompts: list[list[int]],
    searches: dict[tuple[str, str], BeamSearch],
    vllm: Vllm | None,
    whole: Call | None,
    rounds: int,
) -> None:
    """Rows of the table for one batch and width.

    `searches` are by engine and scores; `whole` is the call of `generate`, None to leave it out.
    """
    width, depth = next((each.settings.width, each.trie.depth) for each in searches.values())
    ours = {key: (lambda search=search: search.search(prompts, width)) for key, search in searches.items()}
    found = {key: call() for key, call in ours.items()}  # warms up
    table: dict[tuple[str, str], Took] = {}
    for (name, scores), call in ours.items():
        if name == "vllm" and vllm is not None:
            one, other = found["vllm", scores], found["transformers", scores]
            same = (
                f"{int((one[0] == other[0]).sum())} of {one[0].size}, {np.abs(one[1] - other[1]).max():.0e}"
            )
            table[f"ours on vllm, {scores}, cold", same] = took(call, rounds, vllm.engine.running.forget)
            table[f"ours on vllm, {scores}, again", ""] = took(call, rounds)
        else:
            table[f"ours on {name}, {scores}", ""] = took(call, rounds)
    if vllm is not None:
        theirs = vllm.beams(prompts, width, depth)
        theirs()
        table["vLLM's `beam_search`, cold", ""] = took(theirs, rounds, vllm.llm.reset_prefix_cache)
    if whole is not None:
        table["`generate` with a prefix function", ""] = took(whole, 1)
    least = next(iter(table.values()))
    for (name, equal), taken in table.items():
        ratios = f"{taken.processor / least.processor:.2f} | {taken.wall / least.wall:.2f}"
        print(f"| {width} | {len(prompts)} | {name} | {taken} | {ratios} | {equal} |", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layers", type=int, help="First layers of the model (default: all).")
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=288, help="Tokens of a prompt.")
    parser.add_argument("--beams", type=int, nargs="+", default=[20])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--generate", type=int, nargs="*", default=[1, 16], help="Batches with `generate`.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    model, first = model_with_codes(arguments.model, arguments.layers, arguments.levels)
    sequences = catalogue(arguments.items, arguments.levels, first)
    vllm = None
    if importlib.util.find_spec("vllm") is not None:
        with tempfile.TemporaryDirectory() as folder:
            with quiet():
                model.save_pretrained(folder)
                load_tokenizer(arguments.model).save_pretrained(folder)
            vllm = Vllm.of(Path(folder), max(arguments.beams))
    engines = ({} if vllm is None else {"vllm": vllm.engine}) | {"transformers": TransformersEngine(model)}
    trie = Trie.build(sequences)
    print(
        "\n| beams | requests | | seconds, processor / wall | ratio, processor | ratio, wall "
        "| as transformers |"
    )
    print("|---:|---:|---|---:|---:|---:|---|")
    drawn = np.random.default_rng(0).integers(100, first, (max(arguments.batches), arguments.prompt))
    for width, batch in itertools.product(arguments.beams, arguments.batches):
        searches = {
            (name, scores): BeamSearch(trie, engine, BeamSettings(width, scores))
            for scores in SCORES
            for name, engine in engines.items()
        }
        prompts, whole = drawn[:batch].tolist(), None
        if batch in arguments.generate:
            whole = generate(model, prompts, sequences, width, False)
        rows(prompts, searches, vllm, whole, arguments.rounds)


if __name__ == "__main__":
    main()
