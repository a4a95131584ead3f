"""Answers on a terminal: nothing that a title or a wish holds can act on it."""

import io

from rich.console import Console

from llmrec.decode.answers import Answer, Answers
from llmrec.decode.why import Cause
from llmrec.show import answers_table


def shown(answers: Answers, who: str = "you", say: str = "", width: int = 200) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(
        answers_table(answers, who, say)
    )
    return out.getvalue()


def test_all_of_an_answer_is_shown():
    because = (Cause("Blue Mug", "b", 1.256), Cause("your words", None, 0.5))
    answer = Answer("a", "Red Mug", 2.5, 3.14159, because)
    text = shown(
        Answers((answer,), ("price at most 3",), ('"nice"',), ("only 1 of 2 items",), ("in Bags",)),
        "customer 7",
        "nice",
    )
    for part in (
        'For customer 7: "nice"',
        "Red Mug",
        "2.50",
        "3.14",
        "Blue Mug (1.26); your words (0.50)",
        "enforced: price at most 3",
        "favoured: in Bags",
        'left to the model: "nice"',
        "note: only 1 of 2 items",
        "weighed most: fall of log-probability without it",
    ):
        assert part in text


def test_a_merged_list_says_for_which_wish_an_item_is_there():
    answers = Answers((Answer("a", "Red Mug", 2.5, 0.0123, wish="tea"), Answer("b", "Bag", 1.0, 0.5)), (), ())
    text = shown(answers, "customer 7", "tea + ")
    assert "for" in text and "tea " in text and "0.012" in text


def test_what_is_not_there_takes_no_room():
    light = (Cause("Blue Mug", "b", 0.004),)
    text = shown(Answers((Answer("a", "Red Mug", None, 1.0),), (), ()))
    assert "weighed" not in text and "enforced" not in text and "None" not in text
    assert "0.00" not in shown(Answers((Answer("a", "Red Mug", None, 1.0, light),), (), ()))


def test_hostile_texts_are_only_text():
    hostile = "\x1b[2J\x07\r[bold red]x[/]\u202e\x00\ud800 " + "y" * 10_000
    answers = Answers(
        (Answer(hostile, hostile, 1.0, 1.0, (Cause(hostile, "i", 1.0),)),), (hostile,), (hostile,)
    )
    text = shown(answers, hostile, hostile)
    text.encode()
    assert "[bold red]x[/]" in text
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert "y" * 500 not in text


def test_items_without_a_title_are_named_by_their_id():
    answers = Answers((Answer("a", "", 1.0, 1.0, (Cause("", "b7", 1.0),)),), (), ())
    assert "b7 (1.00)" in shown(answers)
