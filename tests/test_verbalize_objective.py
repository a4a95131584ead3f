"""The parts of an objective, and what it refuses."""

import pytest

from llmrec.errors import LlmrecError
from llmrec.verbalize.objective import PARTS, Objective


def test_parts_are_the_fields_that_say_something():
    assert Objective().parts == () and Objective().empty
    wish = Objective(fresh=True, max_price=0.0, like=0, include_words=("mug",))
    assert wish.parts == ("max_price", "include_words", "like", "fresh") and not wish.empty
    assert set(wish.parts) < set(PARTS) and "weights" not in PARTS


def test_weights_have_one_order_and_none_is_1():
    wish = Objective(fresh=True, weights=(("fresh", 2), ("event", 1), ("max_price", 0.5)))
    assert wish.weights == (("max_price", 0.5), ("fresh", 2.0))
    assert wish.weight("fresh") == 2 and wish.weight("event") == 1
    assert wish == Objective(fresh=True, weights=(("max_price", 0.5), ("fresh", 2.0)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"price_level": "medium"}, "'medium', it must be one of: low, high"),
        ({"weights": (("colour", 2.0),)}, "given to 'colour', the parts are: max_price"),
        ({"weights": (("weights", 2.0),)}, "given to 'weights'"),
        ({"weights": (("fresh", 0.0),)}, "weight of fresh is 0"),
        ({"weights": (("fresh", float("inf")),)}, "must be a number above 0"),
    ],
)
def test_what_cannot_be_is_refused(parts, message):
    with pytest.raises(LlmrecError, match=message):
        Objective(**parts)
