"""Files of requests: the service's own lists, problems in their places, and no answer twice after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from served import OTHER, USER

from llmrec.recommend import Shop


def test_a_file_is_answered_and_gone_on_with(tiny_bundle: Path, tmp_path: Path, run: Callable[..., Any]):
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
    assert run(*command)[:2] == (0, f"wrote {out}: 15 answers\n")
    whole = out.read_text()
    answers = [json.loads(line) for line in whole.splitlines()]
    assert [each["line"] for each in answers] == list(range(1, 16))
    expected = Shop.open(tiny_bundle).ask(user=USER, say="bags", k=3)
    assert [each["item"] for each in answers[0]["items"]] == [each.item for each in expected.items]
    assert [answers[at]["problem"]["status"] for at in (1, 2, 3, 4)] == [400, 404, 422, 422]
    kept = whole.splitlines(keepends=True)
    out.write_text("".join(kept[:6]) + kept[6][:20])  # as after a kill
    assert run(*command)[0] == 0
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
