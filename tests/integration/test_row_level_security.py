"""The database keeps tenants apart: the lint sees every hole, a pooled connection carries nothing over, no tenant means no rows."""

import contextlib

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
    ("CREATE VIEW public.inner WITH (security_invoker = true) AS SELECT * FROM docray.documents;"
     " CREATE VIEW public.seen AS SELECT * FROM public.inner", "view seen is not security_invoker"),
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
    ("ALTER ROLE docray_app SET app.tenant_id = '00000000-0000-0000-0000-000000000001'", "app.tenant_id is preset for role docray_app"),
    ("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET app.tenant_id = %L', current_database(), gen_random_uuid()); END $$",
     "preset for every role"),
    ("SET LOCAL app.tenant_id = '00000000-0000-0000-0000-000000000001'", "app.tenant_id is preset for this session"),
    ("ALTER FUNCTION docray.find_tenant(text) OWNER TO postgres", "find_tenant(text) is SECURITY DEFINER and belongs to postgres"),
    ("CREATE TABLE docray.foreign_rows PARTITION OF docray.usage FOR VALUES FROM ('1999-01-01') TO ('1999-02-01')", "foreign_rows lacks ENABLE"),
    ("GRANT CREATE ON SCHEMA public TO docray_app", "docray_app may create in schema public"),
    ("GRANT UPDATE ON docray.usage TO docray_worker", "docray_worker has UPDATE on docray.usage"),
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


# --- the door (what a connection carries to its next user: tests/isolation/test_pool_hygiene.py) --------------------------------


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
