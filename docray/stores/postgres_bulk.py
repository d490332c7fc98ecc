"""Bulk runs and their files inside one transaction. Leaves what happens to a document to the queue: a run only leases its generations."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from asyncpg import Record

from docray.domain.bulk import BulkRun, Driver, Ended, RunFile, RunState, SourceFile
from docray.domain.catalog import Listing, Paging
from docray.domain.errors import LostLease, NotFound, RunInProgress
from docray.domain.jobs import Lease
from docray.stores import cursors
from docray.stores.postgres_session import Session
from docray.stores.rows import lease_of
from docray.stores.sql import load

_SQL = load("bulk")
_LIST = "b"


class PostgresBulkRuns:
    """`docray.domain.bulk.BulkRuns`. Locks a run after documents and generations."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection

    async def insert(self, run_id: UUID, source: str, collection_id: UUID | None) -> None:
        """A run without files, driven by nobody."""
        await self._connection.execute(_SQL["insert"], self._session.tenant_id, run_id, source, collection_id)

    async def get(self, run_id: UUID) -> BulkRun:
        """NotFound when absent."""
        row = await self._connection.fetchrow(_SQL["get"], run_id)
        if row is None:
            raise NotFound
        return run_of(row)

    async def list(self, paging: Paging) -> Listing[BulkRun]:
        """Newest first, stable under inserts."""
        rows = await self._connection.fetch(_SQL["list"], *cursors.decode(_LIST, paging.after), paging.limit + 1)
        return cursors.page_of(_LIST, rows, [run_of(row) for row in rows], paging, at="created_at")

    async def unfinished(self, source: str, collection_id: UUID | None) -> BulkRun | None:
        """The newest run of this source and collection, unless it is through."""
        row = await self._connection.fetchrow(_SQL["unfinished"], source, collection_id)
        return run_of(row) if row else None

    async def drive(self, run_id: UUID, lease_s: float) -> Driver:
        """Makes the caller its driver. RunInProgress while another one's lease holds."""
        fence = await self._connection.fetchval(_SQL["drive"], run_id, lease_s)
        if fence is None:
            await self.get(run_id)
            raise RunInProgress
        return Driver(run_id=run_id, fence=fence)

    async def keep(self, driver: Driver, lease_s: float, seconds: float) -> None:
        """Extends the driver's lease and adds what it has worked since. LostLease when another one drives."""
        if await self._connection.fetchval(_SQL["keep"], driver.run_id, driver.fence, lease_s, seconds) is None:
            raise LostLease

    async def set_pace(self, driver: Driver, pace: float) -> None:
        """The share of their time that the run's operators may work. LostLease when another one drives."""
        if await self._connection.fetchval(_SQL["set_pace"], driver.run_id, driver.fence, pace) is None:
            raise LostLease

    async def finish(self, driver: Driver, error: tuple[str, str] | None = None) -> BulkRun:
        """Ends the run: done, or failed with (code, message). LostLease when another one drives."""
        row = await self._connection.fetchrow(_SQL["finish"], driver.run_id, driver.fence, *(error or (None, None)))
        if row is None:
            raise LostLease
        return run_of(row)

    async def add_files(self, driver: Driver, files: Sequence[SourceFile]) -> None:
        """Files of different URIs; what an earlier run ended is known. LostLease when another one drives."""
        await self._hold(driver)
        await self._connection.execute(
            _SQL["add_files"], self._session.tenant_id, driver.run_id, [file.uri for file in files], [file.size_bytes for file in files],
            [file.etag for file in files], [file.title for file in files], [dict(file.metadata) for file in files],
        )  # fmt: skip

    async def waiting(self, driver: Driver, first: int, end: int) -> Sequence[RunFile]:
        """Files numbered in `[first, end)` that still need work. LostLease when another one drives."""
        await self._hold(driver)
        return [run_file_of(row) for row in await self._connection.fetch(_SQL["waiting"], driver.run_id, first, end)]

    async def settle(self, driver: Driver) -> int:
        """Ends the files that were taken and whose document has ended without the run; how many."""
        await self._hold(driver)
        return await self._connection.fetchval(_SQL["settle"], driver.run_id) or 0

    async def document_of(self, driver: Driver, n: int) -> UUID | None:
        """The document that a file has, None before its bytes were read."""
        found: UUID | None = await self._connection.fetchval(_SQL["document_of"], driver.run_id, n)
        return found

    async def take(self, driver: Driver, n: int, document_id: UUID, lease_s: float) -> Lease | None:
        """Leases the newest generation of a file's document. None when it is in somebody else's hands, or has ended."""
        row = await self._connection.fetchrow(_SQL["take_generation"], document_id, driver.owner, f"bulk/{driver.run_id}/", lease_s)
        await self._hold(driver)
        await self._connection.execute(_SQL["note_taken"], driver.run_id, n, document_id)
        return lease_of(row) if row else None

    async def end(self, driver: Driver, n: int, ended: Ended) -> None:
        """Notes how a file ended, once. LostLease when another one drives."""
        await self._hold(driver)
        await self._connection.execute(
            _SQL["end_file"], driver.run_id, n, ended.state.value, ended.document_id, *(ended.failure or (None, None)),
            ended.pages, ended.chunks, ended.size_bytes,
        )  # fmt: skip

    async def failures(self, run_id: UUID, limit: int) -> Sequence[tuple[str, str, str]]:
        """(uri, code, sentence) of files that could not be ingested, in order."""
        rows = await self._connection.fetch(_SQL["failures"], run_id, limit)
        return [(row["uri"], row["failure_code"], row["failure_message"]) for row in rows]

    async def failure_counts(self, run_id: UUID) -> Mapping[str, int]:
        """How many files failed, by code, the commonest first."""
        return {row["failure_code"]: row["files"] for row in await self._connection.fetch(_SQL["failure_counts"], run_id)}

    async def _hold(self, driver: Driver) -> None:
        if await self._connection.fetchval(_SQL["hold"], driver.run_id, driver.fence) is None:
            raise LostLease


def run_of(row: Record) -> BulkRun:
    """A row of docray.bulk_runs with `driven`."""
    state = RunState(row["state"])
    return BulkRun(
        id=row["id"],
        source=row["source"],
        collection_id=row["collection_id"],
        state=RunState.INTERRUPTED if state is RunState.RUNNING and not row["driven"] else state,
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = (
    "error_code", "error_message", "fence", "files", "known", "ready", "failed", "duplicate", "pages", "chunks", "size_bytes", "seconds",
    "created_at", "updated_at", "ended_at", "version", "pace",
)  # fmt: skip


def run_file_of(row: Record) -> RunFile:
    """A row of docray.bulk_files."""
    file = SourceFile(uri=row["uri"], size_bytes=row["size_bytes"], etag=row["etag"], title=row["title"], metadata=row["metadata"])
    return RunFile(n=row["n"], file=file, document_id=row["document_id"])
