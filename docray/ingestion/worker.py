"""The ingest worker: takes a queued PDF to a published generation, and purges what is to go.

Owns leases kept alive and what becomes of each error. Leaves the steps to `docray.ingestion.generation`, fences to the queue. Every
effect is recorded under the lease's fence, so two workers with one job, a killed one and a late one do no harm.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from docray.domain.documents import Failure, FailureCode, Stage, State
from docray.domain.errors import DocrayError, ExtractionFailed, LostLease
from docray.domain.job_queue import JobQueue
from docray.domain.jobs import RETRY_DELAYS_S, Lease, Purge
from docray.domain.ports import BlobStore, ChunkIndex, Embedder
from docray.domain.reindexes import ReindexPlanner
from docray.ingestion.generation import GenerationPublisher, GenerationReader, OnProgress, PageChunker, PdfParser
from docray.resilience.failpoints import reached

log = structlog.get_logger(__name__)

_ORPHAN_AGE_S = 24 * 3600.0
_MAINTENANCE_PERIOD_S = 600.0
_PLAN_PERIOD_S = 1.0
_PROGRESS_PERIOD_S = 0.25  # a progress row twice as often as a client polls; more would only burn the database


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimes:
    """How long and how often, in seconds."""

    lease_s: float = 45.0
    heartbeat_s: float = 10.0
    poll_s: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class NextModel:
    """The model that a reindex is to bring, beside the present one, and how it cuts pages."""

    embedder: Embedder
    chunker: PageChunker
    chunker_name: str | None = None


class IngestWorker:
    """One worker process: `concurrency` jobs at a time, one purge loop, one maintenance loop, one that plans reindexes."""

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
        chunker_name: str | None = None,
        next_model: NextModel | None = None,
        planner: ReindexPlanner | None = None,
    ) -> None:
        """`embedder` and `chunker` are for all that is leased for none of this worker's models."""
        self._name = name
        self._queue = queue
        self._blobs = blobs
        self._planner = planner
        forms = [NextModel(embedder=embedder, chunker=chunker, chunker_name=chunker_name), *filter(None, (next_model,))]
        self._forms = [
            (form.embedder, GenerationReader(queue=queue, blobs=blobs, parser=parser, chunker=form.chunker, chunker_name=form.chunker_name))
            for form in forms
        ]
        self._publisher = GenerationPublisher(queue=queue, index=index)
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
            loops.create_task(self._forever("plan", self.plan_once, _PLAN_PERIOD_S))

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
        await reached("lease.before_effect")
        lease = await self._queue.lease(self._name, self._times.lease_s, [embedder.model_id for embedder, _ in self._forms])
        if lease is None:
            return False
        await reached("lease.after_record")
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
            log.info("a generation is ready", action="published", seconds=round(time.monotonic() - started, 3), **_ids(lease))
        return True

    async def process(self, lease: Lease) -> None:
        """From wherever the generation stands to published. Raises what went wrong."""
        (embedder, reader), *others = self._forms_for(lease)
        chunks = await reader.chunks(lease, on_progress=self._progress_of(lease))
        if lease.state is not State.INDEXED or not await self._publisher.is_indexed(lease, chunks):
            await self._queue.progress(lease, Stage.EMBED, 0, None)
            await reached("embed.before_effect")
            texts = [chunk.indexed_text for chunk in chunks]
            vectors = await embedder.embed_passages(texts)
            also = {other.model_id: await other.embed_passages(texts) for other, _ in others}
            await self._publisher.index(lease, chunks, vectors, embedder.model_id, also)
        await self._publisher.publish(lease, chunks)

    def _forms_for(self, lease: Lease) -> list[tuple[Embedder, GenerationReader]]:
        """The models that a generation is to be embedded by, in the lease's order; this worker's own where it has none of them: the document
        then is found by its words, and by its meaning after the next reindex."""
        by_model = {embedder.model_id: (embedder, reader) for embedder, reader in self._forms}
        return [by_model[model] for model in lease.models if model in by_model] or self._forms[:1]

    def _progress_of(self, lease: Lease) -> OnProgress:
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
                await reached("purge.before_effect")
                for key in await self._queue.blob_keys_of(purge):
                    await self._blobs.delete(key)
                await reached("purge.after_blobs")
                await self._queue.hold_purge(purge, self._times.lease_s)
                await self._index.purge(purge.tenant_id, purge.document_id, purge.generation)
                await reached("purge.before_record")
                await self._queue.finish_purge(purge)
                await reached("purge.after_record")
        except LostLease:
            log.info("the purge was taken over or ordered anew", action="purge_lost", **_ids(purge))
        else:
            log.info("purged", action="purged", **_ids(purge))
        return True

    async def plan_once(self) -> bool:
        """Queues what reindexes build next and removes the vectors that ended ones left; False when there is nothing to do."""
        if self._planner is None:
            return False
        planned = await self._planner.plan()
        for dropping in await self._planner.to_drop():
            gone = await self._index.drop(dropping)
            await self._planner.dropped(dropping)
            log.info("vectors of a reindex that ended are gone", action="dropped", tenant_id=str(dropping.tenant_id), vectors=gone)
        return planned

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
