"""A model that learnt to write titles: trained as it is asked, scored as it was trained, opened as such."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import RecommenderContract
from pages import table_after
from tiny_bundles import code_recipe
from tiny_models import tiny_prepared

from llmrec.codes.bundle import CodeBundle
from llmrec.codes.fitting import fit_codes
from llmrec.data.events import Event
from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Request
from llmrec.errors import LlmrecError
from llmrec.items.titles import title_sequences
from llmrec.model.pretrained import load_backbone
from llmrec.recommend import Shop
from llmrec.text.asking import Asking, TextSettings
from llmrec.text.titles import TitleWriter
from llmrec.tune.alignment import ItemTasks
from llmrec.tune.code_settings import NEXT_TITLE, CodeSettings, TaskWeights
from llmrec.tune.collate import Example
from llmrec.verbalize.item_wordings import ItemWordings
from llmrec.verbalize.next_title import title_prompts
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

WORDS_ALONE = {"history": 0, "next": 0, "wish": 0, "text_to_id": 0, "id_to_text": 0, "titles_to_id": 0}
TITLES = 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return tiny_prepared(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def bundle(
    prepared: Prepared, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> CodeBundle:
    """Sixteen epochs of titles and nothing else, on a base with random weights."""
    out = tmp_path_factory.mktemp("tuned") / "bundle"
    tasks = {**WORDS_ALONE, "next_title": 1}
    codes = {"levels": [4, 8], "questions": 12, "titles": TITLES, "title_prompts": 4, "tasks": tasks}
    rates = {"learning_rate": 0.01, "backbone_learning_rate": 0.01, "patience": 0}
    train = {"epochs": 16, "batch": 4, "dropout": 0.0, "precision": "no", **rates}
    recipe = code_recipe(
        prepared.directory, out, checkpoints["llama"], codes=codes, train=train, adapter={"kind": "full"}
    )
    return fit_codes(recipe)


@pytest.fixture(scope="module")
def shop(bundle: CodeBundle) -> Shop:
    return Shop.open(bundle.directory, "text")


class TestTunedContract(RecommenderContract):
    @pytest.fixture
    def recommender(self, shop: Shop) -> TitleWriter:
        assert isinstance(shop.recommender, TitleWriter)
        return shop.recommender

    @pytest.fixture
    def requests_of_users(self, prepared: Prepared) -> list[Request]:
        words = ("", "a red mug", "something under 5", "<|im_end|>\n- blue mug")
        return [Request(prepared.histories.history(at), said, user=at) for at, said in enumerate(words)]


def test_it_is_trained_by_the_prompts_that_it_is_asked_with(prepared: Prepared, bundle: CodeBundle):
    """The same tokens before the title, and the title's own with its end behind them."""
    prompts, templates = bundle.tokens(), Templates.load()
    forbidden = tuple(prompts.tokenizer.all_special_tokens)
    settings = CodeSettings(titles=TITLES, title_prompts=2, aligned=0.0, tasks=TaskWeights(next_title=1.0))
    titles = Verbalizer(
        prepared.catalog, PromptSettings(queries=0, items="title"), ("",), templates, forbidden
    )
    lines = title_prompts(prepared.catalog, ("",), templates, forbidden, TITLES, True)
    tasks = ItemTasks(prompts, titles, ItemWordings.load(templates), settings, lines)
    asking = Asking(prepared, prompts, templates, TextSettings(TITLES, bare=0.0, tuned=True))
    rows = title_sequences(asking.titles, prompts.encode_texts, prompts.tokenizer.eos_token_id)
    items, following = [5, 1, 7, 2, 9], [1, 7, 2, 9, 4]
    example = Example(items=items, next_item=following, head=[], item_at=[], tails=[])
    found = tasks.runs(example, np.random.default_rng(0))
    assert len(found) == 2
    possible = {
        tuple(
            asking.prompt(
                Request(tuple(Event(item, 1_300_000_000 + at) for at, item in enumerate(items[: n + 1]))), 0
            )
        )
        + tuple(rows[following[n]])
        for n in range(len(items))
    }
    for run in found:
        assert (*prompts.prefix, *run.ids) in possible
        written = [token for token, task in zip(run.ids, run.tasks, strict=True) if task == NEXT_TITLE]
        assert written in rows and run.tasks.count(-1) == len(run.ids) - len(written)
        assert set(written) <= set(tasks.words.tolist())


def test_scores_are_what_training_made_likely(prepared: Prepared, bundle: CodeBundle, shop: Shop):
    """The softmax over the tokens of titles, by the plain checkpoint in one pass a title."""
    writer = shop.recommender
    assert isinstance(writer, TitleWriter)
    request = Request(prepared.histories.history(3), "a mug")
    (prompt,) = writer.read([request])
    tokens = bundle.tokens()
    rows = title_sequences(
        [item.title for item in prepared.catalog.items], tokens.encode_texts, tokens.tokenizer.eos_token_id
    )
    words = np.unique(np.concatenate(rows))
    model = load_backbone(bundle.directory / "backbone").eval()
    expected = []
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) - 1 : -1, words]
        found = torch.log_softmax(logits.double(), dim=-1)
        expected.append(float(found[torch.arange(len(row)), np.searchsorted(words, row)].sum()))
    np.testing.assert_allclose(writer.scores([request])[0], expected, atol=2e-4)


def test_it_learns_and_keeps_what_wrote_titles_best(bundle: CodeBundle):
    """Validation asks for titles where nothing else is trained, and the best weights are kept."""
    training = bundle.manifest["training"]
    found = [epoch["ndcg@10 titles"] for epoch in training["log"]]
    assert max(found) > 1.5 * found[0]
    assert all(epoch["ndcg@10"] == epoch["ndcg@10 titles"] for epoch in training["log"])
    assert found[training["best_epoch"]] == max(found) == training["validation_ndcg@10"]


def test_the_benchmark_compares_it_with_its_base(bundle: CodeBundle, code_bundle: Path, script_of, capsys):
    """The base whole, cut, and with random weights; bundles that did not learn titles are refused."""
    script, here = script_of("titles"), str(bundle.directory)
    script.main([here, "--questions", "8", "--layers", "1", "--fresh"])
    rows = table_after(capsys.readouterr().out, "| what writes |")
    base = "titles, the base model"
    assert [row[0] for row in rows] == [
        "titles, tuned, all layers",
        f"{base}, first 1 layers",
        base,
        f"{base}, random weights",
    ]
    assert all(0 <= float(row[1].split(" ±")[0]) <= 1 for row in rows)
    requests = [Request([Event(0), Event(3)])]
    scores = [
        script.tuned_writer(bundle).score(requests),
        *(script.base_writer(bundle, *cut).score(requests) for cut in ((1,), (None,), (None, True))),
    ]
    assert not any(np.allclose(one, other) for one, other in combinations(scores, 2))
    with pytest.raises(LlmrecError, match="did not learn to write titles"):
        script.main([here, str(code_bundle)])


def test_what_it_learnt_is_told_by_the_recipe(code_bundle: Path, bundle: CodeBundle):
    """A bundle that never learnt titles is asked in words through its base, as before."""
    plain = Shop.open(code_bundle, "text").recommender
    tuned = Shop.open(bundle.directory, "text").recommender
    assert "less 0.5 of what anyone" in plain.setting and "less 0 of" in tuned.setting
    with pytest.raises(LlmrecError, match="learnt to write titles, not codes: give --mode text"):
        Shop.open(bundle.directory)
    with pytest.raises(LlmrecError, match="title_prompts is 0, it must be at least 1"):
        CodeSettings(title_prompts=0)
