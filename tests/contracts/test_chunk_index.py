"""What every chunk index promises: ids of a tenant's nearest and best passages, and nothing left after a purge."""

import asyncio
import random
import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from catalog_factories import add_ready, chunks_of, some_pages

from docray.domain.documents import Chunk, PageBoxes, PageSpan
from docray.domain.ids import chunk_id, new_id
from docray.domain.questions import AllOf, Condition, Operator, Scope
from docray.stores.keyword_search import KeywordSearch, Limits
from docray.stores.keyword_terms import Analyser
from docray.stores.pgvector_index import PgVectorIndex

ALL = Scope()
MODEL = "test-model"
DIMENSION = 16


@pytest.fixture
def index(worker_database):
    """The index as a worker has it: it may write."""
    return PgVectorIndex(worker_database)


@pytest.fixture
def searching(database):
    """The index as the gateway has it: it may only read."""
    return PgVectorIndex(database)


def a_chunk(n: int, text: str, page: int = 1, context: str = "") -> Chunk:
    box = PageBoxes(page, 600, 800, ((10, 10, 20, 20),))
    return Chunk(n=n, text=text, spans=(PageSpan(page, n * 10, n * 10 + 10),), pages=(box,), context=context, tokens=len(text.split()))


def directions(count: int, seed: int = 1, dimension: int = DIMENSION) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


async def add(index, tenant, texts: Sequence[str], *, document=None, generation=1, vectors=None, model=MODEL, pages=None):
    """Indexes texts as the chunks of a document; gives its id and theirs."""
    document = document or new_id()
    chunks = [a_chunk(n, text, pages[n] if pages else 1) for n, text in enumerate(texts)]
    ids = [chunk_id(tenant, document, generation, chunk.n) for chunk in chunks]
    await index.upsert(
        tenant, document, generation, list(zip(ids, chunks, strict=True)), directions(len(texts)) if vectors is None else vectors, model
    )
    return document, ids


async def test_the_nearest_passages_come_first_with_their_cosine(index, searching):
    tenant, vectors = new_id(), directions(40)
    _, ids = await add(index, tenant, ["text"] * 40, vectors=vectors)
    found = await searching.search_dense(tenant, vectors[7], 5, ALL, MODEL)
    cosines = vectors @ vectors[7]
    assert [candidate.chunk_id for candidate in found] == [ids[place] for place in np.argsort(-cosines)[:5]]
    assert found[0].dense == pytest.approx(1.0, abs=2e-3)
    assert all(candidate.score == candidate.dense and candidate.keyword is None and -1 <= candidate.score <= 1 for candidate in found)


async def test_the_best_passage_by_words_has_the_rare_ones(index, searching):
    tenant = new_id()
    texts = [
        "The committee met on Monday.",
        "The committee met about zinc on Tuesday.",
        "The harvest was good.",
        "The committee and the zinc, zinc and more zinc.",
    ]
    _, ids = await add(index, tenant, texts)
    found = await searching.search_keyword(tenant, "What did the committees say about zinc?", 10, ALL)
    assert {candidate.chunk_id for candidate in found} == {ids[0], ids[1], ids[3]}
    assert found[-1].chunk_id == ids[0]
    assert all(candidate.score == candidate.keyword > 0 and candidate.dense is None for candidate in found)
    assert [candidate.score for candidate in found] == sorted((candidate.score for candidate in found), reverse=True)


async def test_a_hybrid_search_gives_what_both_legs_give(index, searching):
    tenant, vectors = new_id(), directions(30)
    await add(index, tenant, [f"passage {n} about {'zinc' if n % 3 else 'tin'}" for n in range(30)], vectors=vectors)
    dense, keyword = await searching.search_hybrid(tenant, "tin passages", vectors[3], 8, ALL, MODEL)
    assert [(c.chunk_id, c.score) for c in dense] == [(c.chunk_id, c.score) for c in await searching.search_dense(tenant, vectors[3], 8, ALL, MODEL)]
    assert [c.chunk_id for c in keyword] == [c.chunk_id for c in await searching.search_keyword(tenant, "tin passages", 8, ALL)]
    assert all(c.dense is not None and c.keyword == c.score for c in keyword)


async def test_tenants_never_meet(index, searching):
    mine, theirs, vectors = new_id(), new_id(), directions(10)
    _, my_ids = await add(index, mine, ["zinc is mine"] * 10, vectors=vectors)
    _, their_ids = await add(index, theirs, ["zinc is theirs"] * 10, vectors=vectors)
    for tenant, ids in ((mine, my_ids), (theirs, their_ids)):
        dense, keyword = await searching.search_hybrid(tenant, "zinc theirs mine", vectors[0], 50, ALL, MODEL)
        assert {candidate.chunk_id for candidate in (*dense, *keyword)} == set(ids)
    assert await searching.search_hybrid(new_id(), "zinc", vectors[0], 50, ALL, MODEL) == ([], [])


async def test_the_same_document_for_two_tenants_is_purged_for_one(index):
    mine, theirs = new_id(), new_id()
    document, _ = await add(index, mine, ["zinc"] * 3)
    await add(index, theirs, ["zinc"] * 3, document=document)
    await index.purge(mine, document, None)
    assert (await index.count(mine, document, 1), await index.count(theirs, document, 1)) == (0, 3)
    assert len(await index.search_keyword(theirs, "zinc", 5, ALL)) == 3


async def test_writing_the_same_again_changes_nothing(index):
    tenant, vectors = new_id(), directions(12)
    texts = [f"passage {n} on zinc" for n in range(12)]
    document, _ = await add(index, tenant, texts, vectors=vectors)
    before = await index.search_hybrid(tenant, "zinc", vectors[0], 20, ALL, MODEL)
    await add(index, tenant, texts, document=document, vectors=vectors)
    assert await index.search_hybrid(tenant, "zinc", vectors[0], 20, ALL, MODEL) == before
    assert await index.count(tenant, document, 1) == 12


async def test_writing_other_text_replaces_what_was_there(index):
    tenant = new_id()
    document, _ = await add(index, tenant, ["zinc", "zinc"])
    _, ids = await add(index, tenant, ["copper", "tin"], document=document)
    assert await index.search_keyword(tenant, "zinc", 5, ALL) == []
    assert [candidate.chunk_id for candidate in await index.search_keyword(tenant, "tin", 5, ALL)] == [ids[1]]


async def test_a_generation_may_be_written_in_pieces(index):
    tenant, document, vectors = new_id(), new_id(), directions(9)
    chunks = [a_chunk(n, f"zinc number{n}", page=n // 2 + 1) for n in range(9)]
    rows = [(chunk_id(tenant, document, 1, chunk.n), chunk) for chunk in chunks]
    for start in (0, 3, 6, 3):
        await index.upsert(tenant, document, 1, rows[start : start + 3], vectors[start : start + 3], MODEL)
    assert await index.count(tenant, document, 1) == 9
    assert len(await index.search_keyword(tenant, "zinc", 20, ALL)) == 9
    assert (await index.search_keyword(tenant, "number7", 20, ALL))[0].chunk_id == rows[7][0]


async def test_purge_removes_a_generation_or_all_of_them_and_counts(index):
    tenant = new_id()
    document, _ = await add(index, tenant, ["zinc"] * 4)
    await add(index, tenant, ["zinc"] * 5, document=document, generation=2)
    assert await index.purge(tenant, document, 1) >= 4
    assert (await index.count(tenant, document, 1), await index.count(tenant, document, 2)) == (0, 5)
    assert len(await index.search_keyword(tenant, "zinc", 20, ALL)) == 5
    assert await index.purge(tenant, document, None) >= 5
    assert await index.purge(tenant, document, None) == 0
    assert await index.search_hybrid(tenant, "zinc", directions(1)[0], 20, ALL, MODEL) == ([], [])


async def test_a_purge_leaves_no_row_behind(index, superuser):
    tenant = new_id()
    document, _ = await add(index, tenant, [f"zinc {n} und Kürbisse" for n in range(50)])
    await index.purge(tenant, document, 1)
    for table in ("chunk_vectors", "keyword_parts", "keyword_postings"):
        assert await superuser.fetchval(f"SELECT count(*) FROM docray.{table}") == 0


async def test_models_do_not_mix(index, searching):
    tenant = new_id()
    document, ids = await add(index, tenant, ["zinc"] * 3, vectors=directions(3), model="one")
    await add(index, tenant, ["zinc"] * 3, document=document, vectors=directions(3, dimension=24), model="two")
    for model, dimension in (("one", DIMENSION), ("two", 24)):
        found = await searching.search_dense(tenant, directions(3, dimension=dimension)[1], 5, ALL, model)
        assert (found[0].chunk_id, len(found)) == (ids[1], 3)
    assert await searching.search_dense(tenant, directions(3)[1], 5, ALL, "three") == []
    assert len(await searching.search_keyword(tenant, "zinc", 5, ALL)) == 3


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Die Kürbisernte in den Ländern war dieses Jahr größer als zuvor.", "kurbis"),
        ("Заседание комитета состоялось в понедельник в большом зале.", "заседания комитетов"),
        ("黑豹队的防守只丢了 308分，在联赛中排名第六。", "防守丢了多少分"),
        ("คณะกรรมการประชุมในวันจันทร์", "ประชุม"),
        ("위원회는 월요일에 회의를 열었다", "위원회"),
        ("\ufefb\ufe91\ufeea \ufed3\ufef2 \ufe8d\ufedf\ufecc\ufe8e\ufee2", "لابه في العام"),  # presentation forms
        ("قَرَّرَتِ اللَّجْنَةُ", "قررت اللجنة"),  # with vowel signs
        ("The price was 12,345.67 euros.", "12345.67"),
        ("İSTANBUL ve IĞDIR büyük şehirlerdir.", "istanbul ığdır"),
        ("ﬁnancial oﬃce", "financial offices"),
    ],
)
async def test_words_are_found_in_every_script(index, text, query):
    tenant = new_id()
    _, ids = await add(index, tenant, [text, "Something else entirely."])
    found = await index.search_keyword(tenant, query, 5, ALL)
    assert found
    assert found[0].chunk_id == ids[0]


@pytest.mark.parametrize(
    "query", [" ", "\0", "\U0001f600", "'; DROP TABLE documents; --", "%_\\", "the of and", "a AND (b OR", "x" * 8000, "wort " * 1600, "\ud800"]
)
async def test_odd_queries_find_nothing_and_break_nothing(index, query):
    tenant = new_id()
    await add(index, tenant, ["zinc", "Kürbis und Zink"])
    assert await index.search_keyword(tenant, query, 5, ALL) == []


async def test_concurrent_writers_of_one_tenant_do_not_hinder_each_other(index):
    tenant = new_id()
    added = await asyncio.gather(*(add(index, tenant, [f"zinc and tin {n} {m}" for m in range(20)]) for n in range(6)))
    assert len(await index.search_keyword(tenant, "zinc", 500, ALL)) == 120
    await asyncio.gather(*(index.purge(tenant, document, None) for document, _ in added))
    assert await index.search_keyword(tenant, "zinc", 500, ALL) == []


async def test_a_large_tenant_is_searched_by_the_graph_and_misses_next_to_nothing(index, searching, superuser):
    tenant, other, vectors = new_id(), new_id(), directions(3600)
    _, ids = await add(index, tenant, ["zinc"] * 3600, vectors=vectors)
    await add(index, other, ["zinc"] * 400, vectors=directions(400, seed=2))
    await superuser.execute("ANALYZE docray.chunk_vectors")
    found, questions = 0, directions(50, seed=3)
    for question in questions:
        nearest = {ids[place] for place in np.argsort(-(vectors @ question))[:10]}
        found += len(nearest & {candidate.chunk_id for candidate in await searching.search_dense(tenant, question, 10, ALL, MODEL)})
    assert found >= 0.95 * 10 * len(questions)
    few = await searching.search_dense(other, questions[0], 10, ALL, MODEL)
    exact = np.sort(directions(400, seed=2) @ questions[0])[::-1][:10]
    assert [candidate.score for candidate in few] == pytest.approx(exact.tolist(), abs=2e-3)


async def test_words_that_stand_nearly_everywhere_count_for_the_documents_that_rare_ones_find(index, searching):
    tenant, documents = new_id(), []
    for n in range(560):
        texts = [f"The zinc report of the town and of number{n} is the report."]
        documents.append(await add(index, tenant, texts, vectors=directions(1)))
    best = await searching.search_keyword(tenant, "the zinc report of number77", 5, ALL)
    assert best[0].chunk_id == documents[77][1][0]
    everywhere = await searching.search_keyword(tenant, "zinc", 1000, ALL)
    assert len({candidate.chunk_id for candidate in everywhere}) == 560
    (alone,) = await searching.search_keyword(tenant, "number77", 5, ALL)
    assert best[0].score > alone.score


async def test_reading_little_of_common_words_changes_next_to_nothing(index, database):
    tenant, dice = new_id(), random.Random(5)  # what is read first goes by the documents' ids: the same ones each time
    for n in range(150):
        rare = f"zinc{n % 10}" if n % 3 == 0 else "tin"
        document = uuid.UUID(int=dice.getrandbits(128), version=4)
        text = f"The {rare} report of the town and the harvest of the year." + " The harvest." * (n % 7)
        await add(index, tenant, [text], document=document, vectors=directions(1))

    async def best(query: str, limits: Limits) -> list[tuple[int, int]]:
        async with database.tenant_tx(tenant) as connection:
            ranked = await KeywordSearch(connection, tenant, None, {}, limits).scores(query, Analyser())
            ranking = ranked.scores.best(5)
            return list(zip(ranking.parts.tolist(), ranking.ns.tolist(), strict=True))

    little = Limits(sample_rows=24, whole_rows=30, front_parts=5)
    for query in ("zinc3 harvest reports", "zinc3 and zinc6 in the town", "zinc9"):
        assert await best(query, little) == await best(query, Limits())
    assert len(await best("harvest reports of the town", little)) == 5
    assert len(await best("harvest reports of the town", Limits(records=1))) == 5


# --- scopes: they need documents ---------------------------------------------------------------------------------------


async def add_published(catalog, queue, index, principal, texts: Sequence[str], **changes):
    """A ready document of the catalogue, a chunk a page, with its chunks in the index under other texts."""
    pages = some_pages(len(texts))
    document = await add_ready(catalog, queue, principal, pages=pages, **changes)
    chunks = [a_chunk(chunk.n, text, page=chunk.spans[0].page) for chunk, text in zip(chunks_of(pages), texts, strict=True)]
    ids = [chunk_id(principal.tenant_id, document.id, 1, chunk.n) for chunk in chunks]
    await index.upsert(principal.tenant_id, document.id, 1, list(zip(ids, chunks, strict=True)), directions(len(texts)), MODEL)
    return document, ids


def titled(*titles: str) -> Scope:
    return Scope(filter=Condition("title", Operator.IN, titles))


async def test_a_scope_restricts_both_legs(catalog, queue, index, searching, principal):
    one, first = await add_published(catalog, queue, index, principal, ["zinc one", "zinc two", "zinc three"], title="first")
    _, second = await add_published(catalog, queue, index, principal, ["zinc four", "zinc five"], title="second")
    page_two = Condition("page", Operator.EQ, 2)
    cases = [
        (Scope(document_ids=(one.id,)), first), (titled("second"), second), (titled("first", "second"), first + second),
        (Scope(filter=page_two), [first[1], second[1]]), (Scope(filter=AllOf((page_two, Condition("title", Operator.EQ, "second")))), [second[1]]),
        (Scope(document_ids=(uuid.uuid4(),)), []), (Scope(filter=Condition("page", Operator.GT, 3)), []),
    ]  # fmt: skip
    for scope, expected in cases:
        dense, keyword = await searching.search_hybrid(principal.tenant_id, "zinc", directions(1)[0], 10, scope, MODEL)
        assert {candidate.chunk_id for candidate in dense} == set(expected)
        assert {candidate.chunk_id for candidate in keyword} == set(expected)
        assert await searching.search_dense(principal.tenant_id, directions(1)[0], 10, scope, MODEL) == [
            type(c)(c.chunk_id, c.score, dense=c.dense) for c in dense
        ]
        assert [c.chunk_id for c in await searching.search_keyword(principal.tenant_id, "zinc", 10, scope)] == [c.chunk_id for c in keyword]
