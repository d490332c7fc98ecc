"""Purges and upkeep: what is to be removed everywhere, which blobs have an owner, what is past its time."""

from collections.abc import Sequence

from docray.domain.errors import LostLease
from docray.domain.jobs import Purge
from docray.resilience.failpoints import reached
from docray.stores.postgres import Connection, Database
from docray.stores.rows import purge_of
from docray.stores.sql import load

_SQL = load("purges")
_JOBS = load("jobs")
_MONTHS_AHEAD = 3


class PostgresPurges:
    """The part of `docray.domain.job_queue.JobQueue` that removes things."""

    def __init__(self, database: Database, *, idempotency_keep_s: float) -> None:
        self._database = database
        self._idempotency_keep_s = idempotency_keep_s

    async def lease_purge(self, worker: str, lease_s: float) -> Purge | None:
        """The next purge that is due: never while an ingest lease of that generation still runs."""
        rows = await self._database.call(_SQL["lease"], worker, lease_s)
        return purge_of(rows[0]) if rows else None

    async def hold_purge(self, purge: Purge, lease_s: float) -> None:
        """Extends the lease of a purge. LostLease when another purger holds the order by now, or it was given again meanwhile."""
        async with self._database.tenant_tx(purge.tenant_id) as connection:
            if await connection.fetchval(_SQL["hold"], purge.id, purge.fence, lease_s) is None:
                raise LostLease

    async def finish_purge(self, purge: Purge) -> None:
        """Rows of pages and chunks go, and of the whole document with its last generation; then the order itself, under its fence.

        LostLease when another purger holds the order by now, or it was given again meanwhile.
        """
        async with self._database.tenant_tx(purge.tenant_id) as connection:
            await connection.execute(_SQL["hold_document"], purge.document_id)
            if await connection.fetchval(_SQL["finish"], purge.id, purge.fence) is None:
                raise LostLease
            for name in ("delete_chunks", "delete_pages"):
                await connection.execute(_JOBS[name], purge.document_id, purge.generation)
            if purge.generation is None:
                await self._delete_document(connection, purge)
            else:
                await connection.execute(_SQL["delete_generation"], purge.document_id, purge.generation)
            await reached("purge.before_commit")

    async def _delete_document(self, connection: Connection, purge: Purge) -> None:
        await connection.execute(_SQL["delete_generations"], purge.document_id)
        await connection.execute(_SQL["delete_document"], purge.document_id)

    async def blob_keys_of(self, purge: Purge) -> Sequence[str]:
        """The blobs that a purge is to remove: none for a generation that failed, whose blob is kept for a retry."""
        async with self._database.tenant_tx(purge.tenant_id) as connection:
            return [row["blob_key"] for row in await connection.fetch(_SQL["blob_keys"], purge.document_id, purge.generation)]

    async def known_blobs(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a row owns, of any tenant."""
        return {row["key"] for row in await self._database.call(_SQL["known_blobs"], list(keys))}

    async def maintain(self) -> None:
        """Drops idempotency keys past their time and makes next months' partitions."""
        await self._database.call(_SQL["make_partitions"], _MONTHS_AHEAD)
        await self._database.call(_SQL["drop_idempotency_keys"], self._idempotency_keep_s)
