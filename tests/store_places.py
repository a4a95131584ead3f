"""An empty place for each kind of store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import redis

KINDS = ("sqlite", "redis", "postgresql")
TABLES = ("users", "events", "appends", "erased", "changes", "change_keys", "store")


def empty_place(kind: str, server_of: Callable[[str], Any], folder: Path) -> str:
    """The address of a store of that kind in which nothing is."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/store.db"
    url = server_of(kind).url
    if kind == "redis":
        with redis.Redis.from_url(url) as client:
            client.flushall()
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            for table in TABLES:
                connection.execute(f"DROP TABLE IF EXISTS llmrec_{table}")
    return url
