"""The HTTP service: `create_app(settings)`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from fastapi import Depends, FastAPI, Response
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from llmrec import __version__
from llmrec.serving import asking_routes, chat, problems, telling_routes
from llmrec.serving.access import allowed, service
from llmrec.serving.guard import PAGE_POLICY, Guard
from llmrec.serving.service import Service
from llmrec.serving.settings import ServiceSettings

PAGE = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
DOCS = {"/docs": "docs.html", "/docs/docs.js": "docs.js"}
SWAGGER = {f"/docs/{name}": name for name in ("swagger-ui.css", "swagger-ui-bundle.js")}
"""Files of Swagger UI, as the package fastapi_offline brings them: no page loads anything from elsewhere."""
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def create_app(settings: ServiceSettings) -> FastAPI:
    """The service of a bundle, opened now; it gives back what it holds when the app shuts down.

    Raises `LlmrecError` for a bundle, a store or keys that cannot be used.
    """
    own = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        own.close()

    app = FastAPI(
        title="llmrec",
        version=__version__,
        description="Recommendations by a language model: what a wish says about items is enforced exactly.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = own
    problems.install(app)
    for router in (asking_routes.router, chat.router, telling_routes.write, telling_routes.admin):
        app.include_router(router)
    _watched(app)
    own_files = Path(str(resources.files("llmrec.serving") / "page"))
    if settings.page:
        _files(app, own_files, PAGE)
    _files(app, own_files, DOCS)
    _files(app, Path(str(resources.files("fastapi_offline") / "static")), SWAGGER)
    app.add_middleware(Guard, metrics=own.metrics, body=settings.body, local=settings.keys is None)
    return app


def _watched(app: FastAPI) -> None:
    """What machines ask about the service itself."""

    @app.get("/healthz", tags=["run"])
    async def alive() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    app.add_api_route("/healthz", alive, methods=["HEAD"], include_in_schema=False)

    @app.get("/readyz", tags=["run"])
    def ready(own: Service = Depends(service)) -> JSONResponse:  # noqa: B008
        """Whether it answers as it should; without its store it answers from memory, and says so here."""
        own.ready()
        return JSONResponse({"status": "ok", "bundle": own.bundles.current.id, "store": own.store.place})

    app.add_api_route("/readyz", ready, methods=["HEAD"], include_in_schema=False)

    @app.get("/metrics", tags=["run"], dependencies=[Depends(allowed("admin"))])
    async def metrics(own: Service = Depends(service)) -> Response:  # noqa: B008
        """Counters for Prometheus."""
        return Response(own.metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _files(app: FastAPI, folder: Path, names: Mapping[str, str]) -> None:
    """Files of a page by their paths, no others."""
    for path, name in names.items():

        def send(name: str = name) -> FileResponse:
            media = f"{_TYPES[Path(name).suffix]}; charset=utf-8"
            return FileResponse(
                folder / name, media_type=media, headers={"Content-Security-Policy": PAGE_POLICY}
            )

        app.add_api_route(path, send, methods=["GET", "HEAD"], include_in_schema=False)
