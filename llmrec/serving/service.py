"""A service without its HTTP: bundles, people, the model's thread, and the store behind them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any

from llmrec.bundle import read_manifest
from llmrec.data.prepared import Prepared
from llmrec.errors import LlmrecError
from llmrec.serving.answering import Answering, Question, Reply
from llmrec.serving.asked import filters_of, goals_of, person_given, stored_events
from llmrec.serving.batching import Batcher
from llmrec.serving.catalogue import CatalogueChanges
from llmrec.serving.keys import KeyRing
from llmrec.serving.live import Bundles, Live
from llmrec.serving.metrics import Metrics
from llmrec.serving.people import Person, joined, person_of
from llmrec.serving.problems import Refused
from llmrec.serving.schemas import Asker, EventIn
from llmrec.serving.settings import ServiceSettings
from llmrec.serving.store.contract import Appended, StoredUser
from llmrec.serving.store.opening import open_store
from llmrec.serving.turns import Turns

_LOG = logging.getLogger("llmrec.serving")


class Service:
    """Opens the store and the bundle, and answers; `close` gives both back."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Raises `LlmrecError` for what cannot be opened."""
        self.settings, self.metrics = settings, Metrics()
        self.keys = None if settings.keys is None else KeyRing(settings.keys, self.metrics)
        read_manifest(settings.bundle)  # or a store would be made beside nothing
        self.store = open_store(settings.store_url)  # a wrong address is told before a model is loaded
        try:
            self.bundles = Bundles(settings.bundle, settings.modes, self.metrics, settings.engine)
        except BaseException:
            self.store.close()
            raise
        self.catalogue, self.turns = (
            CatalogueChanges(self.bundles, self.store),
            Turns(settings.deadline, self.metrics),
        )
        try:
            self.catalogue.catch_up()
        except LlmrecError as error:
            _LOG.warning("the catalogue is as in the bundle: %s", error)
        self._batcher: Batcher[Question] = Batcher(
            Answering(self.metrics), settings.together, settings.waiting, self.metrics
        )

    def close(self) -> None:
        """Answer what waits, and give all back."""
        self.turns.close()
        self._batcher.close()
        self.store.close()

    def ready(self) -> None:
        """Raise `StoreUnavailable` when the store does not answer."""
        self.store.check()

    async def person(self, asker: Asker, prepared: Prepared) -> Person:
        """Who asks, with the history that is known now."""
        with self.metrics.timing("history"):
            if asker.user is None:
                return person_given(asker, prepared)
            found = await asyncio.to_thread(person_of, prepared, self.store, asker.user)
        if found.remembered:
            self.metrics.fallbacks.labels("memory").inc()
        return found if asker.profile is None else dataclasses.replace(found, profile=asker.profile)

    async def reply(self, live: Live, asker: Asker, **more: Any) -> Reply:
        """Ask the model; `more` goes to `Question`. Raises `Refused` when it takes too long."""
        deadline = time.monotonic() + self.settings.deadline
        shop = live.shops[live.mode(asker.mode)]
        person = await self._in_time(self.person(asker, live.prepared))
        question = Question(
            shop=shop,
            person=person,
            words=asker.words,
            goals=None
            if asker.objective is None
            else goals_of(asker.objective, asker.weights, live.prepared),
            filters=filters_of(asker.filters, live.prepared),
            enforce=asker.enforce,
            hear=asker.hear,
            **more,
        )
        job = self._batcher.put(question, deadline)
        found: Reply = await self._in_time(
            asyncio.wrap_future(job.outcome), max(0.0, deadline - time.monotonic())
        )
        return found

    async def _in_time(self, awaited: Any, seconds: float | None = None) -> Any:
        try:
            return await asyncio.wait_for(awaited, self.settings.deadline if seconds is None else seconds)
        except TimeoutError:
            self.metrics.refused.labels("deadline").inc()
            limit = f"{self.settings.deadline:g} s"
            raise Refused(
                503, f"this took longer than {limit}: the service is busy, come back later", 1
            ) from None

    def append(self, user: str, events: Sequence[EventIn], key: str | None) -> Appended:
        """Tell the store what a user did; raises `UnknownIdError` for items that are not in the catalogue."""
        prepared = self.bundles.current.prepared
        prepared.catalog.indices([event.item for event in events])
        return self.store.append(user, stored_events(events, prepared), key, int(time.time()))

    def user(self, user: str, newest: int) -> tuple[StoredUser, Person, Live]:
        """What is known of a user."""
        live = self.bundles.current
        stored = self.store.read(user, newest)
        return stored, joined(live.prepared, stored, user), live

    def delete(self, user: str) -> bool:
        """Forget a user: what the store has, and from now on what the bundle has."""
        return self.store.delete_user(user)
