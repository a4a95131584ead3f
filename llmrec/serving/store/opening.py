"""Stores by their addresses."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from llmrec.errors import require_extra
from llmrec.serving.store.contract import Store, StoreError
from llmrec.serving.store.remembering import RememberingStore

FORMS = "sqlite:///FILE, redis://HOST:PORT/NUMBER or postgresql://USER@HOST/NAME"


def open_store(url: str) -> RememberingStore:
    """The store at `url`, with a memory for when it does not answer; see docs/store.md.

    Raises `StoreError` for an address or a store that cannot be used, `MissingExtraError`, and
    `StoreUnavailable`.
    """
    return RememberingStore(open_real(url))


def open_real(url: str) -> Store:
    """The store at `url` itself."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise StoreError(f"the store's address has no ://, give {FORMS}")
    if scheme == "sqlite":
        from llmrec.serving.store.sqlite import SqliteStore

        return SqliteStore(_file(url))
    if scheme in ("redis", "rediss", "unix"):
        require_extra("serve", ["redis"], f"a store at {scheme}://")
        from llmrec.serving.store.redis import RedisStore

        return RedisStore(*_server(url))
    if scheme in ("postgresql", "postgres"):
        require_extra("serve", ["psycopg"], f"a store at {scheme}://")
        from llmrec.serving.store.postgres import PostgresStore

        return PostgresStore(*_server(url))
    raise StoreError(f"the store's address begins with {scheme[:20]!r}, give {FORMS}")


def place_of(url: str) -> str:
    """A server's address as it may be shown: without user, password and options."""
    scheme, _, rest = url.partition("://")
    head, _, options = rest.partition("?")
    if "@" in options:  # a password with an unquoted ? perhaps
        return f"{scheme}://..."
    return f"{scheme}://{head.rpartition('@')[2]}"


def _file(url: str) -> Path:
    """The file of `sqlite:///FILE`: relative with three slashes, absolute with four."""
    path = unquote(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and path and "?" not in url and "\0" not in path:
        return Path(path)
    raise StoreError("the store's address must be sqlite:///FILE (sqlite:////FILE from the root)")


def _server(url: str) -> tuple[str, str, bool]:
    """The address for the client's library, the one to show, and whether the server must be durable."""
    head, _, options = url.partition("?")
    others = [option for option in options.split("&") if option and not option.startswith("durable=")]
    said = [option for option in options.split("&") if option.startswith("durable=")]
    if said not in ([], ["durable=no"]):
        raise StoreError(f"the store's address has {said[0][:20]!r}, only durable=no may stand there")
    return "?".join([head, "&".join(others)] if others else [head]), place_of(url), not said
