"""The database keeps tenants apart: the lint sees every hole, a pooled connection carries nothing over, no tenant means no rows."""

import asyncio
import contextlib
import random
import uuid

import asyncpg
import pytest
from catalog_factories import add_document, add_ready, purge_all

from docray.domain.catalog import DocumentQuery, Paging
from docray.domain.errors import DocrayError, NotFound, Unavailable
from docray.domain.ids import new_id
from docray.stores.catalogue_lint import UnsafeCatalogue, refuse, violations
from docray.stores.postgres import Database

TENANT_TABLES = (
    "tenants", "users", "api_keys", "documents", "generations", "pages", "chunks", "collections", "collection_documents", "purges",
    "idempotency_keys",
)  # fmt: skip

# Each plants one hole; the sentence that the lint then says has these words.
VIOLATIONS = [
    ("CREATE TABLE docray.loose (id uuid PRIMARY KEY)", "loose has no column tenant_id"),
    ("CREATE TABLE docray.loose (tenant_id uuid, id uuid)", "loose has no column tenant_id uuid NOT NULL"),
    ("CREATE TABLE docray.loose (tenant_id uuid PRIMARY KEY)", "loose lacks ENABLE and FORCE"),
    ("ALTER TABLE docray.chunks NO FORCE ROW LEVEL SECURITY", "chunks lacks ENABLE and FORCE"),
    ("ALTER TABLE docray.chunks DISABLE ROW LEVEL SECURITY", "chunks lacks ENABLE and FORCE"),
    ("ALTER TABLE docray.usage_default NO FORCE ROW LEVEL SECURITY", "usage_default lacks ENABLE and FORCE"),
    ("DROP POLICY tenant_isolation ON docray.chunks", "chunks has not exactly the one policy"),
    ("CREATE POLICY second ON docray.chunks FOR SELECT USING (true)", "chunks has not exactly the one policy"),
    ("CREATE POLICY second ON docray.chunks TO docray_worker USING (true)", "chunks has not exactly the one policy"),
    ("ALTER POLICY tenant_isolation ON docray.chunks WITH CHECK (true)", "chunks has not exactly the one policy"),
    ("ALTER POLICY tenant_isolation ON docray.chunks TO docray_app", "chunks has not exactly the one policy"),
    ("ALTER POLICY tenant_isolation ON docray.chunks USING (tenant_id = current_setting('app.tenant_id', true)::uuid)", "chunks has not exactly"),
    ("CREATE UNIQUE INDEX oracle ON docray.documents (sha256)", "oracle does not begin with tenant_id"),
    ("CREATE UNIQUE INDEX oracle ON docray.documents (sha256, tenant_id)", "oracle does not begin with tenant_id"),
    ("CREATE UNIQUE INDEX oracle ON docray.documents (lower(sha256))", "oracle does not begin with tenant_id"),
    ("ALTER TABLE docray.documents ADD UNIQUE (id, tenant_id);"
     " ALTER TABLE docray.pages ADD CONSTRAINT crossed FOREIGN KEY (document_id, tenant_id) REFERENCES docray.documents (id, tenant_id)", "crossed"),
    ("CREATE MATERIALIZED VIEW public.everything AS SELECT * FROM docray.documents", "materialized view everything"),
    ("CREATE VIEW public.seen AS SELECT * FROM docray.documents", "view seen is not security_invoker"),
    ("ALTER VIEW docray.document_states RESET (security_invoker)", "document_states is not security_invoker"),
    ("GRANT TRUNCATE ON docray.chunks TO docray_worker", "docray_worker has TRUNCATE on docray.chunks"),
    ("GRANT REFERENCES ON docray.chunks TO docray_app", "docray_app has REFERENCES on docray.chunks"),
    ("GRANT TRIGGER ON docray.chunks TO PUBLIC", "docray_app has TRIGGER on docray.chunks"),
    ("GRANT DELETE ON docray.audit_log TO docray_app", "docray_app has DELETE on docray.audit_log"),
    ("ALTER TABLE docray.collections OWNER TO docray_app", "docray_app owns docray.collections"),
    ("ALTER TABLE docray.collections OWNER TO docray_maint", "docray_maint owns docray.collections"),
    ("GRANT CREATE ON SCHEMA docray TO docray_app", "docray_app may create in schema docray"),
    ("CREATE FUNCTION docray.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "peek() is SECURITY DEFINER and belongs to"),
    ("ALTER FUNCTION docray.find_tenant(text) RESET search_path", "find_tenant(text) is SECURITY DEFINER and has no fixed search path"),
    ("GRANT EXECUTE ON FUNCTION docray.find_api_key(bytea) TO PUBLIC", "may be executed by PUBLIC"),
    ("DROP SCHEMA docray CASCADE", "no schema docray"),
]  # fmt: skip

# Roles belong to the whole server: these are planted in a transaction that is rolled back.
ROLE_VIOLATIONS = [
    ("ALTER ROLE docray_app SUPERUSER", "docray_app is superuser"), ("ALTER ROLE docray_worker BYPASSRLS", "docray_worker is superuser, BYPASSRLS"),
    ("ALTER ROLE docray_app CREATEROLE", "docray_app is superuser"), ("GRANT docray_owner TO docray_app", "docray_app is a member of docray_owner"),
    ("GRANT pg_read_all_data TO docray_worker", "docray_worker is a member of pg_read_all_data"),
    ("ALTER ROLE docray_maint LOGIN", "docray_maint may log in"),
    ("ALTER ROLE docray_owner BYPASSRLS", "docray_owner may log in, or has rights beyond its part"),
]  # fmt: skip


async def as_app(superuser):
    """What the lint says of the superuser's open transaction, judged as the application's role."""
    await superuser.execute("SET LOCAL SESSION AUTHORIZATION docray_app")
    try:
        return await violations(superuser)
    finally:
        await superuser.execute("RESET SESSION AUTHORIZATION")


async def test_the_migrated_database_has_no_violation(database, worker_database):
    for each in (database, worker_database):
        await refuse(each)
        async with each.system_tx() as connection:
            assert await violations(connection) == []


@pytest.mark.parametrize(("statement", "words"), VIOLATIONS + ROLE_VIOLATIONS)
async def test_every_hole_is_seen(superuser, statement, words):
    transaction = superuser.transaction()
    await transaction.start()
    try:
        await superuser.execute(statement)
        found = await as_app(superuser)
    finally:
        await transaction.rollback()
    assert any(words in sentence for sentence in found), found


async def test_a_process_refuses_to_serve_over_a_hole(database, superuser):
    await superuser.execute("ALTER TABLE docray.chunks NO FORCE ROW LEVEL SECURITY")
    with pytest.raises(UnsafeCatalogue, match=r"table docray\.chunks lacks"):
        await refuse(database)


async def test_a_superuser_is_refused(test_database):
    database = Database(test_database.dsn("postgres"))
    await database.open()
    with pytest.raises(UnsafeCatalogue, match="role postgres is superuser"):
        await refuse(database)
    await database.close()


async def test_no_tenant_means_no_rows_and_no_error(catalog, queue, database, worker_database, principal, superuser):
    document = await add_ready(catalog, queue, principal)
    async with catalog.transaction(principal) as tx:
        collection = await tx.collections.insert(new_id(), name="c", description=None, metadata={})
        await tx.collections.add(collection.id, document.id, None)
        await tx.documents.insert_generation(document.id, sha256="1" * 64, size_bytes=1, filename=None)
        await tx.documents.insert_generation(document.id, sha256="2" * 64, size_bytes=1, filename=None)
    for each in (database, worker_database):
        for _ in range(3):  # a used connection has '' in the setting, a new one NULL
            async with each.system_tx() as connection:
                for table in TENANT_TABLES:
                    if each is worker_database and table == "idempotency_keys":
                        continue
                    assert await connection.fetchval(f"SELECT count(*) FROM docray.{table}") == 0, table
            async with each.tenant_tx(principal.tenant_id) as connection:
                assert await connection.fetchval("SELECT count(*) FROM docray.documents") == 1
    for table in ("documents", "generations", "pages", "chunks", "collections", "collection_documents", "purges", "api_keys", "users"):
        assert await superuser.fetchval(f"SELECT count(*) FROM docray.{table}") > 0, table


async def test_the_owner_of_the_tables_sees_no_more(superuser, catalog, principal):
    await add_document(catalog, principal)
    async with superuser.transaction():
        await superuser.execute("SET LOCAL ROLE docray_owner")
        assert await superuser.fetchval("SELECT count(*) FROM docray.documents") == 0


async def test_a_tenant_can_neither_read_write_move_nor_count_anothers_rows(catalog, database, principal, other_principal, superuser):
    theirs = await add_document(catalog, other_principal)
    mine = await add_document(catalog, principal)
    rows_of = "SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docray.documents d WHERE tenant_id = $1"
    before = await superuser.fetchval(rows_of, other_principal.tenant_id)
    async with database.tenant_tx(principal.tenant_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM docray.documents") == 1
        assert await connection.execute("UPDATE docray.documents SET title = 'x' WHERE id = $1", theirs.id) == "UPDATE 0"
    writes = [
        ("UPDATE docray.documents SET tenant_id = $1", other_principal.tenant_id),
        ("INSERT INTO docray.collections (tenant_id, id, name) VALUES ($1, gen_random_uuid(), 'x')", other_principal.tenant_id),
        ("INSERT INTO docray.audit_log (tenant_id, principal_kind, action, object_kind) VALUES ($1, 'x', 'x', 'x')", other_principal.tenant_id),
    ]
    for statement, tenant_id in writes:
        with pytest.raises(DocrayError) as caught:
            async with database.tenant_tx(principal.tenant_id) as connection:
                await connection.execute(statement, tenant_id)
        assert "row-level security" in str(caught.value.__cause__)
        assert "row-level" not in str(caught.value)
    assert await superuser.fetchval(rows_of, other_principal.tenant_id) == before
    async with catalog.transaction(principal) as tx:
        assert [d.id for d in (await tx.documents.list(DocumentQuery(), Paging())).items] == [mine.id]


async def test_a_foreign_cursor_shows_ones_own_rows_only(catalog, principal, other_principal):
    for who in (principal, other_principal, principal, other_principal):
        await add_document(catalog, who)
    async with catalog.transaction(other_principal) as tx:
        cursor = (await tx.documents.list(DocumentQuery(), Paging(limit=1))).next_cursor
    async with catalog.transaction(principal) as tx:
        shown = (await tx.documents.list(DocumentQuery(), Paging(after=cursor))).items
        own = {d.id for d in (await tx.documents.list(DocumentQuery(), Paging())).items}
    assert {d.id for d in shown} <= own


async def test_each_role_may_call_its_own_functions_only(database, worker_database):
    for each, statement in ((database, "SELECT docray.lease_job('w', 1, 5, '')"), (worker_database, "SELECT docray.find_api_key('')")):
        with pytest.raises(DocrayError) as caught:
            await each.call(statement)
        assert "permission denied" in str(caught.value.__cause__)


async def test_a_purge_of_one_tenant_leaves_the_others(catalog, queue, principal, other_principal, superuser):
    mine, theirs = await add_ready(catalog, queue, principal), await add_ready(catalog, queue, other_principal)
    async with catalog.transaction(principal) as tx:
        await tx.documents.mark_deleting(mine.id)
        with pytest.raises(NotFound):
            await tx.documents.mark_deleting(theirs.id)
    await purge_all(queue)
    assert [tuple(row) for row in await superuser.fetch("SELECT DISTINCT document_id FROM docray.chunks")] == [(theirs.id,)]


# --- pool hygiene ---------------------------------------------------------------------------------------------------


async def misuse(database: Database, kind: int, tenants: list[uuid.UUID], dice: random.Random) -> None:
    """One use of a pooled connection that leaves as much behind as it can."""
    async with database.tenant_tx(dice.choice(tenants)) as connection:
        match kind:
            case 0:
                await connection.execute(f"SET app.tenant_id = '{dice.choice(tenants)}'")
            case 1:
                await connection.execute("SET ROLE docray_app; SET search_path = pg_temp; SET statement_timeout = 1")
            case 2:
                await connection.execute("CREATE TEMP TABLE left_over AS SELECT 1")
            case 3:
                await connection.execute("SELECT 1/0")
            case 4:
                await connection.execute("SELECT pg_sleep(5)")
            case 5:
                await connection.execute("COMMIT")
                await connection.execute(f"SELECT set_config('app.tenant_id', '{dice.choice(tenants)}', false)")
            case 6:
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute("SELECT 1/0")
            case 7:
                raise RuntimeError


async def assert_clean(database: Database) -> None:
    async with database.system_tx() as connection:
        state = await connection.fetchrow(
            "SELECT current_user AS role, current_setting('app.tenant_id', true) AS tenant, current_setting('search_path') AS path,"
            " current_setting('statement_timeout') AS timeout, (SELECT count(*) FROM docray.documents) AS documents,"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relname = 'left_over') AS temporary"
        )
    assert (state["role"], state["tenant"] or None, state["timeout"], state["documents"], state["temporary"]) == ("docray_app", None, "5s", 0, 0)
    assert "pg_temp" not in state["path"]


async def test_a_pooled_connection_carries_nothing_to_its_next_user(catalog, test_database, new_tenant):
    principals = [await new_tenant() for _ in range(3)]
    for principal in principals:
        await add_document(catalog, principal)
    tenants = [principal.tenant_id for principal in principals]
    database = Database(test_database.dsn("docray_app"), pool_size=3)
    await database.open()
    dice = random.Random(20261123)

    async def one_use() -> None:
        task = asyncio.create_task(misuse(database, dice.randrange(9), tenants, dice))
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        if dice.random() < 0.5:
            task.cancel()
        else:
            asyncio.get_running_loop().call_later(0.02, task.cancel)  # whoever sleeps in the database
        with contextlib.suppress(asyncio.CancelledError, DocrayError, RuntimeError):
            await task
        await assert_clean(database)

    async def user() -> None:
        for _ in range(500):
            await one_use()

    await asyncio.gather(*(user() for _ in range(4)))
    await database.close()


async def test_a_swallowed_error_does_not_pass_for_a_commit(database, catalog, principal):
    document = new_id()

    async def swallow():
        async with database.tenant_tx(principal.tenant_id) as connection:
            await connection.execute("INSERT INTO docray.collections (tenant_id, id, name) VALUES ($1, $2, 'x')", principal.tenant_id, document)
            with contextlib.suppress(asyncpg.PostgresError):
                await connection.execute("SELECT 1/0")

    with pytest.raises(DocrayError):
        await swallow()
    async with catalog.transaction(principal) as tx:
        with pytest.raises(NotFound):
            await tx.collections.get(document)


async def test_a_lost_connection_is_unavailable_and_replaced(database, principal, superuser):
    async def lose_it():
        async with database.tenant_tx(principal.tenant_id) as connection:
            await superuser.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            await connection.fetchval("SELECT 1")

    with pytest.raises(Unavailable):
        await lose_it()
    async with database.tenant_tx(principal.tenant_id) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_statement_that_takes_too_long_is_stopped(database, principal):
    async with database.tenant_tx(principal.tenant_id) as connection:
        limits = await connection.fetchrow(
            "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
        )
        assert tuple(limits) == ("5s", "2s", "10s")
    with pytest.raises(Unavailable):
        async with database.tenant_tx(principal.tenant_id) as connection:
            await connection.execute("SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(5)")


async def test_a_database_that_is_not_there_is_unavailable(tmp_path):
    closed = Database(f"postgresql://docray_app@/docray?host={tmp_path}")
    with pytest.raises(Unavailable):
        await closed.open()
    with pytest.raises(Unavailable):
        async with closed.tenant_tx(new_id()):
            pass


async def test_a_tenant_is_a_uuid(database):
    with pytest.raises(TypeError):
        async with database.tenant_tx("'; DROP TABLE docray.chunks; --"):  # type: ignore[arg-type]
            pass
