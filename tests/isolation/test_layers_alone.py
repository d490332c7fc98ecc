"""A4: each layer keeps tenants apart where the others are missing: row-level security, the statements' own conditions, read-time authority."""

import random
import re
import sys
from collections.abc import Mapping, Sequence

import pytest
from catalog_factories import add_document, some_pages, take_to

from docray.domain.catalog import DocumentQuery, Paging
from docray.domain.documents import State
from docray.domain.errors import NotFound
from docray.domain.ids import new_id
from docray.domain.questions import Scope, SearchMode, SearchRequest
from docray.stores import sql
from tests.isolation.fuzz import fuzz
from tests.isolation.sizes import FIGURES, SIZES, dice
from tests.isolation.world import World, made, tables

_FILES = ("audit", "collections", "documents", "idempotency", "index", "jobs", "keys", "passages", "purges", "reindexes", "tenants")
_PARAMETER = re.compile(r"\b(?:\w+\.)?tenant_id = \$(\d+)")
_OWN = re.compile(r"\b(?:\w+\.)?tenant_id = " + re.escape(sql._TENANT))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return dice(request.node.name)


@pytest.fixture
async def world(database, worker_database, superuser, tmp_path, chance) -> World:
    return await made(
        tenants=SIZES.layer_tenants, documents=2, database=database, worker_database=worker_database, superuser=superuser, folder=tmp_path,
        dice=chance,
    )  # fmt: skip


async def assert_apart(world: World, chance: random.Random, what: str, moved: Sequence[str] = ()) -> None:
    """A slice of the fuzz finds no leak, no difference and no change.

    Where rows of the index were moved, others' words are in one's own index: they may change the order of one's own passages, and nothing else.
    """
    before = await world.fingerprints(world.victims)
    report = await fuzz(world, SIZES.layer_requests, chance)
    FIGURES.append(f"A4 {what}: {report.figure()}")
    assert report.leaks[:3] == []
    assert [text for text in report.differences if not (moved and ("/v1/search" in text or "/v1/ask" in text))][:3] == []
    assert await world.fingerprints(world.victims) == before
    assert await world.foreign_rows(but=moved) == []
    assert world.foreign_prompts() == []
    assert report.own_tokens


# --- row-level security alone -------------------------------------------------------------------------------------------


@pytest.fixture
def statements_name_no_tenant(monkeypatch: pytest.MonkeyPatch) -> int:
    """Takes every condition on the tenant out of every statement; returns how many there were."""
    count = 0
    for module in [module for name, module in sys.modules.items() if name.startswith("docray.stores.")]:
        for name, found in list(vars(module).items()):
            if isinstance(found, Mapping) and name.isupper() and _is_statements(found):
                changed = {}
                for query_name, query in found.items():
                    query, parameters = _PARAMETER.subn(r"($\1::uuid IS NOT NULL)", query)
                    query, own = _OWN.subn("TRUE", query)
                    count += parameters + own
                    changed[query_name] = query
                monkeypatch.setattr(module, name, changed)
    return count


def _is_statements(found: Mapping[object, object]) -> bool:
    return bool(found) and all(isinstance(query, str) and query.startswith("-- name:") for query in found.values())


async def test_row_level_security_alone_keeps_tenants_apart(world, chance, statements_name_no_tenant):
    assert statements_name_no_tenant > 100
    await assert_apart(world, chance, "row-level security alone")


# --- the statements' own conditions alone -------------------------------------------------------------------------------


@pytest.fixture
async def no_row_level_security(superuser) -> None:
    for table in await tables(superuser):
        await superuser.execute(f"ALTER TABLE docray.{table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")


async def test_the_conditions_of_the_statements_alone_keep_tenants_apart(world, chance, no_row_level_security):
    await assert_apart(world, chance, "statements' conditions alone")


async def test_a_worker_without_row_level_security_touches_its_own_tenant_only(
    catalog, queue, principal, other_principal, superuser, no_row_level_security
):
    """Both tenants have a document of the same id, which no two ever have: the statements must not go by it alone."""
    identity = new_id()
    for who in (other_principal, principal):
        await add_document(catalog, who, id=identity)
    pages = some_pages()
    leases = [await queue.lease("one", 60.0) for _ in range(2)]
    theirs, mine = (next(lease for lease in leases if lease.tenant_id == who.tenant_id) for who in (other_principal, principal))
    await take_to(queue, theirs, State.READY, pages)

    async def rows_of_theirs() -> list[object]:
        found = []
        for table in await tables(superuser):
            found += await superuser.fetch(f"SELECT t::text FROM docray.{table} t WHERE tenant_id = $1 ORDER BY 1", other_principal.tenant_id)
        return found

    before = await rows_of_theirs()
    await queue.heartbeat(mine, 60.0)
    await queue.progress(mine, "extract", 1, 2)
    await take_to(queue, mine, State.READY, pages)
    async with catalog.transaction(principal) as tx:
        collection = await tx.collections.insert(new_id(), name="c", description=None, metadata={})
        await tx.collections.add(collection.id, identity, None)
        await tx.documents.patch(identity, title="mine")
        await tx.documents.insert_generation(identity, sha256="1" * 64, size_bytes=1, filename=None)
        await tx.collections.delete(collection.id, delete_documents=True)
    while purge := await queue.lease_purge("one", 60.0):
        assert purge.tenant_id == principal.tenant_id
        await queue.hold_purge(purge, 60.0)
        await queue.blob_keys_of(purge)
        await queue.finish_purge(purge)
    assert await rows_of_theirs() == before
    async with catalog.transaction(principal) as tx:
        assert (await tx.documents.list(DocumentQuery(), Paging())).items == []
        with pytest.raises(NotFound):
            await tx.documents.get(identity)


@pytest.mark.parametrize("name", _FILES)
def test_every_statement_on_rows_of_tenants_names_the_tenant(name: str):
    """As many conditions as tables: a table whose rows are joined by tenant counts, and an insert that writes the tenant."""
    for query_name, query in sql.load(name).items():
        statement = "\n".join(line for line in query.splitlines() if not line.startswith("--"))
        used = re.findall(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+docray\.(\w+)\b(?!\()", statement)
        assert statement.count("tenant_id") >= len(used), f"{name}.{query_name}"
        if used and "INSERT" not in statement:
            assert _PARAMETER.search(statement) or _OWN.search(statement) or "tenant_id = d.tenant_id" in statement, f"{name}.{query_name}"


# --- read-time authority alone ------------------------------------------------------------------------------------------

_INDEX = ("chunk_vectors", "keyword_parts", "keyword_postings")


async def test_index_rows_of_another_tenant_show_nothing(world, chance, superuser):
    """All rows of the victims are moved to the attackers by hand, and those of attackers copied to each other."""
    for victim, attacker in zip(world.victims, world.attackers, strict=True):
        for table in _INDEX:
            await superuser.execute(f"UPDATE docray.{table} SET tenant_id = $2 WHERE tenant_id = $1", victim.tenant_id, attacker.tenant_id)
    for attacker, other in zip(world.attackers, world.attackers[1:] + world.attackers[:1], strict=True):
        for table in _INDEX:
            columns = await superuser.fetchval(
                "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute"
                " WHERE attrelid = ('docray.' || $1)::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'tenant_id'", table,
            )  # fmt: skip
            await superuser.execute(
                f"INSERT INTO docray.{table} (tenant_id, {columns}) SELECT $2, {columns} FROM docray.{table} WHERE tenant_id = $1"
                " ON CONFLICT DO NOTHING", other.tenant_id, attacker.tenant_id,
            )  # fmt: skip
    await assert_the_index_lies(world)
    await assert_apart(world, chance, "index rows moved by hand", moved=_INDEX)


async def assert_the_index_lies(world: World) -> None:
    """The index does give attackers others' chunks: the test above tests something."""
    for victim, attacker in zip(world.victims, world.attackers, strict=True):
        found = await world.index.search_keyword(attacker.tenant_id, victim.documents[1].text, 10, Scope())
        assert {candidate.chunk_id for candidate in found} & set(victim.documents[1].chunks)


async def test_an_index_that_gives_others_chunks_first_does_not_crowd_out_ones_own(world, superuser):
    victim, attacker = world.victims[0], world.attackers[0]
    for table in _INDEX:
        await superuser.execute(f"UPDATE docray.{table} SET tenant_id = $2 WHERE tenant_id = $1", victim.tenant_id, attacker.tenant_id)
    parts = world.app.state.parts
    for mode in SearchMode:
        found = await parts.services.search.search(attacker.principal, SearchRequest(query="valve harbour bridge town", mode=mode, limit=50))
        assert {hit.document.id for hit in found.hits} <= {document.id for document in attacker.documents}
        assert found.hits, mode
