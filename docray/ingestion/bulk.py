"""A file of a bulk run, from its source to a published document, in the two steps that touch stores.

Owns what a run records and what becomes of errors: a file that cannot be read ends with a code, like online; what is away for a moment is
tried again; whatever is left in between is found by its lease. Leaves how bytes are fetched to the caller, parallel work to `pipelines`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import structlog

from docray.domain.bulk import Driver, Ended, FileState, RunFile
from docray.domain.catalog import Catalog, Transaction
from docray.domain.documents import FAILURE_MESSAGES, Chunk, Failure, FailureCode
from docray.domain.errors import ExtractionFailed, LostLease, NotAPdf, NotFound, RateLimit, TooLarge, Unavailable
from docray.domain.job_queue import JobQueue
from docray.domain.jobs import RETRY_DELAYS_S, Lease
from docray.domain.ports import Vectors
from docray.domain.principals import Principal
from docray.ingestion.generation import GenerationPublisher, GenerationReader
from docray.ingestion.intake import Intake
from docray.ingestion.service import Accepted, DocumentService, Upload

log = structlog.get_logger(__name__)
T = TypeVar("T")

LEASE_S = 900.0
"""How long a run may take from reading a file to publishing it. After that an ingest worker may take the document up, too."""

Bytes = Callable[[str], AsyncIterator[bytes]]
_TRANSIENT = (Unavailable, RateLimit, OSError)


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file whose pages and chunks are stored, and which waits for vectors."""

    n: int
    lease: Lease
    chunks: Sequence[Chunk]


class BulkReader:
    """The first step: bytes, document, pages and chunks."""

    def __init__(
        self, *, catalog: Catalog, queue: JobQueue, documents: DocumentService, intake: Intake, reader: GenerationReader, fetch: Bytes
    ) -> None:
        """`fetch(uri)` gives a file's bytes piece by piece; FileNotFoundError when it is gone, OSError when the source does not answer."""
        self._catalog = catalog
        self._queue = queue
        self._documents = documents
        self._intake = intake
        self._reader = reader
        self._fetch = fetch

    async def read(self, principal: Principal, driver: Driver, run_file: RunFile, collection_ids: Sequence[UUID] = ()) -> ReadFile | None:
        """The file, ready to be embedded; None when it has ended, or is in other hands. LostLease when another driver drives."""
        try:
            lease = await patiently(lambda: self._lease(principal, driver, run_file, collection_ids))
        except (NotAPdf, TooLarge, FileNotFoundError, *_TRANSIENT) as error:
            await _end(self._catalog, principal, driver, run_file.n, Ended(state=FileState.FAILED, failure=_reason(error)))
            return None
        if lease is None:
            return None
        try:
            lease, chunks = await _under_lease(self._catalog, principal, driver, (run_file.n, lease), self._reader.chunks)
            return ReadFile(run_file.n, lease, chunks)
        except ExtractionFailed as error:
            failure = Failure.of(error.failure)
        except LostLease:  # superseded or deleted meanwhile; `settle` tells how it ended
            return None
        except _TRANSIENT:
            failure = Failure.of(FailureCode.DEPENDENCY)
        await _fail(self._catalog, self._queue, principal, driver, (run_file.n, lease), failure)
        return None

    async def _lease(self, principal: Principal, driver: Driver, run_file: RunFile, collection_ids: Sequence[UUID]) -> Lease | None:
        if run_file.document_id is not None:
            async with self._catalog.transaction(principal) as tx:
                return await tx.bulk_runs.take(driver, run_file.n, run_file.document_id, LEASE_S)

        async def conclude(tx: Transaction, accepted: Accepted) -> Lease | None:
            document = accepted.document
            # A try before this one may have made it, its answer being lost on the way.
            if not accepted.duplicate or await tx.bulk_runs.document_of(driver, run_file.n) == document.id:
                return await tx.bulk_runs.take(driver, run_file.n, document.id, LEASE_S)
            await tx.bulk_runs.end(driver, run_file.n, Ended(state=FileState.DUPLICATE, document_id=document.id))
            return None

        file = run_file.file
        async with self._intake.receive() as staging:
            async for data in self._fetch(file.uri):
                await staging.write(data)
            upload = Upload(
                file=await staging.finish(), filename=file.uri, title=file.title, metadata=file.metadata, collection_ids=tuple(collection_ids)
            )
            return await self._documents.accept(principal, upload, conclude)


class BulkWriter:
    """The second step: index and publish. Any number of times: what has been done is not done again."""

    def __init__(self, *, catalog: Catalog, queue: JobQueue, publisher: GenerationPublisher) -> None:
        self._catalog = catalog
        self._queue = queue
        self._publisher = publisher

    async def write(self, principal: Principal, driver: Driver, file: ReadFile, vectors: Vectors, model_id: str) -> bool:
        """Whether the document answers now by this call. False when it is in other hands or was deleted."""
        lease = file.lease

        async def publish(held: Lease) -> None:
            await self._queue.heartbeat(held, LEASE_S)
            await self._publisher.index(held, file.chunks, vectors, model_id)
            await self._publisher.publish(held, file.chunks)

        try:
            await _under_lease(self._catalog, principal, driver, (file.n, lease), publish)
        except LostLease:
            log.info("a document of a bulk run is in other hands", action="lease_lost", document_id=str(lease.document_id))
            return False
        except _TRANSIENT as error:
            log.warning("a document could not be written", action="write_failed", document_id=str(lease.document_id), exc_info=error)
            await _fail(self._catalog, self._queue, principal, driver, (file.n, lease), Failure.of(FailureCode.DEPENDENCY))
            return False
        await _end(self._catalog, principal, driver, file.n, lambda tx: _ready(tx, lease))
        return True


async def _end(
    catalog: Catalog, principal: Principal, driver: Driver, n: int, ended: Ended | Callable[[Transaction], Awaitable[Ended]]
) -> None:
    """Notes how a file ended, as given or as its transaction sees it. LostLease when another driver drives."""

    async def end() -> None:
        async with catalog.transaction(principal) as tx:
            await tx.bulk_runs.end(driver, n, ended if isinstance(ended, Ended) else await ended(tx))

    await patiently(end)


async def _fail(
    catalog: Catalog, queue: JobQueue, principal: Principal, driver: Driver, held: tuple[int, Lease], failure: Failure
) -> None:
    """Fails a file's generation and the file with it; neither where the generation is in other hands by now."""
    n, lease = held
    async with catalog.transaction(principal) as tx:  # a lease taken anew after a transient error has another fence
        known = await tx.bulk_runs.take(driver, n, lease.document_id, LEASE_S)
    if known is None:
        return
    await patiently(lambda: queue.fail(known, failure))
    ended = Ended(
        state=FileState.FAILED, document_id=lease.document_id, failure=(failure.code.value, failure.message), size_bytes=lease.size_bytes
    )
    await _end(catalog, principal, driver, n, ended)


async def _ready(tx: Transaction, lease: Lease) -> Ended:
    try:
        document = await tx.documents.get(lease.document_id)
    except NotFound:  # deleted since
        return Ended(state=FileState.READY, document_id=lease.document_id, size_bytes=lease.size_bytes)
    return Ended(
        state=FileState.READY, document_id=document.id, pages=document.page_count or 0, chunks=document.chunk_count or 0,
        size_bytes=lease.size_bytes,
    )  # fmt: skip


async def _under_lease(
    catalog: Catalog, principal: Principal, driver: Driver, held: tuple[int, Lease], step: Callable[[Lease], Awaitable[T]]
) -> tuple[Lease, T]:
    """Runs a step under a file's lease; after a transient error again, under a lease taken anew that knows how far the step had come.

    LostLease when the generation is in other hands or has ended.
    """
    n, lease = held
    known: Lease | None = lease
    for delay_s in (*RETRY_DELAYS_S, None):
        try:
            if known is None:
                async with catalog.transaction(principal) as tx:
                    known = await tx.bulk_runs.take(driver, n, lease.document_id, LEASE_S)
                if known is None:
                    raise LostLease
            return known, await step(known)
        except _TRANSIENT:
            if delay_s is None:
                raise
            await asyncio.sleep(delay_s)
            known = None
    raise AssertionError("the last try returns or raises")


async def patiently(step: Callable[[], Awaitable[T]]) -> T:
    """Tries what may be away for a moment again after 1, 2 and 4 s."""
    for delay_s in (*RETRY_DELAYS_S, None):
        try:
            return await step()
        except FileNotFoundError:
            raise
        except _TRANSIENT:
            if delay_s is None:
                raise
            await asyncio.sleep(delay_s)
    raise AssertionError("the last try returns or raises")


def _reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, NotAPdf):
        return FailureCode.NOT_A_PDF.value, FAILURE_MESSAGES[FailureCode.NOT_A_PDF]
    if isinstance(error, TooLarge):
        return FailureCode.TOO_LARGE.value, "The file is larger than this service accepts. Split it, or raise DOCRAY_MAX_DOCUMENT_BYTES."
    if isinstance(error, (FileNotFoundError, NotFound)):
        return "missing", "The source listed the file, but it was not there when it was read."
    return FailureCode.DEPENDENCY.value, FAILURE_MESSAGES[FailureCode.DEPENDENCY]
