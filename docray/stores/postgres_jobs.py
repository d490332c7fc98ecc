"""The queue of ingest jobs: leases under fences, and what a worker records under its lease.

Every record is one short transaction that locks the document, then its generation, and holds only if the lease does. Leaves purges
and upkeep to `postgres_purges`, which completes the port.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from docray.domain.documents import FAILURE_MESSAGES, Chunk, Failure, FailureCode, Page, State
from docray.domain.errors import LostLease
from docray.domain.ids import chunk_id
from docray.domain.jobs import Lease, may_follow
from docray.domain.reindexes import ReindexState, Switch
from docray.resilience.failpoints import reached
from docray.stores import page_layout, postgres_audit
from docray.stores.postgres import Connection, Database
from docray.stores.postgres_purges import PostgresPurges
from docray.stores.rows import boxes_to_json, chunk_of, lease_of, page_of, spans_to_json
from docray.stores.sql import load

_SQL = load("jobs")
_TENANTS = load("tenants")
_REINDEXES = load("reindexes")
_MAX_TAKEOVERS = 5
_BATCH = 500  # rows sent at once; a statement stays far below its 5 s


class PostgresJobQueue(PostgresPurges):
    """`docray.domain.job_queue.JobQueue`."""

    def __init__(self, database: Database, *, idempotency_keep_s: float = 24 * 3600.0) -> None:
        super().__init__(database, idempotency_keep_s=idempotency_keep_s)
        self._database = database

    async def lease(self, worker: str, lease_s: float, models: Sequence[str] = ()) -> Lease | None:
        """The next job of the tenant whose turn it is, or None: uploads first, then what reindexes build by one of the models.

        Takes over expired leases; more than 5 takeovers fail it.
        """
        crash = FAILURE_MESSAGES[FailureCode.PARSER_CRASH]
        rows = await self._database.call(_SQL["lease"], worker, lease_s, _MAX_TAKEOVERS, crash, list(models))
        return lease_of(rows[0]) if rows else None

    async def backlog(self) -> int:
        """How many generations of all tenants wait for a worker."""
        [row] = await self._database.call(_SQL["backlog"])
        return int(row[0])

    async def heartbeat(self, lease: Lease, lease_s: float) -> None:
        """Extends the lease. LostLease when the fence moved on or the document is being deleted."""
        await self._hold(lease, "heartbeat", lease_s)

    async def progress(self, lease: Lease, stage: str, pages_done: int, pages_total: int | None) -> None:
        """Under the fence, LostLease otherwise. pages_done never goes back."""
        await self._hold(lease, "progress", stage, pages_done, pages_total)

    async def record_parsed(
        self, lease: Lease, pages: Sequence[Page], chunks: Sequence[Chunk], title: str | None, *, chunker: str | None = None
    ) -> None:
        """Writes pages and chunks of the generation (again: replaces them), QUEUED → PARSED. Of a reindex the pages are those of its source."""
        page_rows, chunk_rows = await asyncio.to_thread(_rows_of, lease, () if lease.reindex_id else pages, chunks, pages)
        async with self._locked(lease) as connection:
            await self._set_state(connection, lease, State.QUEUED, State.PARSED)
            for name in ("delete_chunks", "delete_pages"):
                await connection.execute(_SQL[name], lease.document_id, lease.generation)
            if lease.reindex_id:
                await _copy_pages(connection, lease, pages)
            for name, rows in (("insert_page", page_rows), ("insert_chunk", chunk_rows)):
                for batch in _batches(rows):
                    await connection.executemany(_SQL[name], batch)
            await connection.execute(_SQL["note_parsed"], lease.document_id, lease.generation, len(pages), len(chunks), title, chunker)
            await reached("parsed.before_record")

    async def source_pages(self, lease: Lease) -> Sequence[Page]:
        """The stored pages that a generation of a reindex is made of, in order. LostLease when they are gone: the document was replaced."""
        async with self._database.tenant_tx(lease.tenant_id) as connection:
            rows = await connection.fetch(_SQL["pages"], lease.document_id, lease.source_generation)
        if not rows:
            raise LostLease
        return await asyncio.to_thread(lambda: [page_of(row) for row in rows])

    async def chunks(self, lease: Lease) -> Sequence[Chunk]:
        """The stored chunks of the generation, to embed them."""
        async with self._database.tenant_tx(lease.tenant_id) as connection:
            return [chunk_of(row) for row in await connection.fetch(_SQL["chunks"], lease.document_id, lease.generation)]

    async def record_state(
        self, lease: Lease, before: State, after: State, *, embedding_model: str | None = None, dimension: int | None = None,
        also: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """A compare-and-set of the state under the fence. LostLease when it does not hold. `also` are further models that embedded it."""
        models = None if embedding_model is None else [embedding_model, *also]
        async with self._locked(lease) as connection:
            await self._set_state(connection, lease, before, after, embedding_model, dimension, models)

    async def publish(self, lease: Lease) -> None:
        """INDEXED → READY in one compare-and-set. LostLease when the document is being deleted, or superseded meanwhile."""
        if lease.reindex_id is not None:
            await publish_rebuilt(self._database, lease)
            return
        identity = (lease.document_id, lease.generation)
        async with self._locked(lease) as connection:
            live = await connection.fetchval(_SQL["lock_document"], lease.document_id)
            done = await connection.fetchrow(_SQL["end_job"], *identity, lease.fence)
            if done is None:
                raise LostLease
            if live is not None:
                for old in await connection.fetch(_SQL["retire"], *identity, live):
                    await connection.execute(_SQL["order_purge"], lease.tenant_id, lease.document_id, old["generation"])
            await connection.execute(_SQL["show_live"], *identity)
            await postgres_audit.record(
                connection, lease.tenant_id, ("worker", None), "document.published", ("document", lease.document_id),
                {"generation": lease.generation},
            )  # fmt: skip
            counts = {"pages": done["page_count"] or 0, "chunks": done["chunk_count"] or 0, "size_bytes": done["size_bytes"]}
            await postgres_audit.record_usage(connection, lease.tenant_id, "ingest", *identity, **counts)
            await connection.execute(_TENANTS["raise_epoch_and_keep_model"], lease.tenant_id, done["embedding_model"])
            await reached("publish.before_record")

    async def fail(self, lease: Lease, failure: Failure) -> None:
        """FAILED with a reason; what the generation had written is purged (its blob stays, for retry)."""
        identity = (lease.tenant_id, lease.document_id, lease.generation, lease.fence)
        async with self._database.tenant_tx(lease.tenant_id) as connection:
            reason = (failure.code.value, failure.message, failure.retryable, None)
            if not await connection.fetchval(_SQL["fail"], *identity, *reason):
                raise LostLease
            await reached("fail.before_record")
        await reached("fail.after_record")

    async def retry_later(self, lease: Lease, delay_s: float) -> None:
        """Gives the job back after a transient error, to be leased again after the delay."""
        await self._hold(lease, "retry_later", delay_s)

    async def release(self, lease: Lease) -> None:
        """Gives the job back at once: at shutdown, and after LostLease, so that a purge need not wait for the lease to run out."""
        async with self._database.tenant_tx(lease.tenant_id) as connection:
            await connection.execute(_SQL["release"], lease.document_id, lease.generation, lease.fence)

    async def _hold(self, lease: Lease, query: str, *values: Any) -> None:
        """Runs a statement that finds a row only while the lease holds."""
        async with self._database.tenant_tx(lease.tenant_id) as connection:
            row = await connection.fetchrow(_SQL[query], lease.document_id, lease.generation, lease.fence, *values)
            if row is None:
                raise LostLease

    @asynccontextmanager
    async def _locked(self, lease: Lease) -> AsyncIterator[Connection]:
        """A transaction that holds the job's document; LostLease once that is being deleted."""
        async with self._database.tenant_tx(lease.tenant_id) as connection:
            if await connection.fetchrow(_SQL["lock_document"], lease.document_id) is None:
                raise LostLease
            yield connection

    async def _set_state(
        self, connection: Connection, lease: Lease, before: State, after: State, model: str | None = None, dimension: int | None = None,
        models: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        if not may_follow(before, after):
            raise ValueError(f"{before} is never followed by {after}")
        given = (lease.document_id, lease.generation, lease.fence, before.value, after.value, model, dimension, models)
        if await connection.fetchval(_SQL["set_state"], *given) is None:
            raise LostLease
        if lease.reindex_id is None:
            await connection.execute(_SQL["show_state"], lease.document_id, after.value)


async def publish_rebuilt(database: Database, lease: Lease) -> None:
    """A generation of a reindex is ready: it answers now, or waits for the switch. What answered before is kept either way, and nothing was used.

    Locks the reindex before the document, as a switch does.
    """
    async with database.tenant_tx(lease.tenant_id) as connection:
        run = await connection.fetchrow(_REINDEXES["share"], lease.reindex_id)
        live = await connection.fetchval(_SQL["lock_document"], lease.document_id)
        done = await connection.fetchrow(_SQL["end_job"], lease.document_id, lease.generation, lease.fence)
        if run is None or done is None or live is None or live != done["source_generation"]:
            raise LostLease
        if run["switch"] == Switch.TENANT and run["state"] == ReindexState.BUILDING:
            return
        await connection.execute(_SQL["show_live"], lease.document_id, lease.generation)
        what, details = ("document", lease.document_id), {"generation": lease.generation, "reindex": str(lease.reindex_id)}
        await postgres_audit.record(connection, lease.tenant_id, ("worker", None), "document.reindexed", what, details)
        await connection.execute(_TENANTS["raise_epoch"], lease.tenant_id)


async def _copy_pages(connection: Connection, lease: Lease, pages: Sequence[Page]) -> None:
    """The source's pages, row by row, within the database."""
    last = pages[-1].number if pages else 0
    for start in range(1, last + 1, _BATCH):
        await connection.execute(
            _SQL["copy_pages"], lease.document_id, lease.generation, lease.source_generation, start, min(start + _BATCH - 1, last)
        )


def _rows_of(
    lease: Lease, written: Sequence[Page], chunks: Sequence[Chunk], pages: Sequence[Page]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Rows of docray.pages and docray.chunks. Runs in a thread: packing thousands of pages would stop the event loop for seconds."""
    identity = (lease.tenant_id, lease.document_id, lease.generation)
    by_number = {page.number: page for page in pages}
    page_rows = [
        (*identity, page.number, page.width, page.height, page.rotation, page.text, page_layout.pack(page.words, page.blocks))
        for page in written
    ]
    chunk_rows = [
        (
            *identity, chunk.n, chunk_id(*identity, chunk.n), chunk.text, _after(chunk, by_number), list(chunk.heading_path), chunk.context,
            spans_to_json(chunk.spans), boxes_to_json(chunk.pages), sorted({span.page for span in chunk.spans}), chunk.tokens,
        )
        for chunk in chunks
    ]  # fmt: skip
    return page_rows, chunk_rows


def _after(chunk: Chunk, pages: dict[int, Page]) -> str:
    """What separates the chunk from what follows it: the separator of its last word."""
    last = chunk.spans[-1]
    return pages[last.page].words[last.end - 1].after


def _batches(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
