"""What workers do for reindexes beside building: queue the next generations, end the building, drop vectors of no use."""

from collections.abc import Sequence
from uuid import UUID

from asyncpg import Record

from docray.domain.reindexes import Dropping, ReindexState, Switch
from docray.stores import postgres_audit
from docray.stores.postgres import Connection, Database
from docray.stores.postgres_reindexes import KNOWN_S, counts_of, switch
from docray.stores.sql import load

_SQL = load("reindexes")
_TENANTS = load("tenants")
_IN_WORK = 64  # generations of a reindex that wait or are in work at most: the queue stays short, and a rollback cheap
_FEW = 32  # is what makes a look at the documents worth it
_END = UUID(int=2**128 - 1)  # the place behind every document: the pass is over, what it found is in work


class PostgresReindexPlanner:
    """`docray.domain.reindexes.ReindexPlanner`. Passes over a tenant's documents by id until a pass finds nothing; then the corpus has to change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def plan(self) -> bool:
        """Queues generations for documents that still need one, a few at a time. False when nothing was to be done."""
        planned = False
        for row in await self._database.call(_SQL["work"]):
            if row["is_open"]:
                planned = await self._plan_one(row["tenant_id"], row["id"]) or planned
        return planned

    async def to_drop(self) -> Sequence[Dropping]:
        """What ended reindexes left in the index; none of a tenant that has another reindex open."""
        rows = await self._database.call(_SQL["work"])
        busy = {row["tenant_id"] for row in rows if row["is_open"]}
        return [
            Dropping(row["tenant_id"], row["id"], row["dropping"], row["dropping_dimension"])
            for row in rows
            if row["dropping"] is not None and row["tenant_id"] not in busy
        ]

    async def dropped(self, dropping: Dropping) -> None:
        """Notes that it is gone."""
        async with self._database.tenant_tx(dropping.tenant_id) as connection:
            await connection.execute(_SQL["dropped"], dropping.reindex_id, dropping.model)

    async def _plan_one(self, tenant_id: UUID, reindex_id: UUID) -> bool:
        async with self._database.tenant_tx(tenant_id) as connection:
            run = await connection.fetchrow(_SQL["lock_to_plan"], reindex_id, KNOWN_S)
            if run is None:
                return False
            epoch = await connection.fetchval(_TENANTS["epoch"], tenant_id)  # before the look: what is published during it is looked at again
            if run["checked_epoch"] == epoch:
                return False
            in_work = await connection.fetchval(_SQL["in_work"], reindex_id)
            if in_work > _IN_WORK - _FEW or (in_work and run["place"] == _END):
                return False
            room = _IN_WORK - in_work
            start = None if run["place"] == _END else run["place"]
            found = [row["document_id"] for row in await connection.fetch(_SQL["plan_next"], reindex_id, start, room)]
            nothing_left = start is None and not found and not in_work and run["known_everywhere"]
            place = None if nothing_left else max(found) if len(found) == room else _END
            await connection.execute(_SQL["note_place"], reindex_id, place, epoch if nothing_left else None)
            if nothing_left:
                await _end_building(connection, tenant_id, run)
            return bool(found) or (start is not None and not in_work)


async def _end_building(connection: Connection, tenant_id: UUID, run: Record) -> None:
    """A reindex that switches document by document is through when nothing waits and nothing failed: searches use its model from now on."""
    if run["state"] != ReindexState.BUILDING or run["switch"] != Switch.DOCUMENT:
        return
    counts = await counts_of(connection, run["id"])
    if counts.is_built and not counts.failed:
        await switch(connection, tenant_id, run)
        await postgres_audit.record(connection, tenant_id, ("worker", None), "reindex.switch", ("reindex", run["id"]), {})
        await connection.execute(_TENANTS["raise_epoch"], tenant_id)
