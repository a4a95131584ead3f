"""Services over HTTP, for real: uvicorn in a thread, at a port of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from llmrec.serving.run import bound, server_of
from llmrec.serving.service import Service
from llmrec.serving.settings import ServiceSettings
from llmrec.versions import link_tree

USER, OTHER = "12562", "12409"
"""Two users of the slice of the sample."""


@dataclass(frozen=True)
class Served:
    """A running service: its address, its inside, and a client for raw requests."""

    url: str
    own: Service
    http: httpx.Client

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.http.post(path, json=body, **more)

    def ask(self, **body: Any) -> Any:
        """A list; it must be given."""
        response = self.post("/v1/recommend", body)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, status: int, response: httpx.Response) -> str:
        """The line of a problem; it must be one, of that status."""
        assert (response.status_code, response.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
        problem = response.json()
        assert problem["status"] == status and "\n" not in problem["detail"] and problem["detail"]
        assert response.headers["x-request-id"]
        return problem["detail"]


def copied(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle that may be changed."""
    link_tree(bundle, folder / "bundle")
    return folder / "bundle"


@contextlib.contextmanager
def served(bundle: Path, **settings: Any) -> Iterator[Served]:
    """A running service of a bundle."""
    chosen = ServiceSettings(bundle, port=0, **settings)
    with bound(chosen) as place:
        server = server_of(chosen)
        thread = threading.Thread(target=server.run, args=[[place]])
        thread.start()
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=60) as http:
                http.get("/healthz").raise_for_status()
                yield Served(url, server.config.app.state.service, http)
        finally:
            server.should_exit = True
            thread.join()
