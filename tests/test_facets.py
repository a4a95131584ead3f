"""What a catalogue can be filtered by, as filters take it."""

from __future__ import annotations

import numpy as np
from served import Served

from llmrec.data.catalog import Catalog, Item
from llmrec.decode.contract import Filters
from llmrec.decode.filters import FilterIndex
from llmrec.recommend import Shop
from llmrec.serving.client import Client
from llmrec.serving.facets import MOST_VALUES, Facet, facets_of


def test_values_are_counted_as_filters_find_them():
    """Equal values are one, in the writing that comes first; retired items do not count."""
    catalog = Catalog(
        [
            Item("a", "A", price=3.0, categories=("Tea", "Red"), attributes={"colour": "Red", "year": 1999}),
            Item("b", "B", price=1.5, categories=("Tea",), attributes={"colour": "RED", "year": 2001.5}),
            Item("c", "C", categories=(), attributes={"colour": "blue", "size": "10"}),
            Item("d", "D", attributes={"size": "10.0"}),
            Item("e", "E", price=9.0, categories=("Cars",), attributes={"colour": "green"}, retired=True),
        ]
    )
    found = facets_of(catalog)
    assert found.categories == Facet((("Tea", 2), ("Red", 1)), 2)
    assert found.attributes == {
        "colour": Facet((("Red", 2), ("blue", 1)), 2),
        "size": Facet((("10", 2),), 1),
        "year": Facet((("1999", 1), ("2001.5", 1)), 2, 1999, 2001.5),
    }
    assert found.prices == Facet((), 0, 1.5, 3.0)
    index = FilterIndex(catalog)
    for name, facet in found.attributes.items():
        for value, count in facet.values:
            assert index.mask(Filters(attributes=((name, (value,)),))).sum() == count
    assert facets_of(Catalog([Item("a", "A")])).prices == Facet()
    many = Catalog(Item(str(n), "A", attributes={"code": f"c{n:05}"}) for n in range(MOST_VALUES + 5))
    codes = facets_of(many).attributes["code"]
    assert (len(codes.values), codes.distinct) == (MOST_VALUES, MOST_VALUES + 5)
    assert codes.values[0] == ("c00000", 1)


def test_over_http(service: Served, tiny_bundle):
    shop = Shop.open(tiny_bundle)
    index = FilterIndex(shop.catalog)
    with Client(service.url) as client:
        found = client.facets()
        assert found["bundle"] == "bundle@1" and found["currency"] == shop.catalog.currency
        for each in found["categories"]["values"]:
            assert index.mask(Filters(include_categories=(each["value"],))).sum() == each["items"]
        assert {each["value"] for each in found["attributes"]["colour"]["values"]} == {"Red", "Pink", "White"}
        assert (found["prices"]["low"], found["prices"]["high"]) == (
            np.nanmin(shop.catalog.prices),
            np.nanmax(shop.catalog.prices),
        )
        short = client.facets(most=1)["categories"]
        assert short["values"] == found["categories"]["values"][:1]
        assert short["distinct"] == len(found["categories"]["values"])
    assert service.http.get("/v1/facets", params={"most": 5_000}).status_code == 422
