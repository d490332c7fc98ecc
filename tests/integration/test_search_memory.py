"""What a search remembers of postings is of its own tenant and of the corpus as it is now; what it reads together it only reads."""

from collections.abc import Sequence

import numpy as np
import pytest
from catalog_factories import add_ready, chunks_of, some_pages

from docray.domain.documents import Chunk
from docray.domain.errors import DocrayError
from docray.domain.ids import chunk_id, new_id
from docray.domain.principals import Principal
from docray.domain.questions import Scope
from docray.stores.pgvector_index import PgVectorIndex

ALL = Scope()
MODEL = "test-model"
VECTOR = np.array([1.0, 0.0], np.float32)


@pytest.fixture
def index(worker_database):
    """The index as a worker has it: another process."""
    return PgVectorIndex(worker_database)


@pytest.fixture
def searching(database):
    """The index as a gateway has it."""
    return PgVectorIndex(database)


@pytest.fixture
def add(catalog, queue, index):
    async def added(principal: Principal, *texts: str, **changes):
        """A ready document, whose chunks the index has under these texts."""
        pages = some_pages(len(texts))
        document = await add_ready(catalog, queue, principal, pages=pages, **changes)
        return document, await write(index, principal, document.id, texts)

    return added


async def write(index, principal, document_id, texts: Sequence[str], generation: int = 1):
    chunks = [
        Chunk(n=chunk.n, text=text, spans=chunk.spans, pages=chunk.pages, context="", tokens=9)
        for chunk, text in zip(chunks_of(some_pages(len(texts))), texts, strict=True)
    ]
    ids = [chunk_id(principal.tenant_id, document_id, generation, chunk.n) for chunk in chunks]
    vectors = np.tile(VECTOR, (len(texts), 1))
    await index.upsert(principal.tenant_id, document_id, generation, list(zip(ids, chunks, strict=True)), vectors, MODEL)
    return ids


async def found(searching, principal, query: str):
    return [candidate.chunk_id for candidate in await searching.search_keyword(principal.tenant_id, query, 20, ALL)]


async def test_words_are_remembered_until_the_epoch_moves_on(searching, superuser, principal, add):
    _, ids = await add(principal, "The zinc of the roof.", "The tin of the roof.")
    assert await found(searching, principal, "zinc") == ids[:1]
    await superuser.execute("DELETE FROM docray.keyword_postings")  # the epoch stays: nobody has to look again
    assert await found(searching, principal, "zinc") == ids[:1]
    assert await found(searching, principal, "tin") == []
    await superuser.execute("UPDATE docray.tenants SET corpus_epoch = corpus_epoch + 1")
    assert await found(searching, principal, "zinc") == []


@pytest.mark.parametrize("warm", [("zinc",), ("zinc", "zinc roof"), ("zinc", "roof", "brass")])
async def test_what_is_published_is_found_at_once_by_words_that_were_asked_before(searching, principal, add, warm):
    _, first = await add(principal, "zinc roof")
    for query in warm:
        await found(searching, principal, query)
    _, second = await add(principal, "zinc floor", "brass roof")
    assert set(await found(searching, principal, "zinc")) == {first[0], second[0]}
    assert set(await found(searching, principal, "roof")) == {first[0], second[1]}
    assert await found(searching, principal, "brass") == [second[1]]
    dense, keyword = await searching.search_hybrid(principal.tenant_id, "zinc", VECTOR, 20, ALL, MODEL)
    assert {candidate.chunk_id for candidate in keyword} == {first[0], second[0]}
    assert len(dense) == 3


async def test_a_part_that_was_purged_without_a_new_epoch_makes_room_for_what_there_is(searching, superuser, principal, add):
    documents = [await add(principal, *[f"zinc number{place}"] * 3) for place in range(12)]
    await found(searching, principal, "zinc")
    assert len(documents) * 3 > 20
    assert len(await found(searching, principal, "zinc")) == 20
    gone = [document.id for document, _ in documents[:11]]
    parts = [row[0] for row in await superuser.fetch("SELECT part FROM docray.keyword_parts WHERE document_id = ANY ($1)", gone)]
    await superuser.execute("DELETE FROM docray.keyword_postings WHERE part = ANY ($1)", parts)
    await superuser.execute("DELETE FROM docray.keyword_parts WHERE document_id = ANY ($1)", gone)
    assert set(await found(searching, principal, "zinc")) == set(documents[11][1])


async def test_tenants_remember_apart(searching, principal, other_principal, add):
    _, mine = await add(principal, "zinc roof")
    assert await found(searching, principal, "zinc") == mine
    assert await found(searching, other_principal, "zinc") == []
    _, theirs = await add(other_principal, "zinc zinc")
    for _ in range(2):
        assert await found(searching, other_principal, "zinc") == theirs
        assert await found(searching, principal, "zinc") == mine


async def test_a_remembered_search_gives_the_candidates_of_a_new_one(searching, database, principal, add):
    for place in range(6):
        await add(principal, *(f"report {n} of the zinc town {n % place if place else n}" for n in range(place + 2)))
    for query in ("zinc", "report 2", "zinc report of the town 3", "town", "3 2 1 report zinc"):
        for limit in (3, 40):
            asked = (principal.tenant_id, query, VECTOR, limit, ALL, MODEL)
            assert await searching.search_hybrid(*asked) == await PgVectorIndex(database).search_hybrid(*asked)


async def test_a_shared_transaction_is_one_and_reads_only(database, catalog, superuser, principal, other_principal):
    async with database.shared(principal.tenant_id):
        async with database.reading_tx(principal.tenant_id, {"enable_sort": "off"}) as connection:
            first = await connection.fetchval("SELECT pg_current_snapshot()::text || pg_backend_pid() || now()")
        async with catalog.shared(principal), database.reading_tx(principal.tenant_id) as connection:
            assert await connection.fetchval("SELECT pg_current_snapshot()::text || pg_backend_pid() || now()") == first
            assert await connection.fetchval("SELECT current_setting('transaction_read_only') || current_setting('enable_sort')") == "onoff"
            assert [row[0] for row in await connection.fetch("SELECT tenant_id FROM docray.tenants")] == [principal.tenant_id]
        async with database.reading_tx(other_principal.tenant_id) as connection:  # another tenant's is another one
            assert [row[0] for row in await connection.fetch("SELECT tenant_id FROM docray.tenants")] == [other_principal.tenant_id]
        async with catalog.transaction(principal) as tx:  # a write is its own, and committed with its own block
            await tx.collections.insert(new_id(), name="mine", description=None, metadata={})
        assert await superuser.fetchval("SELECT name FROM docray.collections") == "mine"
    async with database.tenant_tx(principal.tenant_id) as connection:
        assert await connection.fetchval("SELECT current_setting('transaction_read_only') || current_setting('enable_sort')") == "offon"


async def test_a_shared_transaction_refuses_to_write(database, superuser, principal):
    with pytest.raises(DocrayError):
        async with database.shared(principal.tenant_id), database.reading_tx(principal.tenant_id) as connection:
            await connection.execute("DELETE FROM docray.collections WHERE tenant_id = $1", principal.tenant_id)
    async with database.tenant_tx(principal.tenant_id) as connection:  # and leaves its connection usable
        assert await connection.fetchval("SELECT 1") == 1
