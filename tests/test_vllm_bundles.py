"""The same bundle, the same requests, both engines: the same lists. Retrieval, codes and titles.

vLLM changes the process it runs in, so these tests run when they are named: pytest tests/test_vllm_bundles.py
"""

from __future__ import annotations

import gc
import importlib
import json
import re
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sample_slice import save_roomy_checkpoint
from tiny_bundles import code_recipe, louder, tiny_recipe

from llmrec.bundle import Bundle
from llmrec.codes.bundle import CodeBundle
from llmrec.codes.fitting import fit_codes
from llmrec.codes.recommender import CodeRecommender
from llmrec.decode.contract import Filters, Recommendation, Recommender, Request
from llmrec.engines.vllm import running
from llmrec.engines.vllm.tokens import VllmTokens
from llmrec.export import export
from llmrec.fit import fit
from llmrec.language_recommender import LanguageRecommender
from llmrec.open_engine import open_engine
from llmrec.recommend import Shop
from llmrec.text.asking import Asking, TextSettings
from llmrec.text.free import FreeWriter
from llmrec.text.opening import open_grounder, open_model
from llmrec.text.titles import TitleWriter
from llmrec.verbalize.templates import Templates

CACHE = 64 << 20
WISHES = ("", "a red bag", "something for tea under 2 pounds", "not pink")
FILTERS = (
    Filters(exclude_seen=True),
    Filters(max_price=2.0),
    Filters(exclude_words=("red",), exclude_seen=True),
    Filters(allowed_items=(3, 17, 40, 41)),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_roomy_checkpoint(tmp_path_factory.mktemp("base") / "llama", head_dim=32)


TRAIN = {"epochs": 1, "batch": 8, "learning_rate": 0.01, "precision": "no"}


@pytest.fixture(scope="module")
def bundle(slice_of_sample, base, tmp_path_factory) -> Bundle:
    prompt = {"queries": 2, "max_events": 16, "gaps": False}
    out = tmp_path_factory.mktemp("retrieve") / "bundle"
    recipe = tiny_recipe(slice_of_sample.directory, out, base, train=TRAIN, prompt=prompt)
    return Bundle(louder(fit(recipe).directory))


@pytest.fixture(scope="module")
def written(slice_of_sample, base, tmp_path_factory) -> CodeBundle:
    out = tmp_path_factory.mktemp("codes") / "bundle"
    return fit_codes(code_recipe(slice_of_sample.directory, out, base, train=TRAIN))


def requests_of(prepared, count: int) -> list[Request]:
    """Histories of many lengths, wishes and filters."""
    histories = prepared.histories
    return [
        Request(
            histories.history(number)[number % 3 :],
            words=WISHES[number % len(WISHES)],
            filters=FILTERS[number % 3 if count > 1 else 0],
            user=number,
        )
        for number in range(count)
    ]


def same(ours: Sequence[list[Recommendation]], theirs: Sequence[list[Recommendation]]) -> None:
    """Lists of both engines: the same items in the same order, and scores to 1e-3."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert [each.item for each in one] == [each.item for each in other]
        scores = [[each.score for each in some] for some in (one, other)]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)


def compare(ours: Recommender, theirs: Recommender, prepared) -> None:
    """Batches of 1 and 16, with filters."""
    for count in (1, 16):
        asked = requests_of(prepared, count)
        same(ours.recommend(asked, 10), theirs.recommend(asked, 10))
    asked = [Request(each.history, filters=FILTERS[3], user=each.user) for each in requests_of(prepared, 3)]
    found = ours.recommend(asked, 10)
    assert [sorted(each.index for each in some) for some in found] == [[3, 17, 40, 41]] * 3
    same(found, theirs.recommend(asked, 10))


@pytest.mark.parametrize("how", ["embeddings", "rows"])
def test_retrieval_is_the_same(bundle, how: str, tmp_path) -> None:
    """New tokens as prompt embeddings beside the merged model, and as rows of an exported checkpoint."""
    checkpoint = None
    if how == "rows":
        checkpoint = tmp_path / "exported"
        export(bundle.directory, checkpoint)
    engine = open_engine(bundle, "vllm", checkpoint=checkpoint, cache=CACHE)
    compare(LanguageRecommender(bundle, engine), LanguageRecommender(bundle), bundle.prepared)
    engine.close()


def test_codes_are_the_same(written) -> None:
    engine = open_engine(written, "vllm", cache=CACHE)
    compare(CodeRecommender(written, engine), CodeRecommender(written), written.prepared)
    engine.close()


def test_an_exported_bundle_of_codes_is_the_same(written, tmp_path) -> None:
    found = export(written.directory, tmp_path / "exported")
    assert found["tokens"]["soft_prompt"] == 0
    engine = open_engine(written, "vllm", checkpoint=tmp_path / "exported", cache=CACHE)
    asked = requests_of(written.prepared, 3)
    ours, theirs = CodeRecommender(written, engine), CodeRecommender(written)
    same(ours.recommend(asked, 5), theirs.recommend(asked, 5))
    engine.close()


def test_titles_and_free_texts_are_the_same(slice_of_sample, base) -> None:
    plain, tokens = open_model(str(base))
    engine = VllmTokens(base, cache=CACHE)
    asking = Asking(slice_of_sample, tokens, Templates.load(), TextSettings(width=6))
    ours, theirs = (TitleWriter(asking, each, TextSettings(width=6)) for each in (engine, plain))
    for count in (1, 16):
        asked = requests_of(slice_of_sample, count)
        same(ours.recommend(asked, 5), theirs.recommend(asked, 5))
    grounder = open_grounder(slice_of_sample.catalog, "hash")
    wrote = [
        FreeWriter(asking, each, grounder).read(requests_of(slice_of_sample, 2)) for each in (engine, plain)
    ]
    assert [each.texts for each in wrote[0]] == [each.texts for each in wrote[1]]
    engine.close()


def test_a_shop_with_vllm_answers_the_same(bundle) -> None:
    """After numba was loaded too, which vLLM's own start does not survive."""
    importlib.import_module("numba")
    ours, theirs = (Shop.open(bundle.directory, engine=engine) for engine in ("auto", "transformers"))
    user = bundle.prepared.histories.users[0]
    found = [shop.ask(user, say="a bag under 3 pounds", k=5) for shop in (ours, theirs)]
    assert [each.item for each in found[0].items] == [each.item for each in found[1].items]
    ours.recommender.engine.close()


def test_a_service_counts_what_the_cache_had(bundle, tmp_path) -> None:
    from served import copied, served

    with served(copied(bundle.directory, tmp_path), engine="vllm") as running:

        def counted() -> dict[str, float]:
            found = re.findall(
                r'llmrec_prompt_tokens_total{read="(\w+)"} (\S+)', running.http.get("/metrics").text
            )
            return {name: float(count) for name, count in found}

        asked = {"user": bundle.prepared.histories.users[0], "words": "a red bag " * 30, "enforce": False}
        running.ask(**asked)
        first = counted()
        running.ask(**asked)
        second = counted()
    assert second["cached"] - first["cached"] > second["computed"] - first["computed"] > 0


def test_a_file_of_requests_is_answered_the_same(bundle, tmp_path) -> None:
    from llmrec.serving.batch_file import run_batch

    requests = tmp_path / "requests.jsonl"
    users = bundle.prepared.histories.users[:5]
    lines = [json.dumps({"user": user, "words": words, "k": 4}) for user in users for words in WISHES]
    requests.write_text("\n".join(lines) + "\n")
    found = []
    for engine in ("transformers", "vllm"):
        out = tmp_path / f"{engine}.jsonl"
        assert run_batch(bundle.directory, requests, out, engine=engine) == len(lines)
        answers = [json.loads(line) for line in out.read_text().splitlines()]
        found.append([[item["item"] for item in answer["items"]] for answer in answers])
    assert found[0] == found[1]


def test_an_engine_ends_with_what_it_ran_for(bundle) -> None:
    """As when a service lets go of an older bundle: the next engine has the room."""
    shop = Shop.open(bundle.directory, engine="vllm")
    own = weakref.ref(shop.recommender.engine.running)
    assert own() in running._open
    del shop
    gc.collect()
    assert own() is None or own() not in running._open
