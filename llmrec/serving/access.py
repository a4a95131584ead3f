"""Who may ask what: the service of a request, and the scope that its key must have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request

from llmrec.serving.service import Service

# Coroutines, for FastAPI runs plain functions in threads, of which there may be none that is free.


async def service(request: Request) -> Service:
    """The service that the app was made for."""
    return cast(Service, request.app.state.service)


def allowed(scope: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses whoever has no key with `scope`; without a file of keys everyone may."""

    async def check(request: Request) -> None:
        own = await service(request)
        if own.keys is not None:
            request.state.key = own.keys.check(request.headers.get("authorization", ""), scope).id

    return check
