"""Training examples where tokenizers make it hard."""

import numpy as np
import pytest
from tiny_models import CONTROL, builder_of, random_history, tiny_catalog
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from llmrec.model.tokens import PromptTokens
from llmrec.tune.settings import ExampleSettings

CATALOG = tiny_catalog()


@pytest.fixture(scope="module")
def joining() -> PromptTokens:
    """A tokenizer that joins words across spaces: "History: click" begins otherwise than "History:"."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["History: click"] * 9, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=CONTROL[0], eos_token=CONTROL[0])
    return PromptTokens(fast, len(CATALOG), 2)


@pytest.mark.parametrize("types", [("",), ("click", "buy")])
def test_a_cut_that_divides_a_token_is_not_trained(joining: PromptTokens, types: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    builder = builder_of(CATALOG, joining, types=types, examples=ExampleSettings(cuts=9, wish_share=0.0))
    window = random_history(rng, 5, len(CATALOG), types[:1])
    example = builder.example(window, {}, rng)
    left = range(len(window)) if types == ("",) else range(1, len(window))
    assert [tail.target for tail in example.tails] == [window[cut].item for cut in left]
    for cut, tail in zip(left, example.tails, strict=True):
        prompt = joining.prompt(builder.verbalizer.prompt(window[:cut], ""))
        assert [*example.head[: tail.cut], *tail.ids] == prompt
