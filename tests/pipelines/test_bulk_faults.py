"""Bulk runs through what befalls them: PostgreSQL cut off, PostgreSQL ended at once, a driver that stands still for longer than its lease."""

import asyncio
import json
import os
import signal
from pathlib import Path

import asyncpg
import pytest
from bulk_checks import all_is_well, filled, states, until_ready
from site_fixture import Command, Server, Site

from docray.domain.catalog import Paging
from docray.domain.principals import Principal
from docray.instance import postgres

CUT_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"


async def test_a_run_goes_on_when_the_database_was_away(
    site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    process = ingest.start(filled(tmp_path / "in", 24, pages=3))
    await until_ready(catalog, principal, 2, process)
    connection = await asyncpg.connect(site.dsn(postgres.SUPERUSER))
    for _ in range(20):  # every connection is cut, again and again
        await connection.execute(CUT_ALL)
        await asyncio.sleep(0.3)
    await connection.close()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-4000:]
    told = json.loads(out)
    assert (told["state"], told["ready"], told["failed"]) == ("done", 24, 0)
    assert await all_is_well(site, principal) == []


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGKILL])
async def test_a_run_goes_on_when_postgresql_was_ended_at_once(
    site: Site, server: Server, ingest: Command, catalog, principal: Principal, tmp_path: Path, number: signal.Signals,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    process = ingest.start(filled(tmp_path / "in", 24, pages=3))
    await until_ready(catalog, principal, 2, process)
    server.end(number)
    await asyncio.sleep(1.0)  # away for a moment, as under a supervisor
    server.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-4000:]
    told = json.loads(out)
    assert (told["state"], told["files"], told["ready"], told["failed"]) == ("done", 24, 24, 0)
    assert await all_is_well(site, principal) == []


async def test_a_driver_that_stood_still_past_its_lease_changes_nothing_any_more(
    site: Site, ingest: Command, catalog, principal: Principal, tmp_path: Path,
) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    source = filled(tmp_path / "in", 30, pages=4)
    late = ingest.start(source)
    await until_ready(catalog, principal, 2, late)
    os.killpg(late.pid, signal.SIGSTOP)
    connection = await asyncpg.connect(site.dsn(postgres.SUPERUSER))
    async with catalog.transaction(principal) as tx:
        [run] = (await tx.bulk_runs.list(Paging())).items
    await connection.execute("UPDATE docray.bulk_runs SET lease_until = now() WHERE id = $1", run.id)  # the minute that a driver has passes
    await connection.close()
    told = ingest.run(source, "--resume", "--extract-actors", 1)
    assert (told["state"], told["job_id"], told["files"], told["ready"], told["failed"]) == ("done", str(run.id), 30, 30, 0)
    before = await states(catalog, principal)
    os.killpg(late.pid, signal.SIGCONT)
    late.communicate(timeout=300)
    assert late.returncode != 0  # it says that another one drives
    assert await states(catalog, principal) == before == {"ready": 30}
    assert await all_is_well(site, principal) == []
