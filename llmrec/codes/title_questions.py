"""Validation of a model that learns to write titles: the questions of the valid fold, asked in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmrec.data.events import Event
from llmrec.data.prepared import Case, Prepared
from llmrec.verbalize.render import Verbalizer

if TYPE_CHECKING:
    from llmrec.model.code_tokens import CodePrompts
    from llmrec.tune.code_training import Question


def title_questions(
    prepared: Prepared, cases: Sequence[Case], prompts: CodePrompts, lines: Verbalizer, spare: int
) -> list[Question]:
    """Prompts of evaluation cases by `lines`, with room for `spare` tokens, as `text.asking` asks them.

    Each comes with the items of its history.
    """
    from llmrec.tune.collate import Example, Tail

    questions = []
    for case in cases:
        items = [event.item for event in prepared.histories.history(case.user, case.cut)]
        prompt, _ = prompts.fit(lines, tuple(map(Event, items)), "", {}, spare)
        head = prompts.prompt(prompt)
        example = Example(head, (), (), [Tail(len(head), (), case.target)])
        questions.append((example, np.array(items, dtype=np.int64)))
    return questions
