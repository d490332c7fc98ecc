"""The door to the catalogue: a transaction of the principal's tenant, with everything that can be done in it."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

from docray.domain.idempotency import IdempotencyClaim
from docray.domain.jobs import StoredResponse
from docray.domain.principals import Principal
from docray.domain.reindexes import SearchForm
from docray.stores import postgres_audit, postgres_idempotency
from docray.stores.postgres import Database
from docray.stores.postgres_bulk import PostgresBulkRuns
from docray.stores.postgres_collections import PostgresCollections
from docray.stores.postgres_documents import PostgresDocuments
from docray.stores.postgres_keys import PostgresApiKeys
from docray.stores.postgres_passages import PostgresPassages
from docray.stores.postgres_reindexes import PostgresReindexes
from docray.stores.postgres_session import Session
from docray.stores.sql import load

_SQL = load("tenants")


class PostgresTransaction:
    """`docray.domain.catalog.Transaction`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.documents = PostgresDocuments(session)
        self.collections = PostgresCollections(session, self.documents)
        self.passages = PostgresPassages(session)
        self.api_keys = PostgresApiKeys(session)
        self.bulk_runs = PostgresBulkRuns(session)
        self.reindexes = PostgresReindexes(session)

    async def corpus_epoch(self) -> int:
        """Grows with every publish, delete and change of access; counts what this transaction did."""
        await self._session.raise_epoch()
        epoch: int | None = await self._session.connection.fetchval(_SQL["epoch"], self._session.tenant_id)
        return epoch or 0

    async def search_form(self) -> SearchForm:
        """What the tenant's searches go by now."""
        row = await self._session.connection.fetchrow(_SQL["search_form"])
        return SearchForm(row["embedding_model"], row["reindexing"], row["crowded"]) if row else SearchForm(None)

    async def audit(self, action: str, object_kind: str, object_id: UUID | None, details: Mapping[str, Any] | None = None) -> None:
        """Records who did what; never document text."""
        session = self._session
        who = (session.principal.kind, session.principal.id)
        await postgres_audit.record(session.connection, session.tenant_id, who, action, (object_kind, object_id), details)

    async def remember(self, claim: IdempotencyClaim, response: StoredResponse) -> None:
        """Stores the answer of an idempotent request with its effect. LostLease when the claim was taken over meanwhile."""
        await postgres_idempotency.remember(self._session.connection, claim, response)


class PostgresCatalog:
    """`docray.domain.catalog.Catalog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self, principal: Principal) -> AbstractAsyncContextManager[PostgresTransaction]:
        """A transaction of the principal's tenant. Never await another service inside."""
        return self._transaction(principal)

    def shared(self, principal: Principal) -> AbstractAsyncContextManager[None]:
        """`reading` inside the block, and an index of the same database, read in one transaction."""
        return self._database.shared(principal.tenant_id)

    @contextlib.asynccontextmanager
    async def reading(self, principal: Principal) -> AsyncIterator[PostgresPassages]:
        """The passages of the principal's tenant, in a transaction that cannot write."""
        async with self._database.reading_tx(principal.tenant_id) as connection:
            yield PostgresPassages(Session(connection, principal))

    @contextlib.asynccontextmanager
    async def _transaction(self, principal: Principal) -> AsyncIterator[PostgresTransaction]:
        async with self._database.tenant_tx(principal.tenant_id) as connection:
            session = Session(connection, principal)
            yield PostgresTransaction(session)
            await session.raise_epoch()
