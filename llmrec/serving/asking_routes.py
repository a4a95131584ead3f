"""Endpoints that ask: lists, scores, reasons, and what items are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from llmrec.decode.answers import Answers
from llmrec.decode.why import Cause
from llmrec.errors import LlmrecError
from llmrec.serving.access import allowed, service
from llmrec.serving.answering import Reply
from llmrec.serving.facets import MOST_VALUES, Facet
from llmrec.serving.live import Live
from llmrec.serving.problems import document, line_of, status_of
from llmrec.serving.schemas import (
    MOST_SEEN,
    Ask,
    Asker,
    Explain,
    FacetOut,
    FacetsOut,
    Id,
    ItemsOut,
    KnownItem,
    ListOut,
    Score,
    ScoresOut,
    ValueOut,
)
from llmrec.serving.service import Service

router = APIRouter(prefix="/v1", tags=["ask"], dependencies=[Depends(allowed("ask"))])


@router.post("/recommend", response_model=ListOut)
async def recommend(ask: Ask, own: Service = Depends(service)) -> Response:  # noqa: B008
    """A list for someone, with a wish in words, goals and limits if you like (docs/asking.md)."""
    live = own.bundles.current
    reply = await own.reply(live, ask, k=ask.k, why=ask.why)
    return _json(list_of(reply, live, ask), reply.seconds)


@router.post("/score", response_model=ScoresOut)
async def score(ask: Score, own: Service = Depends(service)) -> Response:  # noqa: B008
    """Scores of given items for someone; items of the history are scored too unless `seen` is false."""
    live = own.bundles.current
    if ask.filters.seen is None:
        ask.filters = ask.filters.model_copy(update={"seen": True})
    places = tuple(live.prepared.catalog.indices(ask.candidates))
    reply = await own.reply(live, ask, about="scores", items=places)
    rows = [
        {"item": name, "title": live.prepared.catalog[at].title, "score": value}
        for name, at, value in zip(ask.candidates, places, reply.value, strict=True)
    ]
    told = {
        "items": rows,
        "enforced": reply.asked.held,
        "left": reply.asked.left,
        "bundle": live.id,
        "mode": live.mode(ask.mode),
        "remembered": reply.remembered,
    }
    return _json(told, reply.seconds)


@router.post("/explain", response_class=StreamingResponse)
async def explain(ask: Explain, own: Service = Depends(service)) -> StreamingResponse:  # noqa: B008
    """Reasons, a JSON object a line: the list at once, then a line for each item when they are measured."""
    live = own.bundles.current
    if ask.items is not None:
        ask.filters = ask.filters.model_copy(update={"only": ask.items})
    reply = await own.reply(live, ask, k=ask.k if ask.items is None else len(ask.items))
    return StreamingResponse(_reasons(own, live, ask, reply), media_type="application/x-ndjson")


@router.get("/items")
async def items(
    ids: Annotated[list[Id], Query(min_length=1, max_length=MOST_SEEN, examples=[["22423", "none"]])],
    own: Service = Depends(service),  # noqa: B008
) -> ItemsOut:
    """What people read of items (`?ids=22423&ids=84879`), retired ones too; the model is not asked."""
    live, names = own.bundles.current, list(dict.fromkeys(ids))
    catalog = live.prepared.catalog
    known = [catalog[catalog.index(name)] for name in names if name in catalog]
    return ItemsOut(
        items=[
            KnownItem(
                item=each.id,
                title=each.title,
                price=each.price,
                categories=list(each.categories),
                retired=each.retired,
            )
            for each in known
        ],
        unknown=[name for name in names if name not in catalog],
        bundle=live.id,
    )


# A plain function, and so in a thread: the first time a large catalogue takes a second.
@router.get("/facets")
def facets(
    own: Service = Depends(service),  # noqa: B008
    most: int = Query(50, ge=0, le=MOST_VALUES, description="Values of each facet."),
) -> FacetsOut:
    """What `filters` can name: the most frequent categories and values of attributes, and the prices."""
    live = own.bundles.current
    found = live.facets

    def shown(facet: Facet) -> FacetOut:
        values = [ValueOut(value=value, items=count) for value, count in facet.values[:most]]
        return FacetOut(values=values, distinct=facet.distinct, low=facet.low, high=facet.high)

    return FacetsOut(
        categories=shown(found.categories),
        attributes={name: shown(facet) for name, facet in found.attributes.items()},
        prices=shown(found.prices),
        currency=live.prepared.catalog.currency,
        bundle=live.id,
    )


async def _reasons(own: Service, live: Live, ask: Explain, reply: Reply) -> AsyncIterator[bytes]:
    told = list_of(reply, live, ask)
    yield _line(told)
    items = [answer["item"] for answer in told["items"]]
    try:
        places = tuple(live.prepared.catalog.indices(items))
        found = await own.reply(live, ask, about="reasons", items=places)
    except LlmrecError as error:
        yield _line({"problem": document(status_of(error), line_of(error))})
        return
    for item, causes in zip(items, found.value, strict=True):
        because = [dataclasses.asdict(cause) for cause in causes]
        yield _line({"item": item, "because": because, "said": sentence(causes)})


def sentence(causes: Sequence[Cause]) -> str:
    """What weighed most, in one sentence."""
    named = ["your words" if cause.item is None else f"“{cause.title}”" for cause in causes]
    if not named:
        return "Nothing in particular weighed for it."
    said = f"{' and '.join(named)} weighed most for it."
    return said[0].upper() + said[1:]


def list_of(reply: Reply, live: Live, ask: Asker) -> dict[str, Any]:
    """A list as it goes out."""
    answers: Answers = reply.value
    return {
        "items": [
            {
                "item": each.item,
                "title": each.title,
                "price": each.price,
                "score": each.score,
                "because": [dataclasses.asdict(cause) for cause in each.because],
            }
            for each in answers.items
        ],
        "enforced": answers.enforced,
        "favoured": answers.favoured,
        "left": answers.left,
        "notes": answers.notes,
        "bundle": live.id,
        "mode": live.mode(ask.mode),
        "events": len(reply.asked.request.history),
        "remembered": reply.remembered,
    }


def _json(told: Any, seconds: float) -> Response:
    """JSON, and how long the model took for it."""
    return Response(
        json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")),
        media_type="application/json",
        headers={"Server-Timing": f"model;dur={1000 * seconds:.2f}"},
    )


def _line(told: Any) -> bytes:
    return (json.dumps(told, ensure_ascii=False, allow_nan=False) + "\n").encode()
