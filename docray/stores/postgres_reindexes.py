"""Reindexes of a tenant inside one transaction: started, switched, rolled back, finished. Leaves building to the workers' queue."""

from typing import Any
from uuid import UUID

from asyncpg import Record, UniqueViolationError

from docray.domain.catalog import Listing, Paging
from docray.domain.errors import (
    InvalidField,
    NotFound,
    ReindexEnded,
    ReindexNotBuilt,
    ReindexNotSwitched,
    ReindexUnderWay,
)
from docray.domain.reindexes import OPEN, IndexForm, NewReindex, Reindex, ReindexCounts, ReindexState, Switch
from docray.stores import cursors
from docray.stores.postgres import Connection
from docray.stores.postgres_session import Session
from docray.stores.sql import load

_SQL = load("reindexes")
_COLLECTIONS = load("collections")
_LIST = "r"
KNOWN_S = 2.0
"""Age from which a reindex may be switched: twice what a process remembers that a tenant has none, so every one asks before each search then."""

_LONG_S = 120.0  # for the switch of a million documents


class PostgresReindexes:
    """`docray.domain.catalog.Reindexes`. Locks a reindex before documents, those before generations; the tenant comes last."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection

    async def start(self, wanted: NewReindex) -> Reindex:
        """A reindex under way; one that was switched is finished by that. ReindexUnderWay while one is being built."""
        if wanted.collection_id is not None and await self._connection.fetchrow(_COLLECTIONS["hold"], wanted.collection_id) is None:
            raise NotFound
        before = await self._connection.fetchrow(_SQL["lock_open"])
        if before is not None:
            if before["state"] != ReindexState.SWITCHED:
                raise ReindexUnderWay
            await self._finish(before)
        row = await self._insert(wanted)
        if wanted.collection_id is not None and row["model"] != row["model_before"]:
            raise InvalidField("A collection alone cannot get another model: a search goes by one. Leave collection_id out.", "collection_id")
        await self._connection.execute(_SQL["drop_nothing"], [row["model"], row["model_before"]])
        await self._connection.execute(_SQL["keep_model"], self._session.tenant_id, row["model_before"])
        return await self._shown(row)

    async def _insert(self, wanted: NewReindex) -> Record:
        try:
            row = await self._connection.fetchrow(
                _SQL["insert"], self._session.tenant_id, wanted.id, wanted.switch.value, wanted.collection_id, wanted.form.model,
                wanted.form.chunker, wanted.model_before,
            )  # fmt: skip
        except UniqueViolationError as error:  # somebody started one between the look and the insert
            raise ReindexUnderWay from error
        if row is None:
            raise NotFound
        return row

    async def get(self, reindex_id: UUID) -> Reindex:
        """NotFound when absent."""
        row = await self._connection.fetchrow(_SQL["get"], reindex_id)
        if row is None:
            raise NotFound
        return await self._shown(row)

    async def list(self, paging: Paging) -> Listing[Reindex]:
        """Newest first, without counts."""
        rows = await self._connection.fetch(_SQL["list"], *cursors.decode(_LIST, paging.after), paging.limit + 1)
        return cursors.page_of(_LIST, rows, [reindex_of(row) for row in rows], paging, at="created_at")

    async def switch(self, reindex_id: UUID, *, accept_failures: bool) -> Reindex:
        """Everything that is built answers from the commit on, epoch + 1."""
        row = await self._lock(reindex_id)
        if row["state"] == ReindexState.SWITCHED:
            return await self._shown(row)
        await self._allow_time()
        counts = await counts_of(self._connection, reindex_id)
        if not counts.is_built:
            raise ReindexNotBuilt(f"{counts.waiting} of {counts.total} documents are not built yet. Wait until none is waiting, then switch.")
        if counts.failed and not accept_failures:
            raise ReindexNotBuilt(
                f"{counts.failed} documents could not be built. Retry them, or switch with accept_failures: they then are found by words only."
            )
        if not row["known_everywhere"]:
            raise ReindexNotBuilt(f"It was started a moment ago, and not every process knows of it. Try again in {KNOWN_S:g} seconds.")
        switched = await switch(self._connection, self._session.tenant_id, row)
        self._session.corpus_changed()
        return await self._shown(switched)

    async def rollback(self, reindex_id: UUID) -> Reindex:
        """What answered before answers again from the commit on, epoch + 1; what was built is purged."""
        row = await self._lock(reindex_id)
        await self._allow_time()
        for step in ("lock_documents", "show_before", "retire_built"):
            await self._connection.execute(_SQL[step], reindex_id, timeout=_LONG_S)
        ended = await self._end(row, ReindexState.ROLLED_BACK, row["model"])
        await self._connection.execute(_SQL["use_model"], self._session.tenant_id, row["model_before"])
        self._session.corpus_changed()
        return await self._shown(ended)

    async def finish(self, reindex_id: UUID) -> Reindex:
        """What was kept is purged: from here there is no way back. ReindexNotSwitched before the switch."""
        row = await self._lock(reindex_id)
        if row["state"] != ReindexState.SWITCHED:
            raise ReindexNotSwitched
        return await self._shown(await self._finish(row))

    async def retry(self, reindex_id: UUID) -> Reindex:
        """What failed is built again."""
        row = await self._lock(reindex_id)
        await self._connection.execute(_SQL["retire_failed"], reindex_id)
        await self._connection.execute(_SQL["note_place"], reindex_id, None, None)
        return await self._shown(row)

    async def _finish(self, row: Record) -> Record:
        await self._allow_time()
        for step in ("retire_kept", "retire_built"):
            await self._connection.execute(_SQL[step], row["id"], timeout=_LONG_S)
        return await self._end(row, ReindexState.FINISHED, row["model_before"])

    async def _end(self, row: Record, state: ReindexState, useless: str) -> Record:
        """Ends the reindex; one of its two models is of no use from here, unless they are the same."""
        useless_model = None if row["model"] == row["model_before"] else useless
        ended = await self._connection.fetchrow(_SQL["end"], row["id"], state.value, useless_model)
        if useless_model is not None:
            await self._connection.execute(_SQL["forget_model"], useless_model, timeout=_LONG_S)
        assert ended is not None
        return ended

    async def _lock(self, reindex_id: UUID) -> Record:
        """The row of an open reindex. NotFound when absent, ReindexEnded when it has ended."""
        row = await self._connection.fetchrow(_SQL["lock"], reindex_id, KNOWN_S)
        if row is None:
            raise NotFound
        if row["state"] not in OPEN:
            raise ReindexEnded
        return row

    async def _allow_time(self) -> None:
        await self._connection.execute(_SQL["allow_time"], f"{_LONG_S:g}s", f"{_LONG_S:g}s")

    async def _shown(self, row: Record) -> Reindex:
        is_open = row["state"] in OPEN
        return reindex_of(row, await counts_of(self._connection, row["id"]) if is_open else None)


async def counts_of(connection: Connection, reindex_id: UUID) -> ReindexCounts:
    """Documents by how far a reindex is with them."""
    [row] = await connection.fetch(_SQL["counts"], reindex_id, timeout=_LONG_S)
    return ReindexCounts(**row)


async def switch(connection: Connection, tenant_id: UUID, row: Record) -> Record:
    """Makes all that is built answer, and searches use its model. The caller holds the reindex, and raises the epoch."""
    for step in ("lock_documents", "show_built"):
        await connection.execute(_SQL[step], row["id"], timeout=_LONG_S)
    switched = await connection.fetchrow(_SQL["mark_switched"], row["id"])
    await connection.execute(_SQL["use_model"], tenant_id, row["model"])
    assert switched is not None
    return switched


def reindex_of(row: Record, counts: ReindexCounts | None = None) -> Reindex:
    """A row of docray.reindexes."""
    plain: dict[str, Any] = {name: row[name] for name in ("id", "collection_id", "model_before", "created_at", "switched_at", "ended_at")}
    return Reindex(
        **plain, state=ReindexState(row["state"]), switch=Switch(row["switch"]), form=IndexForm(row["model"], row["chunker"]), counts=counts
    )
