"""The descriptions of public datasets, on small files in the owners' formats."""

import gzip
import json
from pathlib import Path

import pytest

from llmrec.data import public
from llmrec.data.description import load_description
from llmrec.data.prepare import prepare
from llmrec.data.prepared import Prepared
from llmrec.data.validate import validate

ROOT = Path(__file__).parent.parent
AMAZON = {"beauty": "Beauty", "sports": "Sports_and_Outdoors", "toys": "Toys_and_Games"}


def prepared(path: Path, root: Path) -> Prepared:
    dataset = load_description(path, root)
    assert validate(dataset).errors == 0
    prepare(dataset, root / "out")
    return Prepared(root / "out")


def test_all_are_listed_and_say_whose_they_are() -> None:
    assert public.names() == (
        "amazon2014-beauty",
        "amazon2014-sports",
        "amazon2014-toys",
        "ml-1m",
        "online-retail",
    )
    for name in public.names():
        text = public.public_yaml(name).read_text()
        assert "# Owner:" in text and "http" in text and "# Licence:" in text
        assert load_description(public.public_yaml(name)).description.name == name


@pytest.mark.parametrize("name", AMAZON)
def test_amazon(name: str, tmp_path: Path) -> None:
    products = [
        {
            "asin": "B1",
            "title": "Polish &amp; File",
            "price": 3.5,
            "brand": "OPI",
            "salesRank": {"Beauty": 7},
            "categories": [["Beauty", "Makeup"], ["Beauty", "Nails"]],
            "related": {"also_bought": ["B2"]},
        },
        {
            "asin": "B2",
            "description": "It's 5\" long\nand red.",
            "imUrl": "http://x",
            "categories": [["Beauty"]],
        },
        {"asin": "B3", "title": "Never reviewed"},
    ]
    reviews = [
        {
            "reviewerID": user,
            "asin": item,
            "overall": 4.0,
            "unixReviewTime": time,
            "helpful": [0, 1],
            "reviewText": "\u00e9",
        }
        for item, user, time in [("B1", "A1", 1318896000), ("B2", "A1", 1300000000), ("B2", "A2", 1300000000)]
    ]
    file = AMAZON[name]
    with gzip.open(tmp_path / f"meta_{file}.json.gz", "wt") as lines:
        lines.writelines(repr(product) + "\n" for product in products)
    with gzip.open(tmp_path / f"reviews_{file}_5.json.gz", "wt") as lines:
        lines.writelines(json.dumps(review) + "\n" for review in reviews)
    data = prepared(public.public_yaml(f"amazon2014-{name}"), tmp_path)
    first, second = data.catalog.items
    assert (first.title, first.price, first.categories) == (
        "Polish &amp; File",
        3.5,
        ("Beauty", "Makeup", "Nails"),
    )
    assert (second.title, second.text) == ("B2", "It's 5\" long\nand red.")
    assert first.attributes == {"brand": "OPI"}
    assert [[event.item for event in history] for _, history in data.histories] == [[1, 0], [1]]
    assert data.histories.values.tolist() == [4.0, 4.0, 4.0]


def test_movielens(tmp_path: Path) -> None:
    files = {
        "movies.dat": (
            '1::Mis\u00e9rables, Les (1995)::Drama|Musical\n2::Jumanji: "A" (1995)::Comedy\n3::Unseen::War\n'
        ),
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
        "ratings.dat": "1::2::5::978300760\n1::1::3::978300719\n2::1::4::978300719\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    data = prepared(public.public_yaml("ml-1m"), tmp_path)
    assert [item.title for item in data.catalog.items] == [
        "Mis\u00e9rables, Les (1995)",
        'Jumanji: "A" (1995)',
    ]
    assert data.catalog[0].categories == ("Drama", "Musical")
    assert data.attributes(1) == {"gender": "M", "age": "56", "occupation": "16"}
    assert [[event.item for event in history] for _, history in data.histories] == [[0, 1], [0]]


def test_online_retail(tmp_path: Path) -> None:
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    lines = [
        "536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,12/1/2010 8:26,2.55,17850,United Kingdom",
        '536365,71053,"LANTERN, METAL ",6,12/1/2010 8:26,3.39,17850,United Kingdom',
        '536365,71053,"LANTERN, METAL ",2,12/1/2010 8:26,3.39,17850,United Kingdom',
        "536365,POST,POSTAGE,1,12/1/2010 8:26,18,17850,United Kingdom",
        "C536379,85123A,WHITE HANGING HEART T-LIGHT HOLDER,-1,12/1/2010 9:41,2.55,17850,United Kingdom",
        "536400,71053,damaged?,-3,12/2/2010 9:41,0,,United Kingdom",
        "536401,71053,LANTERN,1,12/2/2010 9:41,3.00,13047,France",
    ]
    (tmp_path / "online-retail.csv").write_text(
        "\ufeff" + "\n".join([header, *lines]) + "\n", encoding="utf-8"
    )
    data = prepared(public.public_yaml("online-retail"), tmp_path)
    assert [(item.id, item.title) for item in data.catalog.items] == [
        ("71053", "LANTERN, METAL"),
        ("85123A", "WHITE HANGING HEART T-LIGHT HOLDER"),
    ]
    assert [[(e.item, e.value) for e in history] for _, history in data.histories] == [
        [(0, 1.0)],
        [(1, 6.0), (0, 8.0)],
    ]
    assert data.histories.times[1] == 1_291_191_960


def test_descriptions_of_processed_copies_are_sound() -> None:
    paths = sorted((ROOT / "benchmarks" / "data").glob("*.yaml"))
    assert len(paths) == 6
    for path in paths:
        assert load_description(path).description.name == path.stem
