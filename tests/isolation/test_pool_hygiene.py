"""A6: whatever is done to a pooled connection, its next user finds the application's role, no tenant and nothing left behind."""

import asyncio
import contextlib
import random
import uuid

import asyncpg
import pytest
from catalog_factories import add_document

from docray.domain.errors import DocrayError
from docray.stores.postgres import Database
from tests.isolation.sizes import FIGURES, SIZES, dice

_USERS = 4


class Misused(Exception):
    """What a block raises after it did its worst."""


async def misuse(database: Database, kind: int, tenants: list[uuid.UUID], chance: random.Random) -> None:
    """One use of a pooled connection that leaves as much behind as it can."""
    async with database.tenant_tx(chance.choice(tenants)) as connection:
        match kind:
            case 0:
                await connection.execute(f"SET app.tenant_id = '{chance.choice(tenants)}'")
            case 1:
                await connection.execute("SET ROLE docray_app; SET search_path = pg_temp; SET statement_timeout = 1")
            case 2:
                await connection.execute("CREATE TEMP TABLE left_over AS SELECT * FROM docray.documents")
            case 3:
                await connection.execute("SELECT 1/0")
            case 4:
                await connection.execute("SELECT pg_sleep(5)")
            case 5:
                await connection.execute("COMMIT")
                await connection.execute(f"SELECT set_config('app.tenant_id', '{chance.choice(tenants)}', false)")
            case 6:
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute("SELECT 1/0")
            case 7:
                raise Misused
            case 8:
                await connection.execute("DECLARE left_over CURSOR WITH HOLD FOR SELECT * FROM docray.documents")
            case 9:
                await connection.execute("LISTEN left_over; SELECT pg_advisory_lock(1)")
            case 10:
                await connection.execute("CREATE TEMP VIEW documents AS SELECT * FROM docray.documents; SET LOCAL search_path = pg_temp, docray")
            case 11:
                await connection.execute("SELECT count(*) FROM docray.documents")
                await connection.execute("ROLLBACK; SET ROLE docray_app")


KINDS = 12


async def deviations(database: Database, tenant_id: uuid.UUID | None) -> dict[str, object]:
    """What the next user finds that it should not. Its own tenant's rows are one document."""
    async with database.tenant_tx(tenant_id) if tenant_id else database.system_tx() as connection:
        row = await connection.fetchrow(
            "SELECT current_user AS role, session_user AS session, NULLIF(current_setting('app.tenant_id', true), '') AS tenant,"
            " current_setting('search_path') AS path, current_setting('statement_timeout') AS timeout,"
            " (SELECT count(*) FROM docray.documents) AS documents,"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) AS temporary,"
            " (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors, (SELECT count(*) FROM pg_listening_channels()) AS channels,"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks"
        )
    wanted = {"role": "docray_app", "session": "docray_app", "tenant": tenant_id and str(tenant_id), "path": '"$user", public', "timeout": "5s",
              "documents": int(tenant_id is not None), "temporary": 0, "cursors": 0, "channels": 0, "locks": 0}  # fmt: skip
    return {name: row[name] for name, value in wanted.items() if row[name] != value}


async def test_a_pooled_connection_carries_nothing_to_its_next_user(catalog, test_database, new_tenant):
    principals = [await new_tenant() for _ in range(3)]
    for principal in principals:
        await add_document(catalog, principal)
    tenants = [principal.tenant_id for principal in principals]
    database = Database(test_database.dsn("docray_app"), pool_size=3)
    await database.open()
    chance = dice("pool")
    found: list[object] = []

    async def one_use() -> None:
        kind = chance.randrange(KINDS + 1)
        task = asyncio.create_task(misuse(database, kind, tenants, chance))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        if chance.random() < 0.4:
            task.cancel()
        else:
            asyncio.get_running_loop().call_later(0.02, task.cancel)  # whoever sleeps in the database
        with contextlib.suppress(asyncio.CancelledError, DocrayError, Misused):
            await task
        if deviating := await deviations(database, chance.choice([None, *tenants])):
            found.append((kind, deviating))

    async def user() -> None:
        for _ in range(SIZES.pool_uses // _USERS):
            await one_use()

    await asyncio.gather(*(user() for _ in range(_USERS)))
    await database.close()
    FIGURES.append(f"A6 {SIZES.pool_uses} uses of 3 connections by {_USERS} users: {len(found)} deviations")
    assert found[:5] == []


@pytest.mark.parametrize("kind", range(KINDS))
async def test_every_kind_of_misuse_by_itself_leaves_nothing(catalog, test_database, new_tenant, kind):
    principal, other = await new_tenant(), await new_tenant()
    for who in (principal, other):
        await add_document(catalog, who)
    database = Database(test_database.dsn("docray_app"), pool_size=1)
    await database.open()
    with contextlib.suppress(DocrayError, Misused, TimeoutError):
        async with asyncio.timeout(1):
            await misuse(database, kind, [principal.tenant_id], dice("misuse"))
    for tenant_id in (None, other.tenant_id):
        assert await deviations(database, tenant_id) == {}
    await database.close()
