"""Read-time authority: what the index found is read again here, under row-level security, before anybody sees it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from docray.domain.documents import Page
from docray.domain.questions import Passage, Scope
from docray.stores.filter_sql import compile_filter, needs_chunks
from docray.stores.postgres_session import Session
from docray.stores.rows import page_of, passages_of
from docray.stores.sql import load

_SQL = load("passages")


class PostgresPassages:
    """`docray.domain.catalog.Passages`: each call is one query."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection

    async def read(self, chunk_ids: Sequence[UUID], scope: Scope) -> Mapping[UUID, Passage]:
        """Those of the ids that belong to the live generation of a document that is ready, readable and in scope."""
        parameters: list[Any] = [list(chunk_ids)]
        query = _SQL["read"].replace("{filter}", compile_filter(scope, parameters))
        rows = await self._connection.fetch(query, *parameters)
        return {passage.chunk_id: passage for passage in passages_of(rows)}

    async def neighbours(self, document_id: UUID, generation: int, ns: Sequence[int]) -> Mapping[int, Passage]:
        """Chunks of a live generation by number."""
        rows = await self._connection.fetch(_SQL["neighbours"], document_id, generation, list(ns))
        return {passage.n: passage for passage in passages_of(rows)}

    async def pages(self, document_id: UUID, generation: int, numbers: Sequence[int]) -> Mapping[int, Page]:
        """Words and boxes of pages of a live generation."""
        rows = await self._connection.fetch(_SQL["pages"], document_id, generation, list(numbers))
        return {row["number"]: page_of(row) for row in rows}

    async def any_in_scope(self, scope: Scope) -> bool:
        """Whether any ready document is in scope."""
        parameters: list[Any] = []
        condition = compile_filter(scope, parameters)
        name = "any_passage" if needs_chunks(scope.filter) else "any_document"
        return bool(await self._connection.fetchval(_SQL[name].replace("{filter}", condition), *parameters))
