"""A bundle as a plain checkpoint: transformers reads from it what the bundle's own engine computes."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec.bundle import Bundle
from llmrec.decode.contract import Request
from llmrec.engines.transformers import TransformersEngine
from llmrec.errors import LlmrecError
from llmrec.export import EXPORT, check_export, export
from llmrec.language_recommender import LanguageRecommender
from llmrec.model.pretrained import load_backbone, load_tokenizer
from llmrec.open_engine import open_engine


@pytest.fixture(scope="module")
def exported(tiny_bundle, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("export") / "plain"
    export(tiny_bundle, out)
    return out


def test_a_plain_model_with_the_exported_rows_ranks_as_the_bundle(tiny_bundle, exported) -> None:
    bundle = Bundle(tiny_bundle)
    asked = [Request(bundle.prepared.histories.history(user), "a red bag", user=user) for user in range(6)]
    plain = LanguageRecommender(bundle, TransformersEngine(load_backbone(exported)))
    np.testing.assert_allclose(plain.score(asked), LanguageRecommender(bundle).score(asked), atol=1e-4)


def test_the_tokenizer_names_the_rows(tiny_bundle, exported) -> None:
    found, tokenizer = json.loads((exported / EXPORT).read_text()), load_tokenizer(exported)
    bundle = Bundle(tiny_bundle)
    first, tokens = found["first_token"], bundle.tokens()
    assert found["tokens"] == {"items": len(bundle.catalog), "queries": 2, "soft_prompt": 0}
    assert tokenizer.convert_tokens_to_ids(["<|item_0|>", "<|item_7|>", "<|query_1|>"]) == [
        first,
        first + 7,
        first + len(bundle.catalog) + 1,
    ]
    assert len(tokenizer) == tokens.size and first == tokens.base
    text = "a red bag <|item_3|>"  # a title that spells one out stays a title
    assert tokenizer(text, split_special_tokens=True)["input_ids"] == tokens.tokenizer(text)["input_ids"]


def test_an_export_belongs_to_one_version(tiny_bundle, exported, tmp_path) -> None:
    bundle = Bundle(tiny_bundle)
    check_export(exported, bundle)
    with pytest.raises(LlmrecError, match=r"is no exported bundle \(no llmrec-export.json\): make it again"):
        check_export(tmp_path, bundle)
    said = json.loads((exported / EXPORT).read_text())
    for change, why in (({"made_of": "0"}, "another bundle or version"), ({"kind": "?"}, "is no exported")):
        (tmp_path / EXPORT).write_text(json.dumps(said | change))
        with pytest.raises(LlmrecError, match=why):
            check_export(tmp_path, bundle)
    with pytest.raises(LlmrecError, match="an exported checkpoint is for vLLM"):
        open_engine(bundle, "transformers", checkpoint=exported)


def test_the_command(run, tiny_bundle, tmp_path) -> None:
    code, out, _ = run("export", tiny_bundle, "--for", "vllm", "--out", tmp_path / "out")
    assert code == 0 and "wrote" in out and "queries 2" in out
    assert run("export", tiny_bundle, "--out", tmp_path / "out")[0] == 0  # an export is replaced
    code, _, err = run("export", tiny_bundle, "--for", "tgi", "--out", tmp_path / "other")
    assert (code, err) == (2, "llmrec: there is no export for 'tgi', only for: vllm\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    code, _, err = run("export", tiny_bundle, "--out", tmp_path / "mine")
    assert code == 2 and "has other files in it" in err
    code, _, err = run("export", tmp_path / "nothing", "--out", tmp_path / "other")
    assert code == 2 and "is not a bundle" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]
