"""A service without its HTTP: bundles, people, the model's thread, and the store behind them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import Any

from llmrec.data.prepared import Prepared
from llmrec.decode.contract import Filters
from llmrec.errors import LlmrecError, UnknownIdError
from llmrec.serving.answering import Answering, Question, Reply
from llmrec.serving.batching import Batcher
from llmrec.serving.catalogue import CatalogueChanges
from llmrec.serving.keys import KeyRing
from llmrec.serving.live import Bundles, Live
from llmrec.serving.metrics import Metrics
from llmrec.serving.people import Person, events_of, joined, person_of
from llmrec.serving.problems import Refused
from llmrec.serving.schemas import Asker, EventIn, FiltersIn, GoalsIn
from llmrec.serving.settings import ServiceSettings
from llmrec.serving.store.contract import Appended, StoredEvent, StoredUser
from llmrec.serving.store.opening import open_store
from llmrec.verbalize.objective import Objective
from llmrec.verbalize.seasons import SEASONS
from llmrec.verbalize.words import stems

_LOG = logging.getLogger("llmrec.serving")


class Service:
    """Opens the store and the bundle, and answers; `close` gives both back."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Raises `LlmrecError` for what cannot be opened."""
        self.settings, self.metrics = settings, Metrics()
        self.keys = None if settings.keys is None else KeyRing(settings.keys)
        self.bundles = Bundles(settings.bundle, settings.modes, self.metrics)
        self.store = open_store(settings.store_url)
        self.catalogue = CatalogueChanges(self.bundles, self.store)
        try:
            self.catalogue.catch_up()
        except LlmrecError as error:
            _LOG.warning("the catalogue is as in the bundle: %s", error)
        self._batcher: Batcher[Question] = Batcher(
            Answering(self.metrics), settings.together, settings.waiting, self.metrics
        )

    def close(self) -> None:
        """Answer what waits, and give all back."""
        self._batcher.close()
        self.store.close()

    def ready(self) -> None:
        """Raise `StoreUnavailable` when the store does not answer."""
        self.store.check()

    async def person(self, asker: Asker, prepared: Prepared) -> Person:
        """Who asks, with the history that is known now."""
        with self.metrics.timing("history"):
            if asker.user is None:
                given = [
                    each if isinstance(each, EventIn) else EventIn(item=each) for each in asker.history or ()
                ]
                prepared.catalog.indices([each.item for each in given])
                events = events_of(self.stored(given, prepared), prepared.catalog)
                return Person(events, None, asker.profile)
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
        now = None if key is not None else int(time.time())  # a repetition must say the same
        return self.store.append(user, self.stored(events, prepared, now), key)

    def stored(
        self, events: Sequence[EventIn], prepared: Prepared, now: int | None = None
    ) -> list[StoredEvent]:
        """Events as a store keeps them; raises `LlmrecError` for a type or a scenario the data has not."""
        types, columns = prepared.histories.event_types, prepared.histories.scenarios
        for event in events:
            if event.type and event.type not in types:
                raise UnknownIdError(
                    f"events have no type {event.type[:40]!r}, they have: {', '.join(types)}"
                )
            for name, value in event.scenario.items():
                if name not in columns or value not in columns[name].values:
                    known = ", ".join(columns) or "none"
                    raise UnknownIdError(
                        f"events have no scenario {name[:40]!r} {value[:40]!r}; columns: {known}"
                    )
        return [
            StoredEvent(
                event.item,
                now if event.time is None else event.time,
                event.type or types[0],
                event.value,
                tuple(event.scenario.items()),
            )
            for event in events
        ]

    def user(self, user: str, newest: int) -> tuple[StoredUser, Person, Live]:
        """What is known of a user."""
        live = self.bundles.current
        stored = self.store.read(user, newest)
        return stored, joined(live.prepared, stored, user), live

    def delete(self, user: str) -> bool:
        """Forget a user: what the store has, and from now on what the bundle has."""
        return self.store.delete_user(user)


def filters_of(given: FiltersIn, prepared: Prepared) -> Filters:
    """The limits by indices; raises `UnknownIdError` for unknown items."""
    seen = given.seen or given.again
    if given.seen is False and given.again:
        raise LlmrecError("filters: again (items of the history only) contradicts seen: false")
    return Filters(
        max_price=given.max_price,
        min_price=given.min_price,
        include_words=tuple(given.words),
        exclude_words=tuple(given.not_words),
        include_categories=tuple(given.categories),
        exclude_categories=tuple(given.not_categories),
        attributes=tuple((name, tuple(values)) for name, values in given.attributes.items()),
        exclude_attributes=tuple((name, tuple(values)) for name, values in given.not_attributes.items()),
        exclude_items=tuple(prepared.catalog.indices(given.exclude)),
        allowed_items=None if given.only is None else tuple(prepared.catalog.indices(given.only)),
        exclude_seen=not seen,
        seen_before=given.again,
        new_category=given.new_category,
        long_tail=given.long_tail,
        fresh=given.fresh,
        price_levels=() if given.price_level is None else (given.price_level,),
    )


def goals_of(given: GoalsIn, weights: dict[str, float], prepared: Prepared) -> Objective:
    """The objective by indices and stems; raises `LlmrecError` for parts that cannot be."""
    values = given.model_dump()
    for name in ("include_words", "exclude_words"):
        values[name] = tuple(dict.fromkeys(stem for word in values[name] for stem in stems(word)))
    values["like"] = None if given.like is None else prepared.catalog.index(given.like)
    values["event"] = given.event or ""
    values["price_level"] = given.price_level or ""
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(tuple(each) if isinstance(each, tuple | list) else each for each in value)
    types = prepared.histories.event_types
    if given.event is not None and given.event not in types:
        raise UnknownIdError(
            f"objective: events have no type {given.event[:40]!r}, they have: {', '.join(types)}"
        )
    if given.season is not None and given.season not in SEASONS:
        raise UnknownIdError(f"objective: there is no season {given.season[:40]!r}: {', '.join(SEASONS)}")
    unused = set(weights) - set(given.model_fields_set)
    if unused:
        raise LlmrecError(f"weights: {sorted(unused)[0][:40]!r} is no part of the objective")
    return Objective(**values, weights=tuple(weights.items()))
