"""Search from a query to hits, over the real database, index and embedder."""

from collections.abc import Iterator, Sequence

import pytest
from catalog_factories import add_document, take_to

from docray.answering.retrieval import SearchService
from docray.domain.documents import Block, BlockKind, Page, State, Word
from docray.domain.errors import Unavailable
from docray.domain.ids import chunk_id
from docray.domain.questions import Condition, Operator, Scope, SearchMode, SearchRequest
from docray.ingestion.chunking import Chunker
from docray.stores.pgvector_index import PgVectorIndex
from models.embedding import EmbeddingSpec, build_engine
from models.in_process import InProcessEmbedder

FACTS = [
    "The committee approved the purchase of zinc roofing for the north library.",
    "A violin maker in the harbour district repairs instruments on Thursdays.",
    "Glaciers in the valley lost four metres of ice during the warm summer.",
    "The bakery received an award for its rye bread and its almond cake.",
    "Telescopes on the island recorded a comet with two separate tails.",
    "Tram line seven will be closed until the bridge has been repaired.",
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessEmbedder]:
    spec = EmbeddingSpec(engine="openvino", precision="f32", cache_dir=tmp_path_factory.mktemp("cache"))
    embedder = InProcessEmbedder(build_engine(spec))
    yield embedder
    embedder.close()


@pytest.fixture
def index(worker_database):
    return PgVectorIndex(worker_database)


@pytest.fixture
def service(catalog, database, engine):
    return SearchService(catalog=catalog, index=PgVectorIndex(database), embedder=engine)


class BackwardReranker:
    """Likes best what comes last."""

    async def rerank(self, question: str, passages: Sequence[str]) -> list[float]:
        return [float(place) for place in range(len(passages))]


class BrokenReranker:
    """Does not answer."""

    async def rerank(self, question: str, passages: Sequence[str]) -> list[float]:
        raise Unavailable


def page_of(number: int, *paragraphs: str) -> Page:
    words: list[Word] = []
    blocks: list[Block] = []
    for line, paragraph in enumerate(paragraphs):
        start, said = len(words), paragraph.split()
        words += [Word(word, (50 + 30 * n, 20 + 20 * line, 75 + 30 * n, 32 + 20 * line), line, " ") for n, word in enumerate(said)]
        words[-1] = Word(words[-1].text, words[-1].box, line, "\n\n")
        blocks.append(Block(BlockKind.PARAGRAPH, start, len(words)))
    return Page(number=number, width=800, height=800, rotation=0, words=tuple(words), blocks=tuple(blocks))


async def publish(catalog, queue, index, engine, principal, *pages: Page, publish: bool = True, chunk_tokens: int = 200, **changes):
    """A document through the real chunker, embedder and index."""
    document = await add_document(catalog, principal, **changes)
    lease = await queue.lease("test", 60.0)
    counts = engine._engine.count_tokens
    chunks = Chunker(max_tokens=chunk_tokens, count_tokens=counts).chunk(pages, title=document.title, filename=document.filename)
    await queue.record_parsed(lease, pages, chunks, None)
    ids = [chunk_id(principal.tenant_id, document.id, 1, chunk.n) for chunk in chunks]
    vectors = await engine.embed_passages([chunk.indexed_text for chunk in chunks])
    await index.upsert(principal.tenant_id, document.id, 1, list(zip(ids, chunks, strict=True)), vectors, engine.model_id)
    await queue.record_state(lease, State.PARSED, State.EMBEDDED, embedding_model=engine.model_id, dimension=engine.dimension)
    await queue.record_state(lease, State.EMBEDDED, State.INDEXED)
    if publish:
        await queue.publish(lease)
    return document, ids


@pytest.fixture
async def facts(catalog, queue, index, engine, principal):
    """A document of a fact a page."""
    pages = [page_of(number, fact) for number, fact in enumerate(FACTS, 1)]
    return await publish(catalog, queue, index, engine, principal, *pages, title="Town chronicle", filename="chronicle.pdf")


@pytest.mark.parametrize("mode", list(SearchMode))
async def test_the_right_passage_comes_first_in_every_mode(service, principal, facts, mode):
    document, ids = facts
    for place, fact in enumerate(FACTS):
        results = await service.search(principal, SearchRequest(query=fact, mode=mode, limit=3, merge_neighbours=False))
        assert results.hits[0].chunk_id == ids[place]
        assert results.hits[0].pages[0].page == place + 1
        assert [hit.rank for hit in results.hits] == list(range(1, len(results.hits) + 1))
        assert [hit.score for hit in results.hits] == sorted((hit.score for hit in results.hits), reverse=True)
        assert results.degraded == ()
        assert set(results.timings_ms) == {"embed", "retrieve", "authority", "total"}
        hit = results.hits[0]
        assert (hit.document.id, hit.document.filename, hit.generation) == (document.id, "chronicle.pdf", 1)


async def test_scores_of_legs_that_did_not_run_are_missing(service, principal, facts):
    async def scores(mode: SearchMode):
        results = await service.search(principal, SearchRequest(query="zinc roofing for the library", mode=mode))
        return [(hit.dense, hit.keyword, hit.rerank) for hit in results.hits]

    assert all(dense is not None and keyword is None and rerank is None for dense, keyword, rerank in await scores(SearchMode.DENSE))
    assert all(dense is None and keyword is not None and rerank is None for dense, keyword, rerank in await scores(SearchMode.KEYWORD))
    assert all(dense is not None or keyword is not None for dense, keyword, _ in await scores(SearchMode.HYBRID))


async def test_neighbours_become_one_hit_and_stay_apart_when_asked(service, catalog, queue, index, engine, principal):
    paragraphs = [
        f"Zinc report part {n}: the zinc mine produced more zinc than in year {n}, and the zinc was sold to the roofers of the town."
        for n in range(3)
    ]
    _, ids = await publish(catalog, queue, index, engine, principal, page_of(1, *paragraphs), chunk_tokens=48)
    assert len(ids) == 3
    apart = await service.search(principal, SearchRequest(query="zinc mine", merge_neighbours=False))
    assert len(apart.hits) == 3
    (merged,) = (await service.search(principal, SearchRequest(query="zinc mine"))).hits
    assert merged.text == "\n\n".join(paragraphs)
    assert merged.chunk_id == apart.hits[0].chunk_id
    assert merged.score == apart.hits[0].score
    assert [(span.page, span.start) for span in merged.spans] == [(1, 0)]
    assert merged.spans[0].end == len(" ".join(paragraphs).split())
    assert [page.page for page in merged.pages] == [1]
    assert len(merged.pages[0].boxes) == 3


async def test_what_is_not_published_is_not_found(service, catalog, queue, index, engine, principal):
    await publish(catalog, queue, index, engine, principal, page_of(1, FACTS[0]), publish=False)
    assert (await service.search(principal, SearchRequest(query=FACTS[0]))).hits == ()


async def test_another_tenant_finds_nothing(service, principal, other_principal, facts):
    assert (await service.search(other_principal, SearchRequest(query=FACTS[0]))).hits == ()


async def test_a_deleted_document_is_gone_while_its_vectors_are_still_there(service, catalog, index, principal, facts):
    document, _ = facts
    async with catalog.transaction(principal) as tx:
        await tx.documents.mark_deleting(document.id)
    assert await index.count(principal.tenant_id, document.id, 1) == len(FACTS)
    for mode in SearchMode:
        assert (await service.search(principal, SearchRequest(query=FACTS[0], mode=mode))).hits == ()


async def test_stale_entries_of_the_index_do_not_crowd_out_the_rest(service, catalog, queue, index, engine, principal):
    for _ in range(8):
        document, _ = await publish(catalog, queue, index, engine, principal, page_of(1, FACTS[0]))
        async with catalog.transaction(principal) as tx:
            await tx.documents.mark_deleting(document.id)
    live, ids = await publish(catalog, queue, index, engine, principal, page_of(1, FACTS[0] + " Again."), page_of(2, FACTS[1]))
    results = await service.search(principal, SearchRequest(query=FACTS[0], limit=2, merge_neighbours=False))
    assert [hit.chunk_id for hit in results.hits] == ids
    assert {hit.document.id for hit in results.hits} == {live.id}


async def test_a_filter_on_pages_keeps_other_pages_out(service, principal, facts):
    scope = Scope(filter=Condition("page", Operator.LTE, 2))
    for mode in SearchMode:
        results = await service.search(principal, SearchRequest(query="the committee and the tram", mode=mode, scope=scope, merge_neighbours=False))
        assert {page.page for hit in results.hits for page in hit.pages} <= {1, 2}
        assert results.hits


async def test_without_the_embedder_words_still_find_and_the_result_says_so(service, catalog, database, principal, facts, tmp_path):
    closed = InProcessEmbedder(build_engine(EmbeddingSpec(engine="openvino", precision="f32", cache_dir=tmp_path)))
    closed.close()
    lame = SearchService(catalog=catalog, index=PgVectorIndex(database), embedder=closed)
    results = await lame.search(principal, SearchRequest(query=FACTS[2]))
    assert results.degraded == ("dense",)
    assert results.hits[0].text == FACTS[2]
    assert results.hits[0].dense is None
    assert (await lame.search(principal, SearchRequest(query=FACTS[2], mode=SearchMode.KEYWORD))).degraded == ()
    with pytest.raises(Unavailable):
        await lame.search(principal, SearchRequest(query=FACTS[2], mode=SearchMode.DENSE))


async def test_a_reranker_decides_the_order_and_may_fail(catalog, database, engine, principal, facts):
    def with_reranker(reranker, **options):
        return SearchService(catalog=catalog, index=PgVectorIndex(database), embedder=engine, reranker=reranker, **options)

    request = SearchRequest(query=FACTS[0], limit=3, merge_neighbours=False)
    plain = await with_reranker(BackwardReranker()).search(principal, request)
    assert plain.hits[0].text == FACTS[0]
    for service, wanted in ((with_reranker(BackwardReranker()), True), (with_reranker(BackwardReranker(), rerank_by_default=True), None)):
        results = await service.search(principal, SearchRequest(query=FACTS[0], limit=3, merge_neighbours=False, rerank=wanted))
        assert [hit.rerank for hit in results.hits] == [5.0, 4.0, 3.0]
        assert results.hits[0].score == 5.0
    broken = await with_reranker(BrokenReranker()).search(principal, SearchRequest(query=FACTS[0], rerank=True))
    assert (broken.degraded, broken.hits[0].rerank) == (("rerank",), None)
    absent = await with_reranker(None).search(principal, SearchRequest(query=FACTS[0], rerank=True))
    assert (absent.degraded, absent.hits[0].rerank) == (("rerank",), None)


async def test_the_snippet_shows_the_query_s_words(service, catalog, queue, index, engine, principal):
    text = " ".join(["Nothing to see in this sentence of many words at all."] * 8) + f" {FACTS[4]} " + " ".join(["And nothing here."] * 9)
    await publish(catalog, queue, index, engine, principal, page_of(1, text))
    (hit,) = (await service.search(principal, SearchRequest(query="a comet with two tails"))).hits
    assert "comet with two separate tails" in hit.snippet
    assert len(hit.snippet) <= 202
    assert hit.snippet.startswith("…")
    assert hit.snippet.endswith("…")


async def test_an_odd_query_is_no_error(service, principal, facts):
    for query in (" ", "\0", "\U0001f600", "'; DROP TABLE documents; --", "%_\\", "a AND (b OR", "x" * 8000, "wort " * 1600):
        for mode in SearchMode:
            await service.search(principal, SearchRequest(query=query, mode=mode))


async def test_a_ready_document_that_the_index_lost_is_no_error(service, catalog, queue, principal):
    await add_document(catalog, principal)
    lease = await queue.lease("test", 60.0)
    await take_to(queue, lease, State.READY)
    assert (await service.search(principal, SearchRequest(query="word11"))).hits == ()


async def test_a_document_replaced_between_ranking_and_reading_is_found_by_its_new_text(
    service, index, catalog, queue, engine, principal, facts, monkeypatch,
):  # fmt: skip
    document, _ = facts
    question = "Which committee approved zinc roofing?"
    search, replaced = service._index.search_hybrid, []

    async def ranks_then_is_overtaken(*arguments):
        ranking = await search(*arguments)
        if not replaced:
            async with catalog.transaction(principal) as tx:
                _, generation = await tx.documents.insert_generation(document.id, sha256="1" * 64, size_bytes=1, filename=None)
            lease = await queue.lease("test", 60.0)
            pages = (page_of(1, FACTS[0] + " It was dear."),)
            chunks = Chunker(max_tokens=200, count_tokens=engine._engine.count_tokens).chunk(pages, title=None, filename="x.pdf")
            await queue.record_parsed(lease, pages, chunks, None)
            ids = [chunk_id(principal.tenant_id, document.id, generation, chunk.n) for chunk in chunks]
            vectors = await engine.embed_passages([chunk.indexed_text for chunk in chunks])
            await index.upsert(principal.tenant_id, document.id, generation, list(zip(ids, chunks, strict=True)), vectors, engine.model_id)
            await queue.record_state(lease, State.PARSED, State.EMBEDDED, embedding_model=engine.model_id, dimension=engine.dimension)
            await queue.record_state(lease, State.EMBEDDED, State.INDEXED)
            await queue.publish(lease)
            replaced.append(generation)
        return ranking

    monkeypatch.setattr(service._index, "search_hybrid", ranks_then_is_overtaken)
    results = await service.search(principal, SearchRequest(query=question))
    assert [(hit.generation, "dear" in hit.text) for hit in results.hits] == [(replaced[0], True)]
