"""The ingest worker: takes a queued PDF to a published generation, and purges what is to go.

Owns the order of the steps and what becomes of each error. Leaves leases and fences to the queue, parsing to the sandbox. Every
effect is recorded under the lease's fence, so two workers with one job, a killed one and a late one do no harm.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from docray.domain.catalog import JobQueue
from docray.domain.documents import Chunk, Extraction, Failure, FailureCode, Page, Stage, State
from docray.domain.errors import DocrayError, ExtractionFailed, LostLease, NotFound, Unavailable
from docray.domain.ids import chunk_id
from docray.domain.jobs import RETRY_DELAYS_S, Lease, Purge
from docray.domain.ports import BlobStore, ChunkIndex, Embedder, Vectors

log = structlog.get_logger(__name__)

_ORPHAN_AGE_S = 24 * 3600.0
_MAINTENANCE_PERIOD_S = 600.0
_PROGRESS_PERIOD_S = 0.25  # a progress row twice as often as a client polls; more would only burn the database


class PdfParser(Protocol):
    """What the worker needs of `docray.ingestion.sandbox.client.Parser`."""

    async def extract(self, path: Path, *, on_progress: Callable[[int, int], Awaitable[None]] | None = None) -> Extraction:
        """Pages of a PDF; ExtractionFailed with the reason."""
        ...


class PageChunker(Protocol):
    """What the worker needs of `docray.ingestion.chunking.Chunker`; runs in a thread."""

    def chunk(self, pages: Sequence[Page], *, title: str | None, filename: str) -> list[Chunk]:
        """Passages of the pages."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimes:
    """How long and how often, in seconds."""

    lease_s: float = 45.0
    heartbeat_s: float = 10.0
    poll_s: float = 0.25


class IngestWorker:
    """One worker process: `concurrency` jobs at a time, one purge loop, one maintenance loop."""

    def __init__(
        self,
        *,
        name: str,
        queue: JobQueue,
        blobs: BlobStore,
        parser: PdfParser,
        chunker: PageChunker,
        embedder: Embedder,
        index: ChunkIndex,
        times: WorkerTimes,
        concurrency: int = 1,
    ) -> None:
        self._name = name
        self._queue = queue
        self._blobs = blobs
        self._parser = parser
        self._chunker = chunker
        self._embedder = embedder
        self._index = index
        self._times = times
        self._concurrency = concurrency

    async def backlog(self) -> int:
        """How many jobs wait, of all tenants."""
        return await self._queue.backlog()

    async def run(self) -> None:
        """Works until cancelled; then gives back what it holds, so that another worker goes on at once."""
        async with asyncio.TaskGroup() as loops:
            for _ in range(self._concurrency):
                loops.create_task(self._forever("job", self.work_once, self._times.poll_s))
            loops.create_task(self._forever("purge", self.purge_once, 1.0))
            loops.create_task(self._forever("maintenance", self.maintain_once, _MAINTENANCE_PERIOD_S))

    async def _forever(self, what: str, step: Callable[[], Coroutine[Any, Any, bool]], pause_s: float) -> None:
        """Repeats a step at once while it finds work, after a pause when it does not, after a longer one when it breaks."""
        while True:
            try:
                if not await step():
                    await asyncio.sleep(pause_s)
            except Exception as error:
                log.warning("a worker loop failed and goes on", action=f"{what}_loop_failed", error=type(error).__name__, exc_info=True)
                await asyncio.sleep(1.0)

    # --- one job -------------------------------------------------------------------------------------------------------

    async def work_once(self) -> bool:
        """Leases one job and takes it as far as it goes; False when nothing waits."""
        lease = await self._queue.lease(self._name, self._times.lease_s)
        if lease is None:
            return False
        started = time.monotonic()
        try:
            async with self._kept_alive(lambda: self._queue.heartbeat(lease, self._times.lease_s), **_ids(lease)):
                await self.process(lease)
        except asyncio.CancelledError:
            await asyncio.shield(self._let_go(lease))
            raise
        except LostLease:
            await self._let_go(lease)  # a purge of this generation waits for the lease to end
            log.info("the job was taken over or its document deleted", action="lease_lost", **_ids(lease))
        except ExtractionFailed as error:
            await self._give_up(lease, Failure.of(error.failure))
        except Exception as error:
            await self._try_later(lease, error)
        else:
            log.info("a document is ready", action="published", seconds=round(time.monotonic() - started, 3), **_ids(lease))
        return True

    async def process(self, lease: Lease) -> None:
        """From wherever the generation stands to published. Raises what went wrong."""
        if lease.state is State.QUEUED:
            chunks = await self._parse(lease)
        else:
            chunks = await self._queue.chunks(lease)
        if lease.state is not State.INDEXED or not await self._is_indexed(lease, chunks):
            before = State.PARSED if lease.state is State.QUEUED else lease.state
            vectors = await self._embed(lease, chunks, before)
            await self._write_index(lease, chunks, vectors, before)
        if not await self._is_indexed(lease, chunks):
            raise Unavailable("The index does not hold what was written to it.")
        await self._queue.publish(lease)

    async def _is_indexed(self, lease: Lease, chunks: Sequence[Chunk]) -> bool:
        """Whether the index holds every chunk: a purger of an earlier try that slept past its lease may have taken some."""
        return await self._index.count(lease.tenant_id, lease.document_id, lease.generation) == len(chunks)

    async def _parse(self, lease: Lease) -> Sequence[Chunk]:
        try:
            path = await self._blobs.open(lease.blob_key)
            extraction = await self._parser.extract(path, on_progress=self._progress_of(lease))
        except (NotFound, FileNotFoundError) as error:  # the blob was purged under us: the generation is superseded or deleted
            raise LostLease from error
        title = lease.title or extraction.title
        chunks = await asyncio.to_thread(self._chunker.chunk, extraction.pages, title=title, filename=lease.filename)
        if not chunks:
            raise ExtractionFailed(FailureCode.NO_TEXT)
        await self._queue.record_parsed(lease, extraction.pages, chunks, extraction.title)
        return chunks

    async def _embed(self, lease: Lease, chunks: Sequence[Chunk], before: State) -> Vectors:
        pages = chunks[-1].spans[-1].page if chunks else 0
        await self._queue.progress(lease, Stage.EMBED, 0, None)
        vectors = await self._embedder.embed_passages([chunk.indexed_text for chunk in chunks])
        if before is State.PARSED:
            await self._queue.record_state(
                lease, State.PARSED, State.EMBEDDED, embedding_model=self._embedder.model_id, dimension=self._embedder.dimension
            )
        log.debug("embedded", action="embedded", chunks=len(chunks), pages=pages, **_ids(lease))
        return vectors

    async def _write_index(self, lease: Lease, chunks: Sequence[Chunk], vectors: Vectors, before: State) -> None:
        await self._queue.progress(lease, Stage.INDEX, 0, None)
        rows = [(chunk_id(lease.tenant_id, lease.document_id, lease.generation, chunk.n), chunk) for chunk in chunks]
        await self._index.upsert(lease.tenant_id, lease.document_id, lease.generation, rows, vectors, self._embedder.model_id)
        if before is not State.INDEXED:
            await self._queue.record_state(lease, State.EMBEDDED, State.INDEXED)

    def _progress_of(self, lease: Lease) -> Callable[[int, int], Awaitable[None]]:
        last = 0.0

        async def report(pages_done: int, pages_total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _PROGRESS_PERIOD_S or pages_done == pages_total:
                last = now
                await self._queue.progress(lease, Stage.EXTRACT, pages_done, pages_total)

        return report

    @contextlib.asynccontextmanager
    async def _kept_alive(self, extend: Callable[[], Awaitable[None]], **ids: Any) -> AsyncIterator[None]:
        """Extends a lease while the block runs; LostLease there cancels the block and is raised from it."""
        task = asyncio.current_task()
        assert task is not None
        lost: list[LostLease] = []

        async def beat() -> None:
            while True:
                await asyncio.sleep(self._times.heartbeat_s)
                try:
                    await extend()
                except LostLease as error:
                    lost.append(error)
                    task.cancel()
                    return
                except DocrayError as error:
                    log.warning("a heartbeat failed; the lease may run out", action="heartbeat_failed", error=error.code, **ids)

        heart = asyncio.create_task(beat())
        try:
            yield
        except asyncio.CancelledError:
            if lost and task.uncancel() == 0:
                raise lost[0] from None
            raise
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)

    async def _let_go(self, lease: Lease) -> None:
        with contextlib.suppress(DocrayError):
            await self._queue.release(lease)

    async def _give_up(self, lease: Lease, failure: Failure) -> None:
        log.info("a document could not be read", action="failed", code=failure.code, **_ids(lease))
        with contextlib.suppress(LostLease):
            await self._queue.fail(lease, failure)

    async def _try_later(self, lease: Lease, error: Exception) -> None:
        """1, 2, 4 s, then failed: a dependency that is away, or a fault of ours, must not spin for ever."""
        log.warning("a job broke", action="job_broke", error=type(error).__name__, attempt=lease.attempt, exc_info=error, **_ids(lease))
        if lease.attempt > len(RETRY_DELAYS_S):
            await self._give_up(lease, Failure.of(FailureCode.DEPENDENCY))
            return
        with contextlib.suppress(LostLease):
            await self._queue.retry_later(lease, RETRY_DELAYS_S[lease.attempt - 1])

    # --- what goes -----------------------------------------------------------------------------------------------------

    async def purge_once(self) -> bool:
        """Removes one deleted document or superseded generation everywhere; False when nothing is due."""
        purge = await self._queue.lease_purge(self._name, self._times.lease_s)
        if purge is None:
            return False
        try:
            async with self._kept_alive(lambda: self._queue.hold_purge(purge, self._times.lease_s), **_ids(purge)):
                for key in await self._queue.blob_keys_of(purge):
                    await self._blobs.delete(key)
                await self._queue.hold_purge(purge, self._times.lease_s)
                await self._index.purge(purge.tenant_id, purge.document_id, purge.generation)
                await self._queue.finish_purge(purge)
        except LostLease:
            log.info("the purge was taken over or ordered anew", action="purge_lost", **_ids(purge))
        else:
            log.info("purged", action="purged", **_ids(purge))
        return True

    async def maintain_once(self) -> bool:
        """Old idempotency keys, next months' partitions, blobs that no row owns."""
        await self._queue.maintain()
        keys = [key async for key, age_s in self._blobs.list_keys() if age_s > _ORPHAN_AGE_S]
        known = await self._queue.known_blobs(keys)
        for key in keys:
            if key not in known:
                await self._blobs.delete(key)
        self._drop_stale_uploads()
        return False

    def _drop_stale_uploads(self) -> None:
        """Files of uploads that broke off with their process."""
        oldest = time.time() - _ORPHAN_AGE_S
        for path in self._blobs.staging().iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _ids(work: Lease | Purge) -> dict[str, Any]:
    return {"tenant_id": str(work.tenant_id), "document_id": str(work.document_id), "generation": work.generation}
