"""A leased PDF on its way to being published: parse, index, publish, each recorded under the lease's fence.

Owns the order of effects and records within a step. A worker takes the steps one after the other, a bulk run each in another process. Leaves
leases, retries and what becomes of errors to them, vectors to an embedder.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from docray.domain.documents import Chunk, Extraction, FailureCode, Page, Stage, State
from docray.domain.errors import ExtractionFailed, LostLease, NotFound, Unavailable
from docray.domain.ids import chunk_id
from docray.domain.job_queue import JobQueue
from docray.domain.jobs import Lease
from docray.domain.ports import BlobStore, ChunkIndex, Vectors
from docray.resilience.failpoints import reached

OnProgress = Callable[[int, int], Awaitable[None]]
_NONE: Mapping[str, Vectors] = MappingProxyType({})


class PdfParser(Protocol):
    """What is needed of `docray.ingestion.sandbox.client.Parser`."""

    async def extract(self, path: Path, *, on_progress: OnProgress | None = None) -> Extraction:
        """Pages of a PDF; ExtractionFailed with the reason."""
        ...


class PageChunker(Protocol):
    """What is needed of `docray.ingestion.chunking.Chunker`; runs in a thread."""

    def chunk(self, pages: Sequence[Page], *, title: str | None, filename: str) -> list[Chunk]:
        """Passages of the pages."""
        ...


class GenerationReader:
    """PDF → stored pages and chunks. A generation of a reindex takes the pages that are stored already: a PDF is read once."""

    def __init__(self, *, queue: JobQueue, blobs: BlobStore, parser: PdfParser, chunker: PageChunker, chunker_name: str | None = None) -> None:
        """`chunker_name` is noted with what was cut: the same name cuts the same pages alike."""
        self._queue = queue
        self._blobs = blobs
        self._parser = parser
        self._chunker = chunker
        self._chunker_name = chunker_name

    async def chunks(self, lease: Lease, *, on_progress: OnProgress | None = None) -> Sequence[Chunk]:
        """The generation's chunks: parsed now and recorded, or as an earlier try recorded them.

        ExtractionFailed for a file that cannot be read, LostLease when the generation was superseded or deleted.
        """
        if lease.state is not State.QUEUED:
            return await self._queue.chunks(lease)
        extraction = await self._stored(lease) if lease.reindex_id else await self._parsed(lease, on_progress)
        title = lease.title or extraction.title
        chunks = await asyncio.to_thread(self._chunker.chunk, extraction.pages, title=title, filename=lease.filename)
        if not chunks:
            raise ExtractionFailed(FailureCode.NO_TEXT)
        await reached("extract.before_record")
        await self._queue.record_parsed(lease, extraction.pages, chunks, extraction.title, chunker=self._chunker_name)
        await reached("parsed.after_record")
        return chunks

    async def _stored(self, lease: Lease) -> Extraction:
        return Extraction(pages=tuple(await self._queue.source_pages(lease)), title=lease.title)

    async def _parsed(self, lease: Lease, on_progress: OnProgress | None) -> Extraction:
        try:
            path = await self._blobs.open(lease.blob_key)
            await reached("extract.before_effect")
            return await self._parser.extract(path, on_progress=on_progress)
        except (NotFound, FileNotFoundError) as error:  # the blob was purged under us: the generation is superseded or deleted
            raise LostLease from error


class GenerationPublisher:
    """Chunks and their vectors → an indexed, published generation."""

    def __init__(self, *, queue: JobQueue, index: ChunkIndex) -> None:
        self._queue = queue
        self._index = index

    async def is_indexed(self, lease: Lease, chunks: Sequence[Chunk]) -> bool:
        """Whether the index holds every chunk: a purger of an earlier try that slept past its lease may have taken some."""
        return await self._index.count(lease.tenant_id, lease.document_id, lease.generation) == len(chunks)

    async def index(self, lease: Lease, chunks: Sequence[Chunk], vectors: Vectors, model_id: str, also: Mapping[str, Vectors] = _NONE) -> None:
        """Writes the index, with the vectors of further models beside. A lease of a later state writes it anew: ids are deterministic, so
        nothing doubles."""
        await reached("embed.before_record")
        if lease.state in (State.QUEUED, State.PARSED):
            await self._queue.record_state(
                lease, State.PARSED, State.EMBEDDED, embedding_model=model_id, dimension=int(vectors.shape[1]), also=tuple(also)
            )
        await reached("embed.after_record")
        await self._queue.progress(lease, Stage.INDEX, 0, None)
        rows = [(chunk_id(lease.tenant_id, lease.document_id, lease.generation, chunk.n), chunk) for chunk in chunks]
        for model, found in {model_id: vectors, **also}.items():
            await self._index.upsert(lease.tenant_id, lease.document_id, lease.generation, rows, found, model)
        await reached("index.before_record")
        if lease.state is not State.INDEXED:
            await self._queue.record_state(lease, State.EMBEDDED, State.INDEXED)
        await reached("index.after_record")

    async def publish(self, lease: Lease, chunks: Sequence[Chunk]) -> None:
        """The generation answers from here on. Unavailable where the index lost some of it, LostLease when the fence moved on."""
        if not await self.is_indexed(lease, chunks):
            raise Unavailable("The index does not hold what was written to it.")
        await self._queue.publish(lease)
        await reached("publish.after_record")
