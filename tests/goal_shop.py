"""A shop made up for goals: views and purchases with stars, in two countries, of items with prices."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tables import write_table

from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.tune.goals import GoalMaker
from llmrec.tune.settings import GoalSettings
from llmrec.verbalize.templates import Templates

SPLIT = "leave-last-4"
WORDS = ("mug", "lamp", "bowl", "clock", "scarf")
COLOURS = ("Red", "Blue", "Green")


def prepared_shop(folder: Path) -> Prepared:
    """Thirty items, 24 users; folds as in `SPLIT`."""
    rng = np.random.default_rng(0)
    items = [
        {
            "id": f"i{n:02}",
            "title": f"{COLOURS[n % 3]} {WORDS[n % 5].title()} {n}",
            "price": "" if n == 29 else 1 + n,
            "kind": "" if n % 7 == 6 else WORDS[n % 5],
            "colour": COLOURS[n % 3],
        }
        for n in range(30)
    ]
    events = [
        {
            "user": f"u{user:02}",
            "item": f"i{int(30 * rng.random() ** 2):02}",
            "time": 1_290_000_000 + 86_400 * (10 * at + user),
            "kind": "purchase" if rng.random() < 0.3 else "view",
            "stars": int(rng.integers(1, 6)),
            "country": "" if rng.random() < 0.1 else ("France", "EIRE")[user % 2],
        }
        for user in range(24)
        for at in range(int(rng.integers(3, 40)))
    ]
    write_table(folder / "items.csv", items)
    write_table(folder / "events.csv", events)
    columns = {"id": "id", "title": "title", "price": "price", "categories": "kind", "attributes": ["colour"]}
    named = {"user": "user", "item": "item", "time": "time", "type": "kind", "value": "stars"}
    description = {
        "version": 1,
        "name": "shop",
        "currency": "GBP",
        "items": {"source": "items.csv", "columns": columns},
        "events": {"source": "events.csv", "columns": {**named, "scenarios": ["country"]}},
        "splits": {"leave-last": {"n": 4}},
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(description))
    prepare(load_description(folder / "data.yaml"), folder / "out")
    return Prepared(folder / "out")


def maker_of(shop: Prepared, split: str = SPLIT, **more: Any) -> GoalMaker:
    return GoalMaker.of(shop, split, Templates.load(), GoalSettings(**more))
