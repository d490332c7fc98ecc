"""A7: the index asks whose rows are meant: nobody's is refused, an unknown tenant's are none."""

import numpy as np
import pytest
from answering_library import page_of
from catalog_factories import chunks_of

from docray.domain.ids import chunk_id, new_id
from docray.domain.questions import Condition, Operator, Scope
from docray.stores.pgvector_index import PgVectorIndex

MODEL = "words"
VECTOR = np.array([0.6, 0.8], np.float32)
SCOPES = [
    Scope(), Scope(document_ids=(new_id(),)), Scope(filter=Condition("page", Operator.EQ, 1)), Scope(filter=Condition("title", Operator.NE, "x")),
]  # fmt: skip


@pytest.fixture
async def filled(worker_database):
    """An index with a tenant's chunks; gives it, the tenant and the document."""
    index, tenant, document = PgVectorIndex(worker_database), new_id(), new_id()
    chunks = chunks_of([page_of(1, "The valve of the harbour was opened.")])
    rows = [(chunk_id(tenant, document, 1, chunk.n), chunk) for chunk in chunks]
    await index.upsert(tenant, document, 1, rows, np.array([VECTOR]), MODEL)
    return index, tenant, document, rows


def calls(index, tenant, document, rows, scope):
    """Every call of the port."""
    return {
        "search_dense": lambda: index.search_dense(tenant, VECTOR, 10, scope, MODEL),
        "search_keyword": lambda: index.search_keyword(tenant, "valve harbour", 10, scope),
        "search_hybrid": lambda: index.search_hybrid(tenant, "valve harbour", VECTOR, 10, scope, MODEL),
        "count": lambda: index.count(tenant, document, 1),
        "purge": lambda: index.purge(tenant, document, None),
        "upsert": lambda: index.upsert(tenant, document, 1, rows, np.array([VECTOR]), MODEL),
    }


@pytest.mark.parametrize("tenant", [None, "", "'; --", 0, b"\0" * 16, "00000000-0000-0000-0000-000000000000"])
async def test_a_call_without_a_tenant_raises(filled, tenant):
    index, _, document, rows = filled
    for scope in SCOPES:
        for call in calls(index, tenant, document, rows, scope).values():
            with pytest.raises(TypeError):
                await call()


async def test_an_unknown_tenant_has_nothing_and_nothing_is_made_for_it(filled, superuser):
    index, tenant, document, rows = filled
    stranger = new_id()
    for scope in SCOPES:
        reading = calls(index, stranger, document, rows, scope)
        assert await reading["search_dense"]() == await reading["search_keyword"]() == []
        assert await reading["search_hybrid"]() == ([], [])
        assert await reading["count"]() == await reading["purge"]() == 0
    for table in ("chunk_vectors", "keyword_parts", "keyword_postings"):
        assert {row[0] for row in await superuser.fetch(f"SELECT DISTINCT tenant_id FROM docray.{table}")} == {tenant}
    assert await index.count(tenant, document, 1) == len(rows)
    assert [candidate.chunk_id for candidate in await index.search_keyword(tenant, "valve", 10, Scope())] == [rows[0][0]]
