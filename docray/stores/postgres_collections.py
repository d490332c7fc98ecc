"""Collections and their members inside one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from docray.domain.catalog import UNSET, Listing, Paging
from docray.domain.documents import Collection, Membership
from docray.domain.errors import NotFound
from docray.stores import cursors
from docray.stores.postgres_documents import PostgresDocuments
from docray.stores.postgres_session import Session
from docray.stores.rows import collection_of, membership_of
from docray.stores.sql import load

_SQL = load("collections")
_LIST, _MEMBERS = "c", "m"
_BATCH = 2_000  # members a statement: a large collection goes in one transaction, but no statement comes near its 5 s


class PostgresCollections:
    """`docray.domain.catalog.Collections`. Locks a collection before its documents."""

    def __init__(self, session: Session, documents: PostgresDocuments) -> None:
        self._session = session
        self._connection = session.connection
        self._documents = documents

    async def insert(self, collection_id: UUID, *, name: str, description: str | None, metadata: Mapping[str, Any]) -> Collection:
        """DuplicateName when the name is taken."""
        given = (self._session.tenant_id, collection_id, name, description, dict(metadata))
        [row] = await self._connection.fetch(_SQL["insert"], *given)
        return collection_of(row)

    async def get(self, collection_id: UUID, *, lock: bool = False) -> Collection:
        """The collection, locked for update if asked. NotFound when absent."""
        if lock:
            await self._connection.execute(_SQL["lock"], collection_id)
        row = await self._connection.fetchrow(_SQL["get"], collection_id)
        if row is None:
            raise NotFound
        return collection_of(row)

    async def list(self, paging: Paging) -> Listing[Collection]:
        """Newest first, stable under inserts."""
        rows = await self._connection.fetch(_SQL["list"], *cursors.decode(_LIST, paging.after), paging.limit + 1)
        return cursors.page_of(_LIST, rows, [collection_of(row) for row in rows], paging, at="created_at")

    async def patch(self, collection_id: UUID, *, name: Any = UNSET, description: Any = UNSET, metadata: Any = UNSET) -> Collection:
        """Sets whole fields. NotFound, DuplicateName."""
        given = [value for field in (name, description, metadata) for value in (field is not UNSET, None if field is UNSET else field)]
        if await self._connection.fetchval(_SQL["patch"], collection_id, *given) is None:
            raise NotFound
        return await self.get(collection_id)

    async def delete(self, collection_id: UUID, *, delete_documents: bool) -> Sequence[UUID]:
        """Removes it; returns the documents it marked deleting: those that were in no other collection, when asked."""
        if await self._connection.fetchval(_SQL["lock"], collection_id) is None:
            raise NotFound
        doomed: list[UUID] = []
        while members := [row["document_id"] for row in await self._connection.fetch(_SQL["some_members"], collection_id, _BATCH)]:
            await self._documents.lock_all(members)
            if delete_documents:
                alone = [row["id"] for row in await self._connection.fetch(_SQL["in_no_other"], collection_id, members)]
                await self._documents.mark_all_deleting(alone)
                doomed += alone
            await self._connection.execute(_SQL["remove_members"], collection_id, members)
            await self._documents.touch(members)
        await self._connection.execute(_SQL["delete"], collection_id)
        self._session.corpus_changed()
        return doomed

    async def add(self, collection_id: UUID, document_id: UUID, attributes: Mapping[str, Any] | None) -> Membership:
        """Adds the document or sets its attributes (None: leaves those that are there). Epoch + 1."""
        await self._hold(collection_id)
        await self._documents.get(document_id, lock=True)
        given = None if attributes is None else dict(attributes)
        [row] = await self._connection.fetch(_SQL["add"], self._session.tenant_id, collection_id, document_id, given)
        await self._changed(document_id)
        return membership_of(row)

    async def remove(self, collection_id: UUID, document_id: UUID) -> None:
        """NotFound when it is not in it. Epoch + 1."""
        await self._hold(collection_id)
        await self._documents.get(document_id, lock=True)
        if await self._connection.fetchval(_SQL["remove"], collection_id, document_id) is None:
            raise NotFound
        await self._changed(document_id)

    async def members(self, collection_id: UUID, paging: Paging) -> Listing[Membership]:
        """Latest first. NotFound when the collection is absent."""
        await self.get(collection_id)
        rows = await self._connection.fetch(_SQL["members"], collection_id, *cursors.decode(_MEMBERS, paging.after), paging.limit + 1)
        items = [membership_of(row) for row in rows]
        return cursors.page_of(_MEMBERS, rows, items, paging, at="added_at", identity="document_id")

    async def _hold(self, collection_id: UUID) -> None:
        if await self._connection.fetchval(_SQL["hold"], collection_id) is None:
            raise NotFound

    async def _changed(self, document_id: UUID) -> None:
        await self._documents.touch([document_id])
        self._session.corpus_changed()
