"""Files of requests: the service's own lists, problems in their places, and no answer twice after a stop."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from served import OTHER, USER

from llmrec import progress
from llmrec.recommend import Shop
from llmrec.serving.batch_file import Rows, write_answers


def test_a_file_is_answered_and_gone_on_with(
    tiny_bundle: Path, tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    asked = [
        {"user": USER, "words": "bags", "k": 3},
        {"history": ["22423"], "k": 2},
        {"user": "nobody"},
        {"user": OTHER, "k": -1},
        {"user": OTHER, "filters": {"max_price": 0}},
    ] * 3
    lines = [json.dumps(each) for each in asked]
    lines[1] = "{not json"
    requests, out = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    requests.write_text("\n".join(lines) + "\n")
    command = ("batch", tiny_bundle, requests, "--out", out, "--together", "4")
    monkeypatch.setattr(progress, "_PAUSE_SECONDS", 0.0)  # a line every tenth, however quick
    code, said, error = run(*command)
    assert (code, said) == (0, f"wrote {out}: 15 answers\n")
    counted = [f"answers: {done}/15, a second [0-9.e+]+, [0-9:]+ left" for done in (4, 8, 12, 15)]
    lines_of = ["opening the bundle", *counted, "answers: 15/15, a second [0-9.e+]+, took [0-9:]+"]
    assert re.fullmatch("\n".join(lines_of) + "\n", error), error
    whole = out.read_text()
    answers = [json.loads(line) for line in whole.splitlines()]
    assert [each["line"] for each in answers] == list(range(1, 16))
    expected = Shop.open(tiny_bundle).ask(user=USER, say="bags", k=3)
    assert [each["item"] for each in answers[0]["items"]] == [each.item for each in expected.items]
    assert [answers[at]["problem"]["status"] for at in (1, 2, 3, 4)] == [400, 404, 422, 422]
    kept = whole.splitlines(keepends=True)
    out.write_text("".join(kept[:6]) + kept[6][:20])  # as after a kill
    code, _, error = run(*command)
    assert code == 0 and error.startswith(f"{out} has 6 answers already: going on behind them\n")
    assert "answers: 9/9, " in error
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert again[:6] == answers[:6] and [each["line"] for each in again] == list(range(1, 16))
    assert [[item["item"] for item in each.get("items", ())] for each in again] == [
        [item["item"] for item in each.get("items", ())] for each in answers
    ]
    requests.write_text("\n".join(lines[1:]))
    code, _, error = run(*command)
    assert code == 2 and "has answers to other requests (line 1)" in error
    assert "cannot be read" in run("batch", tiny_bundle, tmp_path / "none", "--out", out)[2]
    code, _, error = run("batch", tiny_bundle, requests, "--out", tmp_path / "new.jsonl", "--engine", "vlm")
    assert code == 2 and "auto, transformers, vllm" in error


def test_a_pipe_has_no_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """It is read once, so nothing is counted before."""
    pipe, out = tmp_path / "pipe", tmp_path / "answers.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=["{}\n{}\n"])
    writer.start()

    def answer(source: BinaryIO) -> Iterator[Rows]:
        return ([{"said": line.decode()}] for line in source)

    assert write_answers(pipe, out, answer) == 2
    writer.join()
    error = capsys.readouterr().err
    assert re.fullmatch(r"opening the bundle\nanswers: 2, a second [0-9.e+]+, took [0-9:]+\n", error), error
