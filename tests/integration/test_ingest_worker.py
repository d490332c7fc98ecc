"""The worker's flow on the real queue: what becomes of transient faults, lost leases, cancellation and deletes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from catalog_factories import a_document, chunks_of, some_pages

from docray.domain.documents import Chunk, Extraction, FailureCode, Page, State
from docray.domain.errors import ExtractionFailed, LostLease, NotFound, Unavailable
from docray.domain.ids import blob_key
from docray.domain.ports import Vectors
from docray.domain.principals import Principal
from docray.ingestion.worker import IngestWorker, WorkerTimes
from docray.stores.filesystem_blobs import FilesystemBlobs
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_jobs import PostgresJobQueue


class ScriptedParser:
    """Two pages for whatever file; waits while `gate` is closed, raises what `error` holds."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.error: Exception | None = None

    async def extract(self, path: Path, *, on_progress: Callable[[int, int], Awaitable[None]] | None = None) -> Extraction:
        assert path.is_file()
        self.begun.set()
        if on_progress:
            await on_progress(1, 2)
        await self.gate.wait()
        if self.error:
            raise self.error
        return Extraction(pages=some_pages(2))


class PageChunker:
    def chunk(self, pages: Sequence[Page], *, title: str | None, filename: str) -> list[Chunk]:
        return chunks_of(pages)


class FaultyEmbedder:
    """A fake model: unit vectors, after failing as often as `failures` says."""

    model_id, dimension, max_tokens = "fake@1", 4, 256

    def __init__(self) -> None:
        self.failures = 0

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        if self.failures:
            self.failures -= 1
            raise Unavailable
        return np.tile(np.array([[1, 0, 0, 0]], np.float32), (len(texts), 1))

    embed_queries = embed_passages

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


class Bench:
    """A worker over the real queue, index and blobs."""

    def __init__(self, catalog: PostgresCatalog, queue: PostgresJobQueue, database: Database, folder: Path, principal: Principal) -> None:
        self.catalog, self.queue, self.principal = catalog, queue, principal
        self.blobs = FilesystemBlobs(folder)
        self.blobs.prepare()
        self.parser, self.embedder = ScriptedParser(), FaultyEmbedder()
        self.index = PgVectorIndex(database)
        self.worker = IngestWorker(
            name="test", queue=queue, blobs=self.blobs, parser=self.parser, chunker=PageChunker(), embedder=self.embedder, index=self.index,
            times=WorkerTimes(lease_s=45, heartbeat_s=0.05, poll_s=0.01),
        )  # fmt: skip

    async def add(self):  # type: ignore[no-untyped-def]
        document = a_document()
        staged = self.blobs.staging() / "in"
        staged.write_bytes(b"%PDF-")
        await self.blobs.put_file(blob_key(self.principal.tenant_id, document.id, 1), staged)
        async with self.catalog.transaction(self.principal) as tx:
            return await tx.documents.insert(document)

    async def now(self, document_id):  # type: ignore[no-untyped-def]
        async with self.catalog.transaction(self.principal) as tx:
            return await tx.documents.get(document_id)

    async def delete(self, document_id) -> None:  # type: ignore[no-untyped-def]
        async with self.catalog.transaction(self.principal) as tx:
            await tx.documents.mark_deleting(document_id)


@pytest.fixture
def bench(catalog: PostgresCatalog, queue: PostgresJobQueue, worker_database: Database, tmp_path: Path, principal: Principal) -> Bench:
    return Bench(catalog, queue, worker_database, tmp_path / "blobs", principal)


async def work_until(bench: Bench, document_id, holds) -> None:  # type: ignore[no-untyped-def]
    """Runs the worker's step until the document is as wanted."""
    async with asyncio.timeout(60):
        while not holds(await bench.now(document_id)):
            if not await bench.worker.work_once():
                await asyncio.sleep(0.05)  # the queue's own delay between tries


async def test_a_document_goes_from_queued_to_ready_and_its_index_is_whole(bench: Bench) -> None:
    document = await bench.add()
    assert await bench.worker.work_once()
    ready = await bench.now(document.id)
    assert (ready.state, ready.page_count, ready.chunk_count) == (State.READY, 2, 2)
    assert await bench.index.count(bench.principal.tenant_id, document.id, 1) == 2
    assert not await bench.worker.work_once()


async def test_a_transient_fault_is_tried_again_from_the_recorded_state(bench: Bench) -> None:
    document = await bench.add()
    bench.embedder.failures = 1
    await bench.worker.work_once()
    assert (await bench.now(document.id)).state is State.PARSED
    await work_until(bench, document.id, lambda now: now.state is State.READY)


async def test_a_fault_that_stays_fails_with_dependency_after_four_tries(bench: Bench) -> None:
    document = await bench.add()
    bench.embedder.failures = 99
    await work_until(bench, document.id, lambda now: now.state is State.FAILED)
    failed = await bench.now(document.id)
    assert (failed.failure.code, failed.failure.retryable) == (FailureCode.DEPENDENCY, True)
    assert bench.embedder.failures == 99 - 4


async def test_a_file_that_cannot_be_read_fails_at_once_with_its_code(bench: Bench) -> None:
    document = await bench.add()
    bench.parser.error = ExtractionFailed(FailureCode.ENCRYPTED)
    await bench.worker.work_once()
    failed = await bench.now(document.id)
    assert (failed.state, failed.failure.code) == (State.FAILED, FailureCode.ENCRYPTED)


async def test_delete_wins_over_a_document_in_work_and_the_purge_leaves_nothing(bench: Bench) -> None:
    document = await bench.add()
    bench.parser.gate.clear()
    working = asyncio.create_task(bench.worker.work_once())
    await bench.parser.begun.wait()
    await bench.delete(document.id)
    await asyncio.wait_for(working, 30)  # the heartbeat notices, although the parser never ends
    with pytest.raises(NotFound):
        await bench.now(document.id)
    async with asyncio.timeout(30):
        while not await bench.worker.purge_once():
            await asyncio.sleep(0.05)  # the queue's own delay
    assert await bench.index.count(bench.principal.tenant_id, document.id, 1) == 0
    assert [key async for key, _ in bench.blobs.list_keys()] == []


async def test_a_purger_that_slept_past_its_lease_takes_nothing_from_the_try_that_followed(bench: Bench, superuser) -> None:  # type: ignore[no-untyped-def]
    document = await bench.add()
    bench.embedder.failures = 4
    await work_until(bench, document.id, lambda now: now.state is State.FAILED)
    late = await bench.queue.lease_purge("slept", 45)
    await superuser.execute("UPDATE docray.purges SET lease_until = now() - interval '1 s'")
    assert await bench.worker.purge_once()
    async with bench.catalog.transaction(bench.principal) as tx:
        await tx.documents.requeue(document.id)
    await work_until(bench, document.id, lambda now: now.state is State.READY)
    with pytest.raises(LostLease):
        await bench.queue.hold_purge(late, 45)
    assert await bench.index.purge(late.tenant_id, late.document_id, late.generation) == 0  # it had looked before, and was stopped in between
    assert await bench.index.count(bench.principal.tenant_id, document.id, 1) == 2


async def test_a_purge_that_takes_long_keeps_its_lease(bench: Bench, superuser, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    document = await bench.add()
    await bench.worker.work_once()
    await bench.delete(document.id)
    purge, begun = bench.index.purge, asyncio.Event()

    async def slow(*arguments):  # type: ignore[no-untyped-def]
        begun.set()
        first = await superuser.fetchval("SELECT lease_until FROM docray.purges")
        while await superuser.fetchval("SELECT lease_until FROM docray.purges") == first:
            await asyncio.sleep(0.02)
        return await purge(*arguments)

    monkeypatch.setattr(bench.index, "purge", slow)
    async with asyncio.timeout(30):
        assert await bench.worker.purge_once()
    assert begun.is_set()
    assert await superuser.fetchval("SELECT count(*) FROM docray.purges") == 0


async def test_what_the_index_lost_before_the_publish_is_written_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    document = await bench.add()
    upsert, lost = bench.index.upsert, []

    async def loses_once(*arguments):  # type: ignore[no-untyped-def]
        await upsert(*arguments)
        if not lost:
            lost.append(await bench.index.purge(bench.principal.tenant_id, document.id, 1))

    monkeypatch.setattr(bench.index, "upsert", loses_once)
    await bench.worker.work_once()
    assert lost[0] > 0
    assert (await bench.now(document.id)).state is State.INDEXED
    await work_until(bench, document.id, lambda now: now.state is State.READY)
    assert await bench.index.count(bench.principal.tenant_id, document.id, 1) == 2


async def test_a_worker_that_is_stopped_gives_its_job_back_at_once(bench: Bench) -> None:
    document = await bench.add()
    bench.parser.gate.clear()
    working = asyncio.create_task(bench.worker.work_once())
    await bench.parser.begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    bench.parser.gate.set()
    assert await bench.worker.work_once()
    assert (await bench.now(document.id)).state is State.READY


async def test_the_sweep_removes_old_blobs_without_a_row_and_keeps_the_others(bench: Bench) -> None:
    import os
    import time

    document = await bench.add()
    staged = bench.blobs.staging() / "orphan"
    staged.write_bytes(b"%PDF-")
    await bench.blobs.put_file("orphan/1.pdf", staged)
    (bench.blobs.staging() / "broken-off").write_bytes(b"x")
    old = time.time() - 2 * 24 * 3600
    for key in [key async for key, _ in bench.blobs.list_keys()]:
        os.utime(await bench.blobs.open(key), (old, old))
    os.utime(bench.blobs.staging() / "broken-off", (old, old))
    await bench.worker.maintain_once()
    assert [key async for key, _ in bench.blobs.list_keys()] == [blob_key(bench.principal.tenant_id, document.id, 1)]
    assert list(bench.blobs.staging().iterdir()) == []
