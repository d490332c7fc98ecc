"""Migrations: from an empty database to the newest schema, again without effect, several at once, and by a role that may not."""

import asyncio
import uuid

import asyncpg
import pytest
from postgres_fixture import as_superuser

from docray.domain.errors import Unavailable
from docray.instance import postgres
from docray.stores import migrate as steps
from docray.stores.catalogue_lint import refuse
from docray.stores.migrate import NotAllowedToMigrate, migrate
from docray.stores.postgres import Database


@pytest.fixture
async def empty(postgres_folder):
    name = f"empty_{uuid.uuid4().hex[:12]}"
    await as_superuser(postgres_folder, f"CREATE DATABASE {name}")
    yield lambda user: postgres.dsn(postgres_folder, user, name)
    await as_superuser(postgres_folder, f"DROP DATABASE {name} WITH (FORCE)")


async def schema_of(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT format('%s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod))"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'docray'::regnamespace AND a.attnum > 0 ORDER BY 1"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def test_an_empty_database_becomes_one_that_may_serve(empty):
    version = await migrate(empty("postgres"))
    for role in ("docray_app", "docray_worker"):
        database = Database(empty(role))
        await database.open()
        await refuse(database)
        await database.close()
    assert version


async def test_migrating_again_changes_nothing(empty):
    version = await migrate(empty("postgres"))
    before = await schema_of(empty("postgres"))
    assert await migrate(empty("postgres")) == version
    assert await schema_of(empty("postgres")) == before
    assert before


async def test_tables_that_grow_by_whole_runs_are_vacuumed_and_analysed_early(empty):
    await migrate(empty("postgres"))
    connection = await asyncpg.connect(empty("postgres"))
    rows = await connection.fetch("SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'docray'::regnamespace AND relkind = 'r'")
    await connection.close()
    options = {row["relname"]: set(row["reloptions"] or ()) for row in rows}
    wanted = {"autovacuum_vacuum_insert_scale_factor=0.02", "autovacuum_analyze_scale_factor=0.02"}
    early = {name for name, set_there in options.items() if wanted <= set_there}
    assert early == {"documents", "generations", "pages", "chunks", "chunk_vectors", "keyword_parts", "keyword_postings", "bulk_files"}
    assert "toast_tuple_target=8160" in options["chunk_vectors"]


async def test_several_processes_may_migrate_at_once(empty):
    versions = await asyncio.gather(*(migrate(empty("postgres")) for _ in range(4)))
    assert len(set(versions)) == 1


async def test_a_role_that_may_not_is_told_what_it_needs(postgres_template, empty):
    with pytest.raises(NotAllowedToMigrate, match="CREATEROLE and BYPASSRLS"):
        await migrate(empty("docray_app"))
    connection = await asyncpg.connect(empty("postgres"))
    assert await connection.fetchval("SELECT to_regnamespace('docray')") is None
    await connection.close()


async def test_an_unreachable_server_is_unavailable(tmp_path):
    with pytest.raises(Unavailable):
        await migrate(f"postgresql://postgres@/docray?host={tmp_path}")


async def test_the_application_cannot_see_or_change_versions(test_database):
    connection = await asyncpg.connect(test_database.dsn("docray_app"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("UPDATE docray_migrations.alembic_version SET version_num = '0'")
    await connection.close()


async def test_documents_of_a_database_before_reindexes_keep_their_model(empty):
    connection = await asyncpg.connect(empty("postgres"))
    await connection.execute(steps._SQL["make_roles"])
    await connection.execute(steps._SQL["make_schemas"])
    await connection.execute(steps._script(steps._configuration(), None, "0003"))
    tenants = [uuid.uuid4() for _ in range(3)]
    for place, tenant in enumerate(tenants):
        await connection.execute("INSERT INTO docray.tenants (tenant_id, name) VALUES ($1, $2)", tenant, f"tenant {place}")
    for model, tenant in (("old", tenants[0]), ("new", tenants[1]), ("new", tenants[1]), ("old", tenants[1])):
        document = uuid.uuid4()
        await connection.execute(
            "INSERT INTO docray.documents (tenant_id, id, filename, state, live_generation, next_generation, sha256, size_bytes)"
            " VALUES ($1, $2, 'a.pdf', 'ready', 1, 2, '', 1)", tenant, document,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO docray.generations (tenant_id, document_id, generation, state, sha256, size_bytes, blob_key, embedding_model)"
            " VALUES ($1, $2, 1, 'ready', '', 1, 'b', $3)", tenant, document, model,
        )  # fmt: skip
    await connection.close()
    await migrate(empty("postgres"))
    connection = await asyncpg.connect(empty("postgres"))
    found = dict(await connection.fetch("SELECT tenant_id, embedding_model FROM docray.tenants"))
    assert [found[tenant] for tenant in tenants] == ["old", "new", None]
    assert {row["models"][0] for row in await connection.fetch("SELECT models FROM docray.generations")} == {"old", "new"}
    await connection.close()
    database = Database(empty("docray_app"))
    await database.open()
    await refuse(database)
    await database.close()
