"""Questions asked of the real stores: PostgreSQL, the index, the search, the default model; only language models are scripted."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from answer_checks import check_answer, checked_events
from answering_library import page_of
from catalog_factories import add_document

from docray.answering.retrieval import SearchService
from docray.answering.service import AnswerService
from docray.domain.catalog import UNSET
from docray.domain.documents import Document, Page, State
from docray.domain.ids import chunk_id
from docray.domain.ports import Generator
from docray.domain.principals import Principal
from docray.domain.questions import Answer, Question, RefusalReason, Scope
from docray.ingestion.chunking import Chunker
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_jobs import PostgresJobQueue
from models.embedding import EmbeddingSpec, build_engine
from models.fakes import FakeLlm, Faults, quoting, scripted
from models.in_process import InProcessEmbedder

PAGES = (
    page_of(1, "The committee met in the usual room. The Zovobik reactor at the Novinik station was inspected by engineer Gufifak in 1828."),
    page_of(2, "Visitors sign the register. The Tufidan expedition, led by captain Nudimik, crossed the"),
    page_of(3, "frozen Seponun glacier in 9090 days. Costs are reported to the treasurer."),
)
QUESTION = "Who inspected the Zovobik reactor at the Novinik station?"
SENTENCE = "The Zovobik reactor at the Novinik station was inspected by engineer Gufifak in 1828."


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessEmbedder]:
    cache: Path = tmp_path_factory.mktemp("embedding")
    found = InProcessEmbedder(build_engine(EmbeddingSpec(cache_dir=cache, engine="openvino", precision="f32")))
    yield found
    found.close()


class Library:
    """What is stored, and who answers from it."""

    def __init__(self, database: Database, worker: Database, catalog: PostgresCatalog, queue: PostgresJobQueue, embedder: InProcessEmbedder) -> None:
        self.catalog, self.queue, self.embedder = catalog, queue, embedder
        self.index = PgVectorIndex(worker)
        self.search = SearchService(catalog=catalog, index=PgVectorIndex(database), embedder=embedder)

    def answers(self, generator: Generator | None = None) -> AnswerService:
        """The service, with or without a language model."""
        return AnswerService(search=self.search, catalog=self.catalog, embedder=self.embedder, generator=generator)

    async def add(self, principal: Principal, *pages: Page) -> Document:
        """A document that is ready."""
        document = await add_document(self.catalog, principal)
        await self.publish(pages)
        return document

    async def publish(self, pages: tuple[Page, ...]) -> None:
        """Does for the queued generation what the ingest worker does."""
        lease = await self.queue.lease("test", 60.0)
        assert lease is not None
        chunks = Chunker(max_tokens=200, count_tokens=lambda texts: [len(text) // 4 + 1 for text in texts]).chunk(pages, title=None, filename="a.pdf")
        vectors = await self.embedder.embed_passages([chunk.indexed_text for chunk in chunks])
        ids = [chunk_id(lease.tenant_id, lease.document_id, lease.generation, chunk.n) for chunk in chunks]
        await self.queue.record_parsed(lease, pages, chunks, None)
        model = self.embedder.model_id
        await self.queue.record_state(lease, State.PARSED, State.EMBEDDED, embedding_model=model, dimension=self.embedder.dimension)
        await self.index.upsert(lease.tenant_id, lease.document_id, lease.generation, list(zip(ids, chunks, strict=True)), vectors, model)
        await self.queue.record_state(lease, State.EMBEDDED, State.INDEXED)
        await self.queue.publish(lease)


@pytest.fixture
def library(
    database: Database, worker_database: Database, catalog: PostgresCatalog, queue: PostgresJobQueue, embedder: InProcessEmbedder
) -> Library:
    return Library(database, worker_database, catalog, queue, embedder)


async def answered(service: AnswerService, principal: Principal, question: str, **fields: object) -> Answer:
    """The answer, after checking that it and its events hold together."""
    asked = Question(question=question, **fields)  # type: ignore[arg-type]
    answer = checked_events([event async for event in service.answer(principal, asked)])
    check_answer(answer)
    return answer


async def test_a_fact_is_quoted_from_its_page(library: Library, principal: Principal) -> None:
    document = await library.add(principal, *PAGES)
    answer = await answered(library.answers(), principal, QUESTION)
    assert answer.answer == f"{SENTENCE} [1]"
    assert (answer.citations[0].document.id, answer.citations[0].page, answer.degraded) == (document.id, 1, ())


async def test_a_sentence_over_a_page_end_is_cited_on_both_pages(library: Library, principal: Principal) -> None:
    await library.add(principal, *PAGES)
    answer = await answered(library.answers(), principal, "In how many days did the Tufidan expedition cross the Seponun glacier?")
    assert [(citation.index, citation.page) for citation in answer.citations] == [(1, 2), (1, 3)]
    assert answer.citations[0].quote.startswith("The Tufidan expedition")
    assert answer.citations[1].quote == "frozen Seponun glacier in 9090 days."


async def test_what_is_not_there_is_refused_with_its_reason(library: Library, principal: Principal, other_principal: Principal) -> None:
    assert (await answered(library.answers(), principal, QUESTION)).refusal_reason is RefusalReason.NO_DOCUMENTS
    document = await library.add(principal, *PAGES)
    off_topic = await answered(library.answers(), principal, "What is the boiling point of tungsten hexafluoride?")
    assert (off_topic.refusal_reason, bool(off_topic.search_results.hits)) == (RefusalReason.NOT_IN_DOCUMENTS, True)
    foreign = await answered(library.answers(), other_principal, QUESTION, scope=Scope(document_ids=(document.id,)))
    assert (foreign.refusal_reason, foreign.search_results.hits) == (RefusalReason.NO_DOCUMENTS, ())


async def test_a_deleted_document_answers_nothing(library: Library, principal: Principal) -> None:
    document = await library.add(principal, *PAGES)
    async with library.catalog.transaction(principal) as transaction:
        await transaction.documents.mark_deleting(document.id)
    assert (await answered(library.answers(), principal, QUESTION)).refusal_reason is RefusalReason.NO_DOCUMENTS


async def test_the_card_of_a_citation_follows_the_document(library: Library, principal: Principal) -> None:
    document = await library.add(principal, *PAGES)
    async with library.catalog.transaction(principal) as transaction:
        await transaction.documents.patch(document.id, title="Station log", metadata=UNSET)
    assert (await answered(library.answers(), principal, QUESTION)).citations[0].document.title == "Station log"


async def test_a_language_model_reads_what_was_found_and_is_checked_against_it(library: Library, principal: Principal) -> None:
    await library.add(principal, *PAGES)
    llm = FakeLlm(says=quoting)
    answer = await answered(library.answers(llm), principal, QUESTION)
    assert (answer.answer, answer.model, answer.citations[0].quote) == (f"{SENTENCE} [1]", "fake", SENTENCE)
    assert SENTENCE in llm.calls[0].messages[1].content.replace("\n", " ")


async def test_nobody_reads_on_when_the_reader_has_gone(library: Library, principal: Principal) -> None:
    await library.add(principal, *PAGES)
    llm = FakeLlm(says=scripted(f"{SENTENCE} [1] And then silence."), faults=Faults(stall_after=15))
    shown: asyncio.Queue[object] = asyncio.Queue()

    async def read() -> None:
        async for event in library.answers(llm).answer(principal, Question(question=QUESTION)):
            shown.put_nowait(event)

    reading = asyncio.create_task(read())
    for _ in range(3):  # found, the first sentence, its citation: the model is in the middle of its answer
        await shown.get()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert llm.closed_early == 1
