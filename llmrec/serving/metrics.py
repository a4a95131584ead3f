"""What a service counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from llmrec.engines.counts import PROMPT_TOKENS, PromptTokens

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGES = ("history", "queue", "model", "list", "why")
"""Where a request's time goes: reading the history, waiting, the model, its list, its reasons.

A list that the model itself writes is the model's time, see `decode.readout.Readout`.
"""


class _PromptTokens(Collector):
    """What engines counted, read when somebody asks; nothing where no engine knows."""

    def __init__(self, counted: PromptTokens) -> None:
        self._counted = counted

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        read = self._counted.read
        if read is None:
            return
        found = CounterMetricFamily(
            "llmrec_prompt_tokens", "Tokens of prompts: computed, or found in the cache.", labels=["read"]
        )
        for name, count in read._asdict().items():
            found.add_metric([name], count)
        yield found


class Metrics:
    """Counters of one service, in a registry of their own; names as `/metrics` shows them."""

    def __init__(self, prompt_tokens: PromptTokens = PROMPT_TOKENS) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_PromptTokens(prompt_tokens))
        self.requests = Counter(
            "llmrec_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "llmrec_request_seconds", "Seconds by route.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.stages = Histogram(
            "llmrec_stage_seconds", "Seconds by stage.", ["stage"], buckets=_SECONDS, registry=self.registry
        )
        self.waiting = Gauge("llmrec_queue", "Requests that wait for the model.", registry=self.registry)
        self.together = Histogram(
            "llmrec_batch", "Requests in one call of the model.", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )  # fmt: skip
        self.refused = Counter("llmrec_refused", "Refused requests.", ["reason"], registry=self.registry)
        self.invalid = Counter(
            "llmrec_invalid_items", "Items in answers that their limits forbid: always 0.",
            registry=self.registry,
        )  # fmt: skip
        self.fallbacks = Counter(
            "llmrec_fallbacks",
            "Answers from memory (the store was gone), or with words of the wish let go.",
            ["kind"],
            registry=self.registry,
        )
        self.version = Gauge("llmrec_bundle_version", "Version that answers.", registry=self.registry)
        for reason in ("busy", "deadline", "rate"):
            self.refused.labels(reason)
        for kind in ("memory", "words"):
            self.fallbacks.labels(kind)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Around one stage of a request."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages.labels(stage).observe(time.perf_counter() - start)

    def page(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)
