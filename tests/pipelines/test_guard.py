"""People search while a run works: it pauses to learn what searches take without it, goes on as fast as they allow, and ends all the same."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from site_fixture import Command, Site
from test_bulk_ingest import filled

from docray.domain.catalog import Paging
from docray.domain.latency import SearchLatency
from docray.domain.principals import Principal
from docray.stores.postgres import Database
from docray.stores.postgres_latency import announce, heard

pytestmark = pytest.mark.timeout(240)


@contextlib.asynccontextmanager
async def searches(site: Site, p95_ms: float) -> AsyncIterator[None]:
    """As if a gateway answered searches in this time."""
    database = Database(site.dsn("docray_app"), pool_size=1)
    await database.open()

    async def tell() -> None:
        while True:
            await announce(database, SearchLatency(gateway="g", p95_ms=p95_ms, searches=40))
            await asyncio.sleep(1)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await database.close()


async def test_what_a_gateway_tells_is_heard(site: Site) -> None:
    async def first() -> SearchLatency:
        async for latency in heard(site.dsn("docray_app")):
            return latency
        raise AssertionError

    async with searches(site, 12.5):
        latency = await asyncio.wait_for(first(), 10)
    assert (latency.gateway, latency.p95_ms, latency.searches) == ("g", 12.5, 40)


async def test_a_run_gives_way_and_ends(site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def job():  # type: ignore[no-untyped-def]
        async with catalog.transaction(principal) as tx:
            found = (await tx.bulk_runs.list(Paging(limit=1))).items
        return found[0] if found else None

    source = filled(tmp_path / "in", 60)
    async with searches(site, 20.0):
        process = ingest.start(source)
        deadline = time.monotonic() + 120
        while (run := await job()) is None or run.pace > 0:
            assert process.poll() is None, "it was through before it gave way"
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        await asyncio.sleep(5)  # what was in work ends
        before = await job()
        assert before.pace == 0
        assert before.ended < before.files
        await asyncio.sleep(4)
        after = await job()
        assert after.ended == before.ended, "it worked although it was to pause"
        while (await job()).pace == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        _, err = await asyncio.to_thread(process.communicate, timeout=200)
    assert process.returncode == 0, err[-4000:]
    assert (await job()).ready == 60
    assert "searches take 20.0 ms without the run" in err
