"""`llmrec recommend`: ask a bundle, in words and with limits. Imports are inside, so that help is instant."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from llmrec.errors import LlmrecError


def recommend(
    bundle: Annotated[
        Path,
        typer.Argument(help="A bundle; with --mode text also a prepared dataset, a data.yaml or `sample`."),
    ],
    user: Annotated[str | None, typer.Option(help="A user of the data.")] = None,
    history: Annotated[
        str | None, typer.Option(help="Item ids with commas, oldest first; '' for nobody known.")
    ] = None,
    say: Annotated[
        list[str] | None, typer.Option(help="A wish in words; again for a list of another wish.")
    ] = None,
    merge: Annotated[
        str | None,
        typer.Option(help="One list for all wishes, by: weights, quotas, round-robin, mmr or dpp."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the wishes to merge, with commas; default equal.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="retrieve: by the items' vectors; codes: the model writes their IDs; text: it writes "
            "titles. Default: what the bundle was made for."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model that writes; default the bundle's base, untuned.")
    ] = None,
    free: Annotated[
        bool, typer.Option("--free", help="It writes in its own words, which are looked up in the catalogue.")
    ] = False,
    confidence: Annotated[
        float | None, typer.Option(help="With --free, how sure a list must be to be shown: 0 to 1.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="What runs the model: auto, transformers or vllm; docs/engines.md.")
    ] = "auto",
    k: Annotated[int, typer.Option("-k", help="Length of the list.")] = 10,
    max_price: Annotated[float | None, typer.Option(help="Nothing dearer.")] = None,
    min_price: Annotated[float | None, typer.Option(help="Nothing cheaper.")] = None,
    word: Annotated[list[str] | None, typer.Option(help="The item's text has this word.")] = None,
    not_word: Annotated[list[str] | None, typer.Option(help="It does not have this word.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Items of this category only.")] = None,
    not_category: Annotated[list[str] | None, typer.Option(help="None of this category.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: items with it; again for another value.")
    ] = None,
    not_attribute: Annotated[list[str] | None, typer.Option(help="NAME=VALUE: items without it.")] = None,
    price_level: Annotated[
        str | None, typer.Option(help="low or high: of the lowest or the highest third of prices.")
    ] = None,
    long_tail: Annotated[
        bool, typer.Option("--long-tail", help="Nothing of the most popular items.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="The newest items only.")] = False,
    new_category: Annotated[
        bool, typer.Option("--new-category", help="Items of a category that the history does not have.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Items of the history only.")] = False,
    exclude: Annotated[str | None, typer.Option(help="Item ids never to show, with commas.")] = None,
    seen: Annotated[
        bool, typer.Option(help="Show items of the history too; by default they are left out.")
    ] = False,
    enforce: Annotated[bool, typer.Option(help="Hold exactly what can be held of the wish.")] = True,
    hear: Annotated[bool, typer.Option(help="Let the model hear the wish.")] = True,
    why: Annotated[bool, typer.Option(help="Measure what weighed most for each item.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a bundle for recommendations, in words if you like; docs/asking.md explains the output."""
    from llmrec.decode.contract import Filters
    from llmrec.engines.choice import choose_engine
    from llmrec.recommend import Shop

    shop = Shop.open(bundle, mode, model, free, confidence, choose_engine(engine, lasting=False))
    filters = Filters(
        max_price=max_price,
        min_price=min_price,
        include_words=tuple(word or ()),
        exclude_words=tuple(not_word or ()),
        include_categories=tuple(category or ()),
        exclude_categories=tuple(not_category or ()),
        attributes=_attributes(attribute or (), "--attribute"),
        exclude_attributes=_attributes(not_attribute or (), "--not-attribute"),
        exclude_items=tuple(shop.catalog.indices(ids_of(exclude) or ())),
        exclude_seen=not (seen or again),
        seen_before=again,
        new_category=new_category,
        long_tail=long_tail,
        fresh=fresh,
        price_levels=() if price_level is None else (price_level,),
    )
    wishes, past = say or [""], ids_of(history)
    if merge is not None:
        shares = _numbers(weights)
        merged = shop.ask_merged(user, past, wishes, merge, shares, k, filters, enforce, hear, why)
        found, titles = [merged], [" + ".join(wishes)]
    elif weights is not None:
        raise LlmrecError("--weights are those of wishes to merge: give --merge too")
    else:
        found = shop.ask_many(user, past, wishes, k, filters, enforce, hear, why)
        titles = wishes
    if json:
        import dataclasses
        import json as json_module

        values = [dataclasses.asdict(answers) for answers in found]
        shown = values[0] if len(values) == 1 else values
        typer.echo(json_module.dumps(shown, indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    from llmrec.show import answers_table

    who = f"customer {user}" if user is not None else "this history"
    for answers, title in zip(found, titles, strict=True):
        Console().print(answers_table(answers, who, title))


def _numbers(text: str | None) -> list[float] | None:
    """Numbers of a list with commas; None when there is no list."""
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise LlmrecError(f"--weights {text!r} must be numbers with commas: 2,1") from None


def ids_of(text: str | None) -> list[str] | None:
    """Ids of a list with commas; None when there is no list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _attributes(given: Iterable[str], option: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """NAME=VALUE pairs as `Filters.attributes`: values of one name are alternatives."""
    values: dict[str, tuple[str, ...]] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise LlmrecError(f"{option} {pair!r} must be NAME=VALUE")
        values[name] = (*values.get(name, ()), value)
    return tuple(values.items())
