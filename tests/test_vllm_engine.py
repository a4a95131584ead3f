"""vLLM answers as transformers does: log-probabilities, hidden states, and the lists made of them.

vLLM changes the process it runs in, so these tests run when they are named: pytest tests/test_vllm_engine.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_beam_generate import PROMPTS
from test_engine import WISHES, at_head_and_queries, branching_of, prompts_of
from tiny_models import VOCABULARY, save_checkpoint, tiny_catalog, tuned
from transformers import AutoModelForCausalLM

from llmrec.decode.beam import BeamSearch, BeamSettings
from llmrec.decode.writing import stream, write
from llmrec.engines.contract import Branching
from llmrec.engines.counts import PROMPT_TOKENS
from llmrec.engines.transformers import TransformersEngine
from llmrec.engines.vllm.running import Running
from llmrec.engines.vllm.states import VllmStates
from llmrec.engines.vllm.tokens import VllmTokens
from llmrec.errors import LlmrecError
from llmrec.items.trie import Trie
from llmrec.model.adapters import merge
from llmrec.model.new_rows import NewRows
from llmrec.model.plain import write_backbone, write_with_rows
from llmrec.model.settings import AdapterSettings
from llmrec.quiet import quiet

CACHE = 64 << 20
ITEMS, LEVELS, CODES, FIRST = 300, 3, 12, 200


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint("llama", tmp_path_factory.mktemp("base") / "llama", head_dim=32)


@pytest.fixture(scope="module")
def tokens(checkpoint):
    engine = VllmTokens(checkpoint, cache=CACHE)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(checkpoint) -> TransformersEngine:
    with quiet():
        return TransformersEngine(AutoModelForCausalLM.from_pretrained(checkpoint))


def test_log_probabilities_of_any_tokens_after_any_prefixes(tokens, plain) -> None:
    """Trees of prefixes behind prompts of many lengths; more tokens than vLLM itself would tell."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, VOCABULARY, length).tolist() for length in (9, 33, 1, 64, 100)]
    ours, theirs = tokens.begin(prompts), plain.begin(prompts)
    for step in range(4):
        rows = 8
        parents = rng.integers(0, ours.prefixes, rows)
        tails = [rng.integers(0, VOCABULARY, rng.integers(1, 4)) for _ in range(rows)]
        if step == 0:
            parents = np.arange(rows) % len(prompts)
            tails[0] = tails[0][:0]
        asked = rng.permutation(VOCABULARY)[: (VOCABULARY, 5, 200, 1)[step]]
        whole = step != 2
        found = ours.log_probabilities(parents, tails, asked, whole)
        expected = theirs.log_probabilities(parents, tails, asked, whole)
        assert found.dtype == np.float32 and ours.prefixes == theirs.prefixes
        if not whole:
            found, expected = found - found[:, :1], expected - expected[:, :1]
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_prompts_come_from_the_cache(tokens) -> None:
    prompt = np.random.default_rng(1).integers(0, VOCABULARY, 70).tolist()
    session = tokens.begin([prompt])
    session.log_probabilities(np.array([0]), [np.zeros(0, dtype=int)], np.arange(3), True)
    before, cached = tokens.running.computed, tokens.running.cached
    counted = PROMPT_TOKENS.read
    session.log_probabilities(np.zeros(5, dtype=int), list(np.arange(5)[:, None]), np.arange(3), True)
    assert tokens.running.computed - before == 5 * (70 % 32 + 1)
    assert tokens.running.cached - cached == 5 * 64
    assert np.subtract(PROMPT_TOKENS.read, counted).tolist() == [5 * (70 % 32 + 1), 5 * 64]


def test_what_makes_no_sense_is_refused(tokens) -> None:
    nothing = np.array([], dtype=int)
    with pytest.raises(ValueError, match="a prompt is empty"):
        tokens.begin([[3], []])
    session = tokens.begin([[3]])
    session.log_probabilities(np.array([0]), [np.array([4])], np.array([1]), False)
    with pytest.raises(ValueError, match="only behind a prompt"):
        session.log_probabilities(np.array([1]), [nothing], np.array([1]), False)
    with pytest.raises(ValueError, match="outside the model's vocabulary of 290"):
        session.log_probabilities(np.array([0]), [nothing], np.array([290]), False)
    with pytest.raises(LlmrecError, match="have 256 tokens, the model takes 255: show it fewer events"):
        tokens.begin([[3] * 256]).log_probabilities(np.array([0]), [nothing], np.array([1]), False)
    found = session.log_probabilities(np.array([0]), [nothing], np.array([1]), True)
    assert np.isfinite(found).all()  # and it goes on


def test_no_prompts(tokens) -> None:
    session = tokens.begin([])
    assert session.log_probabilities(np.zeros(0, dtype=int), [], np.array([1, 2]), False).shape == (0, 2)


def test_models_of_two_threads_leave_each_other_alone(tokens, checkpoint) -> None:
    """vLLM keeps whose cache is read in a global of the process."""
    other = VllmTokens(checkpoint, cache=CACHE)
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, 200, 40).tolist() for _ in range(4)]

    def ask(engine: VllmTokens) -> np.ndarray:
        engine.running.forget()
        return engine.log_probabilities(prompts, np.arange(50), True)

    expected = ask(tokens)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda number: ask((tokens, other)[number % 2]), range(200)))
    other.close()
    np.testing.assert_allclose(found, np.broadcast_to(expected, (200, *expected.shape)), atol=2e-4)


def test_a_model_is_shared_by_its_name(checkpoint) -> None:
    """Each closes its own; what one of them did not close is asked on."""
    one = VllmTokens(checkpoint, cache=CACHE, name="one")
    two = VllmTokens(Running.named("one"))
    assert two.running._engine is one.running._engine and Running.named("other") is None
    found = [each.log_probabilities([[3, 4]], np.arange(5), True) for each in (one, two)]
    one.close()
    one.close()
    found.append(two.log_probabilities([[3, 4]], np.arange(5), True))
    two.close()
    assert Running.named("one") is None
    np.testing.assert_allclose(found, [found[0]] * 3, atol=2e-4)


def test_a_checkpoint_that_vllm_cannot_run(tmp_path, checkpoints) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["Nothing"]}')
    for broken, why in ((tmp_path, ".*Nothing"), (checkpoints["llama"], ".*head_dim=8")):
        with pytest.raises(LlmrecError, match=f"vLLM cannot run {broken}{why}"):
            VllmTokens(broken, cache=CACHE)


@pytest.fixture(scope="module")
def sequences() -> np.ndarray:
    rows = np.unique(np.random.default_rng(0).integers(0, CODES, (ITEMS, LEVELS)), axis=0)
    return rows + FIRST + CODES * np.arange(LEVELS)


@pytest.mark.parametrize("scores", ["raw", "renormalised", "vocabulary"])
@pytest.mark.parametrize("requests", [1, 16])
def test_beams_find_the_same(tokens, plain, sequences, scores: str, requests: int) -> None:
    rng, trie = np.random.default_rng(requests), Trie.build(sequences)
    prompts = [*PROMPTS, *(rng.integers(0, 200, rng.integers(2, 80)).tolist() for _ in range(13))][:requests]
    for allowed in (None, rng.random((requests, len(sequences))) < 0.3):
        ours, theirs = (
            BeamSearch(trie, engine, BeamSettings(7, scores)).search(prompts, 5, allowed)
            for engine in (tokens, plain)
        )
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-3)


def test_free_texts_are_the_same(tokens, plain) -> None:
    ours, theirs = (
        write(engine, PROMPTS[0], np.arange(VOCABULARY), lambda row: row[-1] < 40, 12, 3)
        for engine in (tokens, plain)
    )
    assert ours == theirs
    flow = stream(tokens, PROMPTS[0], np.arange(VOCABULARY), lambda row: row[-1] < 40, 12)
    assert list(flow) == theirs[0]


# --- hidden states ----------------------------------------------------------------------------------------


class Read:
    """One tuned model, read by transformers and by vLLM, its new tokens as embeddings or as rows."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        catalog, adapter = tiny_catalog(), AdapterSettings("prompt", tokens=2)
        made = [tuned(checkpoint, catalog, adapter, queries=3) for _ in range(2)]  # each is used up once
        (model, self.tokens, _), (other, other_tokens, _) = made
        rows = NewRows.of(model)
        write_backbone(model, folder / "backbone")
        write_with_rows(other, rows, other_tokens, folder / "rows")
        self.transformers = TransformersEngine(merge(model.backbone), rows, model.base)
        self.vllm = {
            "embeddings": VllmStates(folder / "backbone", rows, model.base, cache=CACHE),
            "rows": VllmStates(folder / "rows", cache=CACHE),
        }


@pytest.fixture(scope="module")
def read(checkpoint, tmp_path_factory):
    made = Read(checkpoint, tmp_path_factory.mktemp("read"))
    yield made
    for engine in made.vllm.values():
        engine.close()


@pytest.mark.parametrize("how", ["embeddings", "rows"])
def test_states_are_the_same(read, how: str) -> None:
    prompts = prompts_of(read.tokens, [0, 12, 1, 30, 2, 12])
    for last in (1, 3, 40):  # the second time all but the end comes from the cache
        at = np.array([[max(len(prompt) - back, 0) for back in range(last, 0, -1)] for prompt in prompts])
        found = read.vllm[how].hidden_states(prompts, at)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, read.transformers.hidden_states(prompts, at), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", ["embeddings", "rows"])
def test_states_behind_shared_heads_are_the_same(read, how: str) -> None:
    shapes = [(30, 6), (0, 2), (12, 1), (1, 3), (25, 0), (33, 5), (12, 4)]
    branchings = [
        branching_of(read.tokens, length, WISHES[:tails] or ("",), seed)
        for seed, (length, tails) in enumerate(shapes)
    ]
    branchings[4] = Branching(branchings[4].head, [])
    at = [at_head_and_queries(branching) for branching in branchings]
    for _ in range(2):
        found = read.vllm[how].branch_states(branchings, at)
        for own, expected in zip(found, read.transformers.branch_states(branchings, at), strict=True):
            np.testing.assert_allclose(own, expected, atol=1e-4, rtol=1e-4)


def test_heads_go_through_the_model_once(read) -> None:
    """Twelve wishes cost one head, twelve tails, and twelve times what fills no block of the cache."""
    engine = read.vllm["rows"]
    branching = branching_of(read.tokens, 21, WISHES * 2)
    before = engine.running.computed
    engine.branch_states([branching], [at_head_and_queries(branching)])
    head, tails = len(branching.head), sum(map(len, branching.tails))
    assert head > 64
    assert engine.running.computed - before <= head + tails + 12 * (head % 32)


def test_what_cannot_be_read_is_refused(read) -> None:
    engine = read.vllm["rows"]
    with pytest.raises(ValueError, match="outside its prompt"):
        engine.branch_states([Branching([5, 6], [[7], [7, 8]])], [np.array([[3], [3]])])
    with pytest.raises(LlmrecError, match="a prompt has 300 tokens, the model takes 256"):
        engine.hidden_states([[5] * 300], np.array([[299]]))
    assert engine.hidden_states([], np.zeros((0, 3), dtype=int)).shape == (0, 3, 32)
