"""The clients against a running service: the same calls, waiting and under asyncio."""

from __future__ import annotations

import asyncio
import datetime
import inspect
from email.utils import format_datetime
from pathlib import Path

import pytest
from served import USER, Served, copied, served

from llmrec.serving.client import AsyncClient, Client, ServiceError, retry_after


def test_asyncio_client(service: Served):
    async def ask() -> list[str]:
        async with AsyncClient(service.url) as client:
            answers = await asyncio.gather(*(client.recommend(user=USER, k=2) for _ in range(20)))
            lines = [line async for line in client.explain(user=USER, k=1)]
            assert (await client.append("ann", ["22423"]))["count"] == 1
            assert (await client.user("ann"))["in_store"] == 1
            await client.put_profile("ann", {"country": "Malta"})
            assert (await client.user("ann"))["profile"] == {"country": "Malta"}
            with pytest.raises(ServiceError, match="not in the catalogue"):
                await client.change_items(retire=["no such item"])
            assert (await client.score(["22423"], user="ann"))["items"][0]["score"] is not None
            await client.delete_user("ann")
            assert len(lines) == 2
            return [answer["items"][0]["item"] for answer in answers]

    assert len(set(asyncio.run(ask()))) == 1


def test_both_clients_have_the_same_calls():
    def calls(client: type) -> dict[str, list[inspect.Parameter]]:
        """What may be called, with its parameters; what it returns differs, since one of them waits."""
        found = inspect.getmembers(client, inspect.isfunction)
        return {
            name: list(inspect.signature(call).parameters.values())
            for name, call in found
            if not name.startswith("_") or name == "__init__"
        }

    assert calls(AsyncClient) == calls(Client)
    assert {"put_profile", "change_items"} <= calls(Client).keys()


def test_bundles_by_both_clients(tiny_bundle: Path, tmp_path: Path):
    """All that an operator does, without a line of HTTP."""
    with served(copied(tiny_bundle, tmp_path)) as running, Client(running.url) as client:
        assert client.ready()["bundle"] == "bundle@1"
        client.change_items(retire=["22423"])
        assert client.items(["22423", "none"])["unknown"] == ["none"]
        assert client.load_bundle(version=1)["id"] == "bundle@1"
        assert [each["id"] for each in client.bundles()["loaded"]] == ["bundle@1", "bundle@2"]
        assert client.switch_bundle("bundle@1")["kept"]
        assert client.roll_back_bundle()["id"] == "bundle@2"
        assert client.load_bundle(version=1, switch=True)["id"] == client.bundles()["answers"]["id"]

        async def same() -> None:
            async with AsyncClient(running.url) as other:
                assert (await other.ready())["bundle"] == "bundle@1"
                assert (await other.items(["22423"]))["items"][0]["retired"] is False
                assert (await other.users(USER[:3], most=2)) == client.users(USER[:3], most=2)
                assert (await other.load_bundle(version=2))["version"] == 2
                assert (await other.switch_bundle("bundle@2"))["kept"]
                assert (await other.roll_back_bundle())["id"] == "bundle@1"
                assert (await other.bundles()) == client.bundles()
                assert (await other.facets(2)) == client.facets(2)
                with pytest.raises(ServiceError, match="no bundle 'none'"):
                    await other.load_bundle("none")

        asyncio.run(same())
        assert USER in client.users(USER)["users"]


def test_when_to_come_back():
    """In seconds or as a date, as proxies write it; anything else is nothing."""
    assert (retry_after(None), retry_after("3"), retry_after("-3"), retry_after("soon")) == (None, 3, 0, None)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    assert 80 < (retry_after(format_datetime(later, usegmt=True)) or 0) <= 90
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
