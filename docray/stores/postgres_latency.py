"""Gateways tell how long searches take, bulk runs hear it: over a channel of PostgreSQL, which keeps none of it.

Nothing of a tenant is in it. LISTEN needs a connection of its own: a bulk run behind a pooler needs one that keeps sessions.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson

from docray.domain.errors import Unavailable
from docray.domain.latency import SearchLatency
from docray.stores.postgres import Database
from docray.stores.postgres_errors import connecting

CHANNEL = "docray_search_latency"
_TELL = "SELECT pg_notify($1, $2)"


async def announce(database: Database, latency: SearchLatency) -> None:
    """Tells whoever listens. Unavailable when the database does not answer."""
    await database.call(_TELL, CHANNEL, orjson.dumps(dataclasses.asdict(latency)).decode())


async def heard(dsn: str) -> AsyncIterator[SearchLatency]:
    """What gateways tell from now on. Unavailable when there is no connection, or it is lost."""
    told: asyncio.Queue[SearchLatency | None] = asyncio.Queue(maxsize=1_000)

    def hear(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if not told.full():
            told.put_nowait(SearchLatency(**orjson.loads(str(payload))))

    def end(_connection: Any) -> None:
        if told.full():
            told.get_nowait()
        told.put_nowait(None)

    with connecting():
        connection = await asyncpg.connect(dsn)
        await connection.add_listener(CHANNEL, hear)
    connection.add_termination_listener(end)
    try:
        while (latency := await told.get()) is not None:
            yield latency
    finally:
        connection.terminate()
    raise Unavailable
