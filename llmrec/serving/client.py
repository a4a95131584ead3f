"""Clients of the service, for programs that wait and for asyncio: the same calls, the same errors.

with Client("http://127.0.0.1:8000") as client:
    print(client.recommend(user="12583", words="something for tea", k=5)["items"])
"""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from llmrec.errors import LlmrecError

SECONDS = 60.0
"""Seconds to wait for an answer unless told otherwise."""


class ServiceError(LlmrecError):
    """The service refused: `status` as in HTTP, `retry` seconds after which to come back (None: do not)."""

    def __init__(self, status: int, detail: str, retry: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.retry = status, retry


class _Calls:
    """What the calls of both clients send."""

    @staticmethod
    def _options(url: str, key: str | None, seconds: float) -> dict[str, Any]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return {"base_url": url, "headers": headers, "timeout": seconds}

    @staticmethod
    def _events(user: str, events: Sequence[str | Mapping[str, Any]], key: str | None) -> dict[str, Any]:
        told = [{"item": each} if isinstance(each, str) else dict(each) for each in events]
        return {"user": user, "events": told} | ({} if key is None else {"key": key})

    @staticmethod
    def _user(user: str) -> str:
        return f"/v1/users/{quote(user, safe='')}"

    @staticmethod
    def _found(response: httpx.Response) -> Any:
        if response.is_success:
            return response.json()
        try:
            detail = str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"the service answered {response.status_code}"
        raise ServiceError(response.status_code, detail, retry_after(response.headers.get("retry-after")))

    @staticmethod
    def _bundle(name: str | None, version: int | None, switch: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"switch": switch}
        return told | {key: each for key, each in (("name", name), ("version", version)) if each is not None}


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or from a proxy a date; None for what is neither."""
    if header is None:
        return None
    try:
        return max(0.0, float(int(header)))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())


class Client(_Calls):
    """Asks a service and waits; fields are those of its API. Raises `ServiceError` and httpx's errors."""

    def __init__(self, url: str, key: str | None = None, seconds: float = SECONDS) -> None:
        self._http = httpx.Client(**self._options(url, key, seconds))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back connections."""
        self._http.close()

    def recommend(self, **ask: Any) -> Any:
        """A list: `user` or `history`, `words`, `k`, `filters`, ..."""
        return self._post("/v1/recommend", ask)

    def score(self, candidates: Sequence[str], **ask: Any) -> Any:
        """Scores of given items."""
        return self._post("/v1/score", {**ask, "candidates": list(candidates)})

    def explain(self, **ask: Any) -> Iterator[Any]:
        """The list, then the reasons of each item, as they come."""
        with self._http.stream("POST", "/v1/explain", json=ask) as response:
            if not response.is_success:
                response.read()
                self._found(response)
            for line in response.iter_lines():
                yield json.loads(line)

    def append(self, user: str, events: Sequence[str | Mapping[str, Any]], key: str | None = None) -> Any:
        """Tell what a user did: item ids, or events."""
        return self._post("/v1/events", self._events(user, events, key))

    def user(self, user: str, newest: int = 50) -> Any:
        """What is known of a user."""
        return self._found(self._http.get(self._user(user), params={"newest": newest}))

    def put_profile(self, user: str, profile: Mapping[str, str | float]) -> Any:
        """Replace a user's attributes."""
        return self._found(self._http.put(self._user(user), json={"profile": dict(profile)}))

    def delete_user(self, user: str) -> Any:
        """Delete a user."""
        return self._found(self._http.delete(self._user(user)))

    def users(self, starting: str = "", most: int = 20) -> Any:
        """Ids of users of the bundle that begin with `starting`."""
        return self._get("/v1/users", starting=starting, most=most)

    def items(self, ids: Sequence[str]) -> Any:
        """Titles, prices, categories of at most 100 items."""
        return self._get("/v1/items", ids=list(ids))

    def facets(self, most: int = 50) -> Any:
        """What filters can name: the `most` frequent categories and values of attributes, and prices."""
        return self._get("/v1/facets", most=most)

    def change_items(self, **changes: Any) -> Any:
        """`add`, `update` or `retire` items."""
        return self._post("/v1/items", changes)

    def bundles(self) -> Any:
        """What is loaded and what answers."""
        return self._get("/v1/bundles")

    def load_bundle(self, name: str | None = None, version: int | None = None, switch: bool = False) -> Any:
        """Load a version, or the bundle `name` beside the first one; with `switch` it answers then."""
        return self._post("/v1/bundles", self._bundle(name, version, switch))

    def switch_bundle(self, bundle: str) -> Any:
        """Let a loaded bundle answer, by its id."""
        return self._post("/v1/bundles/switch", {"id": bundle})

    def roll_back_bundle(self) -> Any:
        """Let the bundle answer again that did before the last switch."""
        return self._post("/v1/bundles/rollback", None)

    def ready(self) -> Any:
        """Which bundle answers; raises `ServiceError` when the service's store does not."""
        return self._get("/readyz")

    def _get(self, path: str, **query: Any) -> Any:
        return self._found(self._http.get(path, params=query))

    def _post(self, path: str, body: Mapping[str, Any] | None) -> Any:
        return self._found(self._http.post(path, json=body))


class AsyncClient(_Calls):
    """The same under asyncio."""

    def __init__(self, url: str, key: str | None = None, seconds: float = SECONDS) -> None:
        self._http = httpx.AsyncClient(**self._options(url, key, seconds))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back connections."""
        await self._http.aclose()

    async def recommend(self, **ask: Any) -> Any:
        """See `Client.recommend`."""
        return await self._post("/v1/recommend", ask)

    async def score(self, candidates: Sequence[str], **ask: Any) -> Any:
        """See `Client.score`."""
        return await self._post("/v1/score", {**ask, "candidates": list(candidates)})

    async def explain(self, **ask: Any) -> AsyncIterator[Any]:
        """See `Client.explain`."""
        async with self._http.stream("POST", "/v1/explain", json=ask) as response:
            if not response.is_success:
                await response.aread()
                self._found(response)
            async for line in response.aiter_lines():
                yield json.loads(line)

    async def append(
        self, user: str, events: Sequence[str | Mapping[str, Any]], key: str | None = None
    ) -> Any:
        """See `Client.append`."""
        return await self._post("/v1/events", self._events(user, events, key))

    async def user(self, user: str, newest: int = 50) -> Any:
        """See `Client.user`."""
        return self._found(await self._http.get(self._user(user), params={"newest": newest}))

    async def put_profile(self, user: str, profile: Mapping[str, str | float]) -> Any:
        """See `Client.put_profile`."""
        return self._found(await self._http.put(self._user(user), json={"profile": dict(profile)}))

    async def delete_user(self, user: str) -> Any:
        """See `Client.delete_user`."""
        return self._found(await self._http.delete(self._user(user)))

    async def users(self, starting: str = "", most: int = 20) -> Any:
        """See `Client.users`."""
        return await self._get("/v1/users", starting=starting, most=most)

    async def items(self, ids: Sequence[str]) -> Any:
        """See `Client.items`."""
        return await self._get("/v1/items", ids=list(ids))

    async def facets(self, most: int = 50) -> Any:
        """See `Client.facets`."""
        return await self._get("/v1/facets", most=most)

    async def change_items(self, **changes: Any) -> Any:
        """See `Client.change_items`."""
        return await self._post("/v1/items", changes)

    async def bundles(self) -> Any:
        """See `Client.bundles`."""
        return await self._get("/v1/bundles")

    async def load_bundle(
        self, name: str | None = None, version: int | None = None, switch: bool = False
    ) -> Any:
        """See `Client.load_bundle`."""
        return await self._post("/v1/bundles", self._bundle(name, version, switch))

    async def switch_bundle(self, bundle: str) -> Any:
        """See `Client.switch_bundle`."""
        return await self._post("/v1/bundles/switch", {"id": bundle})

    async def roll_back_bundle(self) -> Any:
        """See `Client.roll_back_bundle`."""
        return await self._post("/v1/bundles/rollback", None)

    async def ready(self) -> Any:
        """See `Client.ready`."""
        return await self._get("/readyz")

    async def _get(self, path: str, **query: Any) -> Any:
        return self._found(await self._http.get(path, params=query))

    async def _post(self, path: str, body: Mapping[str, Any] | None) -> Any:
        return self._found(await self._http.post(path, json=body))
