"""What every request passes: where it comes from, its size and id, headers, counts and a line of log."""

from __future__ import annotations

import ipaddress
import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmrec.serving.metrics import Metrics
from llmrec.serving.problems import problem

_LOG = logging.getLogger("llmrec.access")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response."""
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
PAGE_POLICY = f"{POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""What the page may load: its own files and nothing else. The page of the API needs scripts of its own."""


class _TooLarge(BaseException):
    """More came than a request may have; no `Exception`, for FastAPI would make a 400 of it."""


class _Answer:
    """Sends a response with the headers that all have, and remembers its status."""

    def __init__(self, given: str, send: Send) -> None:
        """`given` is the id that the request brings; what is no id is replaced."""
        self.id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        self.status = 0
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def instead(self, scope: Scope, receive: Receive, status: int, said: str) -> None:
        """A problem, unless a response has begun."""
        if not self.status:
            await problem(status, said, path=scope["path"])(scope, receive, self)


class Guard:
    """ASGI middleware around the whole service.

    A page of another site may not ask, whatever it sends: an `Origin` must be this service's own. With
    `local`, neither may a name that somebody let point at this machine: the `Host` must be a local one.
    What is logged are route, status and time, never a path, a body or a key.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, body: int, local: bool) -> None:
        self._app, self._metrics, self._body, self._local = app, metrics, body, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, answer = time.perf_counter(), _Answer(Headers(scope=scope).get("x-request-id", ""), send)
        try:
            refusal = self._refusal(scope["method"], Headers(scope=scope))
            if refusal is None:
                await self._app(scope, self._limited(receive), answer)
            else:
                await problem(*refusal, path=scope["path"])(scope, receive, answer)
        except _TooLarge:
            await answer.instead(scope, receive, *self._too_large())
        except Exception as error:  # the last resort: no trace in the answer, none of the request in the log
            debug = _LOG.isEnabledFor(logging.DEBUG)
            _LOG.error("request %s failed: %s", answer.id, type(error).__name__, exc_info=debug)
            said = f"this failed here; the log has it as request {answer.id}"
            await answer.instead(scope, receive, 500, said)
        finally:
            self._note(scope, answer, time.perf_counter() - start)

    def _limited(self, receive: Receive) -> Receive:
        """`receive` that ends when more comes than a request may have."""
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._body:
                raise _TooLarge
            return message

        return limited

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._local and not local_name(host):
            return 421, "this service answers on this machine only: ask it as 127.0.0.1 or localhost"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "pages of other sites may not ask"
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return 400, "the Content-Length is no number"
        if len(length) >= 20 or int(length) > self._body:
            return self._too_large()
        brings = int(length) > 0 or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if brings and method in ("POST", "PUT") and kind != "application/json":
            return 415, "the body must be JSON and say so: send Content-Type: application/json"
        return None

    def _too_large(self) -> tuple[int, str]:
        return 413, f"the body is too large: at most {self._body:,} bytes are read"

    def _note(self, scope: MutableMapping[str, Any], answer: _Answer, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "none"
        self._metrics.requests.labels(route, str(answer.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        key = scope.get("state", {}).get("key", "-")
        method = scope["method"][:10] if scope["method"].isalpha() else "?"
        told = method, route, answer.status, 1000 * seconds, key, answer.id
        _LOG.info("%s %s %d %.1f ms key %s request %s", *told)


def local_name(host: str) -> bool:
    """Whether a Host header names this machine as only this machine can."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
