"""`llmrec ray-batch` and `llmrec ray-serve`. Imports are inside, so that help is instant."""

from pathlib import Path
from typing import Annotated

import typer

from llmrec.cli_engines import EngineOption

Address = Annotated[
    str, typer.Option(help="A cluster of Ray, or auto; local: this machine, for as long as this runs.")
]


def ray_batch(
    requests: Annotated[Path, typer.Argument(help="A body of /v1/recommend a line, docs/serving.md.")],
    bundle: Annotated[Path, typer.Option(help="A bundle.")],
    out: Annotated[Path, typer.Option(help="File of answers; one of a run that stopped is gone on with.")],
    mode: Annotated[
        list[str] | None, typer.Option(help="Modes, the first by default; as `llmrec recommend`.")
    ] = None,
    together: Annotated[int, typer.Option(min=1, help="Requests that one call of the model answers.")] = 32,
    actors: Annotated[int, typer.Option(min=1, help="Processes that answer, each with the bundle open.")] = 2,
    cpus: Annotated[float, typer.Option(min=0.01, help="CPUs of the cluster for each.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0.0, help="GPUs likewise.")] = 0.0,
    engine: EngineOption = "auto",
    address: Address = "local",
) -> None:
    """Answer a file of requests as `llmrec batch` does, by several processes of a Ray cluster."""
    _require("llmrec ray-batch")
    from llmrec.serving.on_ray.batch import Actors, run_batch_on_ray

    given = Actors(actors, cpus, gpus, engine)
    count = run_batch_on_ray(bundle, requests, out, tuple(mode or ()), together, given, address)
    typer.echo(f"wrote {out}: {count:,} answers")


def ray_serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle, which every machine sees at this path.")],
    replicas: Annotated[int, typer.Option(help="Processes that answer, at least.")] = 1,
    most: Annotated[int, typer.Option(help="And at most, as needed; 0: as many as --replicas.")] = 0,
    target: Annotated[float, typer.Option(help="Requests under way that one replica should have.")] = 8.0,
    cpus: Annotated[float, typer.Option(help="CPUs that Ray sets apart for a replica.")] = 1.0,
    gpus: Annotated[float, typer.Option(help="GPUs likewise; for --engine vllm.")] = 0.0,
    delay: Annotated[float, typer.Option(help="Seconds of more requests before another starts.")] = 30.0,
    host: Annotated[str, typer.Option(help="Where to listen; other machines need --keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8000,
    store: Annotated[
        str, typer.Option(help="Address of the store; on several machines Redis or PostgreSQL.")
    ] = "",
    keys: Annotated[Path | None, typer.Option(help="Ask for API keys of this file.")] = None,
    mode: Annotated[list[str] | None, typer.Option(help="Modes to serve, the first by default.")] = None,
    engine: EngineOption = "auto",
    address: Address = "local",
) -> None:
    """Answer over HTTP as `llmrec serve` does, by replicas in a Ray cluster; serve/README.md."""
    _require("llmrec ray-serve")
    from llmrec.serving.on_ray.service import Scale, serve_on_ray
    from llmrec.serving.settings import ServiceSettings

    serve_on_ray(
        ServiceSettings(bundle, host, port, store, keys, tuple(mode or ()), engine=engine),
        Scale(replicas, most or replicas, target, cpus, gpus, delay),
        address,
    )


def _require(purpose: str) -> None:
    from llmrec.errors import require_extra

    require_extra("serve", ["fastapi", "prometheus_client"], purpose)
    require_extra("ray", ["ray"], purpose)
