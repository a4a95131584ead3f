"""Decoding with a real (tiny) Llama: what exhaustive scoring gives, and what `generate` gives."""

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY
from transformers import AutoModelForCausalLM

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.engines.transformers import TransformersEngine
from llmrec.items.trie import Trie
from llmrec.quiet import quiet

ITEMS, LEVELS, CODES, FIRST = 300, 3, 12, 200
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [30, 2, 41], [100, 101, 102, 103, 5]]


@pytest.fixture(scope="module")
def engine(checkpoints) -> TransformersEngine:
    with quiet():
        return TransformersEngine(AutoModelForCausalLM.from_pretrained(checkpoints["llama"]))


@pytest.fixture(scope="module")
def sequences() -> np.ndarray:
    rows = np.unique(np.random.default_rng(0).integers(0, CODES, (ITEMS, LEVELS)), axis=0)
    return rows + FIRST + CODES * np.arange(LEVELS)


@pytest.fixture(scope="module")
def allowed(sequences) -> np.ndarray:
    return np.random.default_rng(1).random((len(PROMPTS), len(sequences))) < 0.4


@torch.inference_mode()
def exhaustive(engine, sequences, prompt, allowed, scores: str) -> np.ndarray:
    """The score of every allowed item by its definition, -inf elsewhere: each item is written out whole."""
    found = np.full(len(sequences), -np.inf)
    items = np.flatnonzero(allowed)
    written = torch.tensor([[*prompt, *own] for own in sequences[items].tolist()])
    logits = engine.model(written).logits[:, len(prompt) - 1 : -1].double().numpy()
    for item, rows in zip(items, logits, strict=True):
        own, total = sequences[item], 0.0
        for level, row in enumerate(rows):
            alike = (sequences[:, :level] == own[:level]).all(axis=1) & allowed
            among = {
                "raw": np.unique(sequences[:, level]),
                "renormalised": np.unique(sequences[alike, level]),
                "vocabulary": np.arange(VOCABULARY),
            }[scores]
            total += row[own[level]] - np.logaddexp.reduce(row[among])
        found[item] = total
    return found


@pytest.mark.parametrize("scores", ["raw", "renormalised", "vocabulary"])
def test_a_wide_beam_equals_exhaustive_scoring(engine, sequences, allowed, scores: str) -> None:
    search = BeamSearch(Trie.build(sequences), engine, BeamSettings(width=len(sequences), scores=scores))
    index, score = search.search(PROMPTS, len(sequences), allowed)
    for row, prompt in enumerate(PROMPTS):
        expected = exhaustive(engine, sequences, prompt, allowed[row], scores)
        count = int(allowed[row].sum())
        assert sorted(index[row, :count]) == np.flatnonzero(allowed[row]).tolist()
        assert (index[row, count:] == -1).all() and np.isneginf(score[row, count:]).all()
        np.testing.assert_allclose(score[row, :count], expected[index[row, :count]], atol=1e-4)
        np.testing.assert_allclose(score[row, :count], np.sort(expected)[::-1][:count], atol=1e-4)


def generated(engine, sequences, allowed, beams: int, renormalise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Items and scores [prompts, beams] of `generate`, one prompt after another."""
    index_of = {tuple(row): item for item, row in enumerate(sequences.tolist())}
    items, scores = [], []
    for prompt, own in zip(PROMPTS, allowed, strict=True):
        rows, start = sequences[own], len(prompt)

        def following(batch: int, ids: torch.Tensor, rows=rows, start=start) -> list[int]:
            written = ids[start:].numpy()
            return np.unique(rows[(rows[:, : len(written)] == written).all(axis=1), len(written)]).tolist()

        output = engine.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            prefix_allowed_tokens_fn=following,
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=LEVELS,
            length_penalty=0.0,
            do_sample=False,
            renormalize_logits=renormalise,
            output_scores=True,
            return_dict_in_generate=True,
        )
        items.append([index_of[tuple(row[len(prompt) :])] for row in output.sequences.tolist()])
        scores.append(output.sequences_scores.numpy())
    return np.array(items), np.array(scores)


@pytest.mark.parametrize("beams", [2, 5, 20])
@pytest.mark.parametrize("scores", ["vocabulary", "renormalised"])
def test_lists_equal_those_of_generate(engine, sequences, allowed, beams: int, scores: str) -> None:
    search = BeamSearch(Trie.build(sequences), engine, BeamSettings(width=beams, scores=scores))
    index, score = search.search(PROMPTS, beams, allowed)
    with quiet():
        items, expected = generated(engine, sequences, allowed, beams, scores == "renormalised")
    np.testing.assert_array_equal(index, items)
    np.testing.assert_allclose(score, expected, atol=1e-4)


@pytest.mark.parametrize("scores", ["raw", "renormalised", "vocabulary"])
def test_a_batch_is_its_requests_one_by_one(engine, sequences, allowed, scores: str) -> None:
    search = BeamSearch(Trie.build(sequences), engine, BeamSettings(width=7, scores=scores))
    index, score = search.search(PROMPTS, 5, allowed)
    for row, prompt in enumerate(PROMPTS):
        one, own = search.search([prompt], 5, allowed[row : row + 1])
        np.testing.assert_array_equal(one[0], index[row])
        np.testing.assert_allclose(own[0], score[row], atol=1e-4)


def test_steps_with_one_way_on_cost_no_pass(engine, sequences) -> None:
    """All but one item of each first token are forbidden: two of three levels have one way on."""
    trie, passes = Trie.build(sequences), []
    _, some = np.unique(sequences[:, 0], return_index=True)
    allowed = np.zeros((1, len(sequences)), dtype=bool)
    allowed[0, some] = True
    handle = engine.model.get_decoder().register_forward_pre_hook(lambda *_: passes.append(1))
    for scores, expected in (("renormalised", 1), ("raw", 3)):
        passes.clear()
        index, _ = BeamSearch(trie, engine, BeamSettings(scores=scores)).search(PROMPTS[:1], 20, allowed)
        assert sorted(index[index >= 0]) == sorted(some) and len(passes) == expected
    handle.remove()
