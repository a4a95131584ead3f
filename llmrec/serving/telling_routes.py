"""Endpoints that tell: behaviour, users, items, bundles."""

from __future__ import annotations

import datetime
from typing import Any

from fastapi import APIRouter, Depends, Query

from llmrec.errors import DataError
from llmrec.serving.access import allowed, service
from llmrec.serving.live import Live
from llmrec.serving.schemas import BundleChoice, Events, Items, Profile, Switch
from llmrec.serving.service import Service
from llmrec.serving.store.contract import ItemChange

_LISTED = 100
write = APIRouter(prefix="/v1", tags=["tell"], dependencies=[Depends(allowed("write"))])
admin = APIRouter(prefix="/v1", tags=["run"], dependencies=[Depends(allowed("admin"))])

# Plain functions: FastAPI runs them in threads, since stores block. What takes seconds has its own (`turns`).


@write.post("/events")
def events(told: Events, own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """Append what a user did; the next answer knows. On the disk when this returns."""
    done = own.append(told.user, told.events, told.key)
    return {"user": told.user, "count": done.count, "repeated": done.repeated}


@write.get("/users")
def users(
    own: Service = Depends(service),  # noqa: B008
    starting: str = Query("", max_length=256),
    most: int = Query(20, ge=1, le=_LISTED),
) -> dict[str, Any]:
    """Some users of the bundle whose ids begin so."""
    found = (user for user in own.bundles.current.prepared.histories.users if user.startswith(starting))
    return {"users": [user for user, _ in zip(found, range(most), strict=False)]}


@write.get("/users/{user:path}")
def see(
    user: str,
    own: Service = Depends(service),  # noqa: B008
    newest: int = Query(50, ge=0, le=1_000),
) -> dict[str, Any]:
    """What is known of a user: profile, and the newest events with titles and times, oldest first."""
    stored, person, live = own.user(user, max(newest, 1))
    catalog = live.prepared.catalog
    shown = person.history[len(person.history) - min(newest, len(person.history)) :]
    known = {} if person.position is None else live.prepared.attributes(person.position)
    return {
        "user": user,
        "profile": dict(known if person.profile is None else person.profile),
        "events": [
            {
                "item": catalog[event.item].id,
                "title": catalog[event.item].title,
                "time": None if event.time is None else _moment(event.time),
                "type": event.type,
                "value": event.value,
                "scenario": dict(event.scenario),
            }
            for event in shown
        ],
        "in_bundle": person.position is not None,
        "in_store": stored.count,
        "erased": stored.erased,
        "remembered": stored.remembered,
    }


@write.put("/users/{user:path}")
def describe(user: str, told: Profile, own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """Replace a user's attributes."""
    own.store.put_profile(user, told.profile)
    return {"user": user, "profile": told.profile}


@write.delete("/users/{user:path}")
def forget(user: str, own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """Delete a user: what the store has is gone, what the bundle has is not used any more."""
    return {"user": user, "deleted": own.delete(user)}


@admin.post("/items")
async def items(told: Items, own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """Add, update or retire items: logged in the store, made in a new version, which answers then."""
    changes = [ItemChange("retire", name) for name in told.retire]
    for kind, rows in (("add", told.add), ("update", told.update)):
        for number, row in enumerate(rows, 1):
            name = row.get("id")
            if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
                raise DataError(f"{kind}: row {number} has no id")
            fields = {field: value for field, value in row.items() if field != "id"}
            changes.append(ItemChange(kind, str(name), fields))
    return _said(await own.turns.run(lambda: own.catalogue.make(changes)))


@admin.get("/bundles")
def bundles(own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """What is loaded and what answers."""
    return {"answers": _said(own.bundles.current), "loaded": [_said(live) for live in own.bundles.loaded]}


@admin.post("/bundles")
async def load(choice: BundleChoice, own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """Load a bundle or a version next to what answers; with `switch`, let it answer then."""

    def made() -> dict[str, Any]:
        live = own.bundles.load(own.bundles.place(choice.name, choice.version))
        return _switched(*own.bundles.switch(live.id)) if choice.switch else _said(live)

    return await own.turns.run(made)


@admin.post("/bundles/switch")
def switch(choice: Switch, own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """Let a loaded bundle answer; requests under way are answered by the one they began with.

    It answers after a restart too, unless `kept` is false: then the choice could not be written.
    """
    return _switched(*own.bundles.switch(choice.id))


@admin.post("/bundles/rollback")
def rollback(own: Service = Depends(service)) -> dict[str, Any]:  # noqa: B008
    """Let the bundle answer again that did before the last switch."""
    return _switched(*own.bundles.rollback())


def _said(live: Live) -> dict[str, Any]:
    return {
        "id": live.id,
        "version": live.version,
        "items": len(live.prepared.catalog),
        "log": live.log,
        "modes": list(live.shops),
    }


def _switched(live: Live, kept: bool) -> dict[str, Any]:
    return {**_said(live), "kept": kept}


def _moment(seconds: int) -> str | None:
    """A time as people write it (UTC); None for one that no calendar has."""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return None
