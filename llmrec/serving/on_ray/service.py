"""The HTTP service by several processes: Ray Serve starts replicas and spreads requests over them."""

from __future__ import annotations

import dataclasses
import re
import threading
from dataclasses import dataclass

from fastapi import FastAPI
from ray import serve

from llmrec.engines.choice import choose_engine
from llmrec.errors import LlmrecError
from llmrec.serving.app import create_app
from llmrec.serving.on_ray.cluster import LOCAL, cluster
from llmrec.serving.settings import ServiceSettings

NAME = "llmrec"
"""The application's name in Ray Serve."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas answer: from `fewest` to `most`, so that each has about `target` requests under way.

    cpus, gpus: what Ray sets apart for a replica. delay: seconds of more requests before another starts.
    """

    fewest: int = 1
    most: int = 1
    target: float = 8.0
    cpus: float = 1.0
    gpus: float = 0.0
    delay: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most:
            raise LlmrecError(f"from {self.fewest} to {self.most} replicas: give 1 or more")
        if min(self.target, self.cpus) <= 0 or min(self.gpus, self.delay) < 0:
            raise LlmrecError(
                "target and CPUs of a replica must be above 0, its GPUs and the delay not below"
            )


def application(settings: ServiceSettings, scale: Scale) -> serve.Application:
    """The service of a bundle as Ray Serve runs it; every replica opens the bundle and the store itself."""
    keys = None if settings.keys is None else settings.keys.absolute()
    settings = dataclasses.replace(settings, bundle=settings.bundle.absolute(), keys=keys)

    def app() -> FastAPI:
        # Chosen where the replica runs: another machine may have another engine.
        engine = choose_engine(settings.engine, gpu=scale.gpus > 0)
        return create_app(dataclasses.replace(settings, engine=engine))

    class Replica:
        """The routes are those of the app."""

    made = serve.deployment(
        name=NAME,
        autoscaling_config={
            "min_replicas": scale.fewest,
            "max_replicas": scale.most,
            "target_ongoing_requests": scale.target,
            "upscale_delay_s": scale.delay,
        },
        max_ongoing_requests=settings.together + settings.waiting + 1,  # more are refused by the service
        ray_actor_options={"num_cpus": scale.cpus, "num_gpus": scale.gpus},
    )
    return made(serve.ingress(app)(Replica)).bind()


def start(settings: ServiceSettings, scale: Scale) -> None:
    """Start the service, or replace the one that runs in this cluster, and return when it answers.

    Raises `LlmrecError` for what a replica cannot open.
    """
    serve.start(http_options={"host": settings.host, "port": settings.port})
    try:
        serve.run(application(settings, scale), name=NAME, route_prefix="/")
    except RuntimeError as error:
        found = re.findall(r"llmrec\.errors\.\w+: (.+)", str(error))
        said = found[-1] if found else (str(error).splitlines() or ["no reason given"])[0]
        raise LlmrecError(f"Ray Serve did not start the service: {said}") from error


def serve_on_ray(settings: ServiceSettings, scale: Scale, address: str = LOCAL) -> None:
    """Serve in the cluster at `address` and return; on this machine alone, serve until interrupted."""
    with cluster(address, scale.most * scale.cpus):
        start(settings, scale)
        if address != LOCAL:
            return
        try:
            threading.Event().wait()
        finally:
            serve.shutdown()
