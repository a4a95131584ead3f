"""Runs the service until it is told to stop."""

from __future__ import annotations

import logging
import socket

import uvicorn

from llmrec.errors import LlmrecError
from llmrec.serving.app import create_app
from llmrec.serving.settings import ServiceSettings

BACKLOG = 1024
"""Connections that wait to be taken."""
DRAIN = 15
"""Seconds that requests under way have when the service stops."""


def server_of(settings: ServiceSettings) -> uvicorn.Server:
    """A server of the service, not started. Raises `LlmrecError` for what cannot be used."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,  # paths have ids of users in them; `guard` logs routes
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)


def bound(settings: ServiceSettings) -> socket.socket:
    """The socket to serve at; raises `LlmrecError` when the address cannot be had."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, number)
    except OSError as error:
        raise LlmrecError(
            f"serve: {settings.host} is no address of this machine: {error.strerror}"
        ) from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)  # who comes before all is loaded waits and is not turned away
    except OSError as error:
        found.close()
        said = f"{settings.host}:{settings.port}"
        raise LlmrecError(f"serve: {said} cannot be had ({error.strerror}): give another --port") from error
    found.set_inheritable(True)
    return found


def serve(settings: ServiceSettings, say: bool = True) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("httpx", "urllib3", "asyncio", "llmrec.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if say:
        logging.getLogger("llmrec.access").setLevel(logging.INFO)
    with bound(settings) as place:
        server = server_of(settings)
        host, port = place.getsockname()[:2]
        logging.getLogger("llmrec.serving").info("listening at http://%s:%d", host, port)
        server.run([place])
