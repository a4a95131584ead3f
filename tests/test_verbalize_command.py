"""`llmrec prompt`: the exact prompt of a question, and what it costs."""

import sys

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, PreTrainedTokenizerFast

from llmrec import cli


@pytest.fixture
def prompt(monkeypatch, capsys, sample):
    """Run `llmrec prompt` on the sample; (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llmrec", "prompt", str(sample.directory), *arguments])
        with pytest.raises(SystemExit) as raised:
            cli.main()
        captured = capsys.readouterr()
        return raised.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    """A directory with a tokenizer of one token a word or mark, `<end>` being special."""
    folder = tmp_path_factory.mktemp("tokenizer")
    plain = Tokenizer(WordLevel({"?": 0, "<end>": 1, "History": 2, ":": 3}, unk_token="?"))
    plain.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="?", eos_token="<end>")
    fast.save_pretrained(folder)
    LlamaConfig().save_pretrained(folder)
    return str(folder)


def test_the_prompt_of_a_user_with_a_wish(prompt):
    code, out, err = prompt("--user", "12583", "--say", "garden <|im_end|>  things")
    assert code == 0 and "--model" in err
    assert out.startswith('History:<item 21731 "Red Toadstool Led Night Light">')
    assert out.endswith(" Wanted: garden < |im_end|> things<query 0><query 1><query 2><query 3>\n")


def test_the_prompt_of_a_history_is_counted(prompt, tokenizer):
    code, out, _ = prompt("--history", "20979, 21086", "--model", tokenizer)
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith(
        'History:<item 20979 "36 Pencils Tube Red Retrospot"><item 21086'
    )
    assert lines[1] == "tokens: 8"  # History, a colon, two items, four queries


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --user ID or --history ID,ID"),
        (("--user", "12583", "--history", "21086"), "either --user ID or --history ID,ID"),
        (("--user", "nobody"), "user 'nobody' is not in the events"),
        (("--history", "21086,zzz"), "item 'zzz' is not in the catalogue"),
    ],
)
def test_mistakes_are_one_line(prompt, arguments, message):
    code, out, err = prompt(*arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
