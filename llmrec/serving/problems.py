"""Errors as problem+json (RFC 9457): a status, and one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from llmrec.errors import BundleError, LlmrecError, UnknownIdError
from llmrec.serving.store.contract import KeyReusedError, StoreUnavailable

MEDIA_TYPE = "application/problem+json"
_STATUS: tuple[tuple[type[LlmrecError], int], ...] = (
    (UnknownIdError, 404),
    (KeyReusedError, 409),
    (BundleError, 409),
    (StoreUnavailable, 503),
    (LlmrecError, 422),
)
_LONGEST = 500
_OPENAI = ("/v1/chat/", "/v1/models")
_SPOKEN = {"(--no-enforce)": '("enforce": false)', "--no-enforce": '"enforce": false'}
"""What errors say of options of the command line, and how they are called here."""


class Refused(LlmrecError):
    """A request that is refused with a status of its own; `retry`: seconds after which to come back."""

    def __init__(self, status: int, detail: str, retry: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.retry = status, retry


def status_of(error: LlmrecError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def document(status: int, detail: str) -> dict[str, Any]:
    """The body of a problem."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def line_of(error: LlmrecError) -> str:
    """The error in one line that can be shown."""
    line = "".join(char if char.isprintable() else "?" for char in " ".join(str(error).split()))
    for option, field in _SPOKEN.items():
        line = line.replace(option, field)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def problem(
    status: int,
    detail: str,
    retry: float | None = None,
    path: str = "",
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem as a response; under the paths of OpenAI's shape its clients find the line too."""
    headers = dict(headers or {})
    if retry is not None:
        headers["Retry-After"] = str(max(1, round(retry)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = document(status, detail)
    if path.startswith(_OPENAI):
        body["error"] = {"message": detail, "type": "llmrec", "code": str(status)}
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def of_error(error: LlmrecError, path: str = "") -> JSONResponse:
    """An error as a response."""
    retry = error.retry if isinstance(error, Refused) else None
    if isinstance(error, StoreUnavailable):
        retry = 1
    return problem(status_of(error), line_of(error), retry, path)


def install(app: FastAPI) -> None:
    """Let `app` answer errors as problems; what was sent is not repeated in them."""

    @app.exception_handler(LlmrecError)
    async def mistake(request: Request, error: LlmrecError) -> JSONResponse:
        return of_error(error, request.url.path)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        said, path = str(error.detail), request.url.path
        if error.status_code == 400:
            deep = isinstance(error.__cause__, RecursionError)
            said = "the body is nested too deeply" if deep else "the body cannot be read: send JSON in UTF-8"
        elif error.status_code == 404:
            said = "there is nothing at this address: /docs lists what there is"
        elif error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            said = f"this address does not take {request.method[:10]}, it takes {allowed}"
        return problem(error.status_code, said, path=path, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found, path = error.errors(), request.url.path
        if found and found[0]["type"] == "json_invalid":
            reason = found[0].get("ctx", {}).get("error", "")
            said = f"the body is no JSON ({reason} at character {found[0]['loc'][-1]})"
            return problem(400, said, path=path)
        said = "; ".join(_fault(each) for each in found[:3])
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        return problem(422, f"{said}{more}"[:_LONGEST], path=path)


def _fault(fault: Any) -> str:
    where = ".".join(str(part)[:40] for part in fault["loc"] if part != "body") or "the body"
    if fault["type"] == "extra_forbidden":
        return f"{where}: there is no such field"
    if fault["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {fault['msg'][:200]}".replace("Value error, ", "").replace("\n", " ")
