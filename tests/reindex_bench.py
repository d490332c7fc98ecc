"""A tenant's documents, workers with one model or two, and searches: what the tests of reindexing work on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
from answering_library import page_of
from catalog_factories import a_document, sha256_of

from docray.answering.retrieval import SearchService
from docray.domain.documents import Document, Extraction
from docray.domain.ids import blob_key, new_id
from docray.domain.principals import Principal
from docray.domain.questions import Scope, SearchMode, SearchRequest, SearchResults
from docray.domain.reindexes import IndexForm, NewReindex, Reindex, Switch
from docray.ingestion.chunking import Chunker, chunker_name
from docray.ingestion.worker import IngestWorker, NextModel, WorkerTimes
from docray.stores.filesystem_blobs import FilesystemBlobs
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_jobs import PostgresJobQueue
from docray.stores.postgres_reindex_planner import PostgresReindexPlanner
from models.fakes import FakeEmbedder

OLD, NEW = "old@1", "new@1"


@dataclass
class TextParser:
    """Reads a file of text as a page a line; counts how often. Waits while `gate` is closed."""

    read: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def extract(self, path: Path, *, on_progress: Callable[[int, int], Awaitable[None]] | None = None) -> Extraction:
        """Its lines."""
        self.read += 1
        self.begun.set()
        await self.gate.wait()
        lines = path.read_text().splitlines()
        return Extraction(pages=tuple(page_of(number, line) for number, line in enumerate(lines, 1)))


@dataclass(kw_only=True)
class Bench:
    """One tenant. `worker` has both models, the old one first."""

    catalog: PostgresCatalog
    queue: PostgresJobQueue
    database: Database
    worker_database: Database
    superuser: asyncpg.Connection
    principal: Principal
    folder: Path
    old: FakeEmbedder = field(default_factory=lambda: FakeEmbedder(model_id=OLD, dimension=32))
    new: FakeEmbedder = field(default_factory=lambda: FakeEmbedder(model_id=NEW, dimension=48))
    parser: TextParser = field(default_factory=TextParser)
    max_tokens: int = 64

    def __post_init__(self) -> None:
        self.blobs = FilesystemBlobs(self.folder)
        self.blobs.prepare()
        self.index = PgVectorIndex(self.worker_database)
        self.planner = PostgresReindexPlanner(self.worker_database)
        self.worker = self.a_worker()
        self.service = SearchService(catalog=self.catalog, index=PgVectorIndex(self.database), embedder=self.old, next_embedder=self.new)

    def a_worker(self, name: str = "test", *, models: int = 2, lease_s: float = 45.0) -> IngestWorker:
        """A worker process with the present model, or with the next one too."""
        following = NextModel(embedder=self.new, chunker=self._chunker(), chunker_name=chunker_name(self.max_tokens, NEW))
        return IngestWorker(
            name=name, queue=self.queue, blobs=self.blobs, parser=self.parser, chunker=self._chunker(), embedder=self.old, index=self.index,
            times=WorkerTimes(lease_s=lease_s, heartbeat_s=lease_s / 4, poll_s=0.01), chunker_name=chunker_name(self.max_tokens, OLD),
            next_model=following if models == 2 else None, planner=self.planner,
        )  # fmt: skip

    def _chunker(self) -> Chunker:
        return Chunker(max_tokens=self.max_tokens, count_tokens=lambda texts: [len(text.split()) for text in texts])

    # --- documents

    async def upload(self, text: str, **changes: object) -> Document:
        """A queued document of that text."""
        document = a_document(sha256=sha256_of(text), **changes)
        await self._store(document.id, 1, text)
        async with self.catalog.transaction(self.principal) as tx:
            return await tx.documents.insert(document)

    async def add(self, text: str, **changes: object) -> Document:
        """A document that answers."""
        document = await self.upload(text, **changes)
        assert await self.worker.work_once()
        return await self.now(document.id)

    async def replace(self, document_id: UUID, text: str) -> None:
        """Queues another content."""
        async with self.catalog.transaction(self.principal) as tx:
            _, generation = await tx.documents.insert_generation(document_id, sha256=sha256_of(text), size_bytes=len(text), filename=None)
        await self._store(document_id, generation, text)

    async def delete(self, document_id: UUID) -> None:
        """From here nobody sees it."""
        async with self.catalog.transaction(self.principal) as tx:
            await tx.documents.mark_deleting(document_id)

    async def now(self, document_id: UUID) -> Document:
        """The document as it is now."""
        async with self.catalog.transaction(self.principal) as tx:
            return await tx.documents.get(document_id)

    async def _store(self, document_id: UUID, generation: int, text: str) -> None:
        staged = self.blobs.staging() / str(new_id())
        staged.write_text(text)
        await self.blobs.put_file(blob_key(self.principal.tenant_id, document_id, generation), staged)

    # --- the reindex

    async def start(
        self, *, switch: Switch = Switch.TENANT, model: str = NEW, collection_id: UUID | None = None, rules: str | None = None
    ) -> Reindex:
        """A reindex that is old enough for every process to know of it."""
        form = IndexForm(model, rules or chunker_name(self.max_tokens, model))
        async with self.catalog.transaction(self.principal) as tx:
            made = await tx.reindexes.start(NewReindex(id=new_id(), form=form, model_before=OLD, switch=switch, collection_id=collection_id))
        await self.superuser.execute("UPDATE docray.reindexes SET created_at = created_at - interval '10 s' WHERE id = $1", made.id)
        self.service._models._known.clear()  # what ten seconds would have done
        return made

    async def do(self, what: str, reindex: Reindex, **options: object) -> Reindex:
        """`switch`, `rollback`, `finish`, `retry` or `get`."""
        if what == "switch":
            options.setdefault("accept_failures", False)
        async with self.catalog.transaction(self.principal) as tx:
            return await getattr(tx.reindexes, what)(reindex.id, **options)  # type: ignore[no-any-return]

    async def build(self, worker: IngestWorker | None = None) -> None:
        """Works until nothing is left to do for now."""
        worker = worker or self.worker
        while await worker.plan_once() or await worker.work_once():
            pass

    async def purge(self) -> None:
        """Removes all that is to go."""
        while await self.worker.purge_once():
            pass
        await self.worker.plan_once()

    # --- what is seen

    async def search(self, query: str, mode: SearchMode = SearchMode.DENSE, scope: Scope | None = None, limit: int = 10) -> SearchResults:
        """A search of the tenant."""
        request = SearchRequest(query=query, mode=mode, limit=limit, scope=scope or Scope(), merge_neighbours=False)
        return await self.service.search(self.principal, request)

    async def shown(self, query: str, mode: SearchMode = SearchMode.DENSE) -> list[tuple[UUID, int, str, float]]:
        """The hits of a search, with their scores."""
        return [(hit.document.id, hit.generation, hit.text, round(hit.score, 5)) for hit in (await self.search(query, mode)).hits]

    async def rows(self, table: str) -> int:
        """How many rows of a table the tenant has."""
        return int(await self.superuser.fetchval(f"SELECT count(*) FROM docray.{table} WHERE tenant_id = $1", self.principal.tenant_id))

    async def vectors(self) -> dict[tuple[UUID, int], int]:
        """Vectors by document and generation."""
        found = await self.superuser.fetch(
            "SELECT document_id, generation, count(*) AS vectors FROM docray.chunk_vectors WHERE tenant_id = $1 GROUP BY 1, 2",
            self.principal.tenant_id,
        )
        return {(row["document_id"], row["generation"]): row["vectors"] for row in found}

    async def keys(self) -> list[str]:
        """Every blob."""
        return sorted([key async for key, _ in self.blobs.list_keys()])
