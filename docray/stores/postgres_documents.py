"""Documents and their generations inside one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from asyncpg import Record

from docray.domain.catalog import UNSET, Content, DocumentQuery, Listing, NewDocument, Paging
from docray.domain.documents import Document, Page
from docray.domain.errors import NotFailed, NotFound
from docray.domain.ids import blob_key
from docray.stores import cursors
from docray.stores.document_query_sql import compile_query
from docray.stores.postgres_session import Session
from docray.stores.rows import document_of, page_of
from docray.stores.sql import load

_SQL = load("documents")
_LIST = "d"
_MAX_INTEGER = 2**31 - 1


class PostgresDocuments:
    """`docray.domain.catalog.Documents`. Locks a document before its generations, and those before purges; the tenant comes last."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection

    async def lock_content(self, sha256: str) -> None:
        """Until the transaction ends, nobody else of this tenant decides about these bytes."""
        await self._connection.execute(_SQL["lock_content"], str(self._session.tenant_id), sha256)

    async def find_content(self, sha256: str) -> Document | None:
        """The oldest document, not being deleted, whose current bytes these are."""
        row = await self._connection.fetchrow(_SQL["find_content"], sha256)
        return document_of(row) if row else None

    async def insert(self, document: NewDocument) -> Document:
        """A queued document of generation 1. NotFound when a collection is absent."""
        tenant_id = self._session.tenant_id
        await self._connection.execute(
            _SQL["insert"], tenant_id, document.id, self._session.principal.user_id, document.filename, document.title,
            dict(document.metadata), document.sha256, document.size_bytes,
        )  # fmt: skip
        await self._insert_generation(document.id, 1, document.sha256, document.size_bytes, document.filename)
        if document.collection_ids:
            await self._connection.execute(_SQL["join_collections"], tenant_id, document.id, list(document.collection_ids))
        return await self.get(document.id)

    async def get(self, document_id: UUID, *, lock: bool = False) -> Document:
        """The document, locked for update if asked. NotFound also while it is being deleted."""
        if lock:
            await self._lock(document_id)
        row = await self._connection.fetchrow(_SQL["get"], document_id)
        if row is None:
            raise NotFound
        return document_of(row)

    async def list(self, query: DocumentQuery, paging: Paging) -> Listing[Document]:
        """Newest first, stable under inserts."""
        parameters: list[Any] = [*cursors.decode(_LIST, paging.after), paging.limit + 1]
        statement = _SQL["list"].replace("{filters}", compile_query(query, parameters))
        rows = await self._connection.fetch(statement, *parameters)
        return cursors.page_of(_LIST, rows, [document_of(row) for row in rows], paging, at="created_at")

    async def patch(self, document_id: UUID, *, title: Any = UNSET, metadata: Any = UNSET) -> Document:
        """Sets whole fields; bumps the version, and the corpus epoch."""
        await self._lock(document_id)
        given = [value for field in (title, metadata) for value in (field is not UNSET, None if field is UNSET else field)]
        await self._connection.execute(_SQL["patch"], document_id, *given)
        self._session.corpus_changed()
        return await self.get(document_id)

    async def insert_generation(self, document_id: UUID, *, sha256: str, size_bytes: int, filename: str | None) -> tuple[Document, int]:
        """A queued next generation; what was in work or had failed is superseded and purged."""
        row = await self._lock(document_id)
        generation: int = row["next_generation"]
        retired = await self._connection.fetch(_SQL["retire_generations"], document_id, row["live_generation"])
        for old in retired:
            await self._order_purge(document_id, old["generation"])
        await self._insert_generation(document_id, generation, sha256, size_bytes, filename)
        await self._connection.execute(_SQL["set_next_generation"], document_id, generation, sha256, size_bytes, filename)
        return await self.get(document_id), generation

    async def requeue(self, document_id: UUID) -> Document:
        """Queues the failed generation again. NotFailed unless the document or its replacement failed."""
        await self._lock(document_id)
        if await self._connection.fetchval(_SQL["requeue"], document_id) is None:
            raise NotFailed
        await self._connection.execute(_SQL["show_queued"], document_id)
        return await self.get(document_id)

    async def mark_deleting(self, document_id: UUID) -> None:
        """From the commit on no reader sees it; epoch + 1, purge queued. NotFound when absent."""
        await self._lock(document_id)
        await self.mark_all_deleting([document_id])

    async def lock_all(self, document_ids: Sequence[UUID]) -> None:
        """Locks those of the documents that are not being deleted."""
        await self._connection.execute(_SQL["lock_all"], list(document_ids))

    async def mark_all_deleting(self, document_ids: Sequence[UUID]) -> None:
        """`mark_deleting` of documents that the caller has locked."""
        for step in ("mark_deleting", "stop_generations", "leave_collections"):
            await self._connection.execute(_SQL[step], document_ids)
        await self._connection.execute(_SQL["order_purges"], self._session.tenant_id, document_ids)
        self._session.corpus_changed()

    async def touch(self, document_ids: Sequence[UUID]) -> None:
        """New versions of documents in which something changed that callers see, but which is in no row of theirs."""
        await self._connection.execute(_SQL["touch"], document_ids)

    async def content(self, document_id: UUID) -> Content:
        """Where its PDF lies."""
        row = await self._connection.fetchrow(_SQL["content"], document_id)
        if row is None:
            raise NotFound
        return Content(**row)

    async def page(self, document_id: UUID, number: int) -> Page:
        """A page of the live generation. NotFound outside 1…n and before there is one."""
        row = await self._connection.fetchrow(_SQL["page"], document_id, number) if 1 <= number <= _MAX_INTEGER else None
        if row is None:
            raise NotFound
        return page_of(row)

    async def version(self, document_id: UUID) -> tuple[int, bool] | None:
        """(version, being deleted) of a row, also of one being deleted; None when it is gone."""
        row = await self._connection.fetchrow(_SQL["version"], document_id)
        return (row["version"], row["deleting"]) if row else None

    async def count_by_state(self) -> Mapping[str, int]:
        """Documents of the tenant by state."""
        return {row["state"]: row["documents"] for row in await self._connection.fetch(_SQL["count_by_state"])}

    async def _lock(self, document_id: UUID) -> Record:
        row = await self._connection.fetchrow(_SQL["lock"], document_id)
        if row is None:
            raise NotFound
        return row

    async def _insert_generation(self, document_id: UUID, generation: int, sha256: str, size_bytes: int, filename: str | None) -> None:
        tenant_id = self._session.tenant_id
        await self._connection.execute(
            _SQL["insert_generation"], tenant_id, document_id, generation, sha256, size_bytes, filename,
            blob_key(tenant_id, document_id, generation),
        )  # fmt: skip

    async def _order_purge(self, document_id: UUID, generation: int) -> None:
        await self._connection.execute(_SQL["order_purge"], self._session.tenant_id, document_id, generation)
