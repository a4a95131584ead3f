"""OpenAI's chat completions: the last words of the user are the wish, `user` is who asks.

Whatever the messages say, a list comes back: their words are read as a wish and nothing else, and what
systems or assistants are said to have said is not read at all.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field, StringConstraints

from llmrec.decode.why import Cause
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.serving.access import allowed, service
from llmrec.serving.asking_routes import list_of, sentence
from llmrec.serving.live import Live
from llmrec.serving.schemas import WORDS, Ask, FiltersIn, GoalsIn, Id, Model
from llmrec.serving.service import Service

MOST_MESSAGES = 1_000
"""Messages of a chat, whose last one of the user is read."""
router = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=[Depends(allowed("ask"))])


class TextPart(Model):
    """A part of a message; other kinds than text are not read."""

    model_config = ConfigDict(extra="ignore")
    type: str
    text: str = ""


class Message(Model):
    """One message; the body limits those that are not read, `Chat.wish` the one that is."""

    model_config = ConfigDict(extra="ignore")
    role: Annotated[str, StringConstraints(max_length=20)]
    content: str | list[TextPart] | None = None


class More(Model):
    """What OpenAI's shape has no place for (`extra_body={"llmrec": {...}}`); as in `/v1/recommend`."""

    history: Annotated[list[Id], Field(max_length=1_000)] | None = None
    objective: GoalsIn | None = None
    weights: dict[str, Annotated[float, Field(gt=0, le=100)]] = {}
    filters: FiltersIn = FiltersIn()
    k: Annotated[int, Field(ge=1, le=50, strict=True)] = 5
    why: bool = False


class Chat(Model):
    """A chat request; fields of OpenAI's that mean nothing here (temperature, ...) are taken and not used."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "model": "llmrec",
                    "user": "12583",
                    "messages": [{"role": "user", "content": "something for tea"}],
                }
            ]
        },
    )
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    model: Annotated[str, StringConstraints(max_length=256)] = "llmrec"
    user: Id | None = None
    stream: bool = False
    n: Literal[1] | None = Field(default=None, description="One answer is given; `llmrec.k` is its length.")
    llmrec: More = More()

    def wish(self) -> str:
        """The words of the user's last message; raises `LlmrecError` where there are none or too many."""
        said = [message.content for message in self.messages if message.role == "user"]
        if not said:
            raise LlmrecError("messages: there is none of the role user, so nothing is asked")
        last = said[-1] or ""
        text = last if isinstance(last, str) else " ".join(part.text for part in last if part.type == "text")
        if len(text) > WORDS:  # cut, it might lose a limit
            raise LlmrecError(
                f"messages: the last one of the user has {len(text):,} characters, {WORDS:,} are read at most"
            )
        return text

    def asked(self) -> Ask:
        """The same as `/v1/recommend` takes it; of who has neither user nor history nothing is known."""
        more, history = self.llmrec, self.llmrec.history
        if history is None and self.user is None:
            history = []
        return Ask(
            user=None if history is not None else self.user,
            history=None if history is None else list(history),
            words=self.wish(),
            objective=more.objective,
            weights=more.weights,
            filters=more.filters,
            k=more.k,
            why=more.why,
        )


@router.get("/models")
async def models(own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """The bundle that answers, as OpenAI lists models."""
    return {"object": "list", "data": [_model(own.bundles.current)]}


@router.get("/models/{name:path}")
async def model(name: str, own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """The bundle that answers, by its id."""
    live = own.bundles.current
    if name != live.id:
        raise UnknownIdError(f"there is no model {name[:80]!r}: {live.id} answers, whichever is named")
    return _model(live)


def _model(live: Live) -> dict[str, Any]:
    return {"id": live.id, "object": "model", "created": live.made, "owned_by": "llmrec"}


@router.post("/chat/completions", response_class=Response)
async def chat(asked: Chat, own: Service = Depends(service)) -> Response:  # noqa: B008
    """Ask as one asks OpenAI: the answer is text, and `llmrec` has the structured list."""
    live, ask = own.bundles.current, asked.asked()
    reply = await own.reply(live, ask, k=ask.k, why=ask.why)
    told = list_of(reply, live, ask)
    head = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": live.id,
    }
    if asked.stream:
        return StreamingResponse(_chunks(head, told), media_type="text/event-stream")
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(lines_of(told)), "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    body = {**head, "object": "chat.completion", "choices": [choice], "llmrec": told}
    return Response(json.dumps(body, ensure_ascii=False, allow_nan=False), media_type="application/json")


async def _chunks(head: dict[str, Any], told: dict[str, Any]) -> AsyncIterator[bytes]:
    """The text line by line; the last chunk has the structured list."""

    def event(delta: dict[str, Any], **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} | more.pop(
            "choice", {}
        )
        chunk = {**head, "object": "chat.completion.chunk", "choices": [choice], **more}
        return f"data: {json.dumps(chunk, ensure_ascii=False, allow_nan=False)}\n\n".encode()

    yield event({"role": "assistant", "content": ""})
    for line in lines_of(told):
        yield event({"content": line})
    yield event({}, choice={"finish_reason": "stop"}, llmrec=told)
    yield b"data: [DONE]\n\n"


def lines_of(told: dict[str, Any]) -> list[str]:
    """A list for people."""
    lines = []
    for place, item in enumerate(told["items"], 1):
        price = "" if item["price"] is None else f", {item['price']:.2f}"
        lines.append(f"{place}. {' '.join(item['title'].split())} ({item['item']}{price})\n")
        if item["because"]:
            lines.append(f"   {sentence([Cause(**cause) for cause in item['because']])}\n")
    for label, name in (("Enforced", "enforced"), ("Left to the model", "left"), ("Note", "notes")):
        if told[name]:
            lines.append(f"{label}: {'; '.join(told[name])}\n")
    return lines
