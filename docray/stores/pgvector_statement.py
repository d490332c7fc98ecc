"""Builds the statement of a search: the nearest vectors, the chunks of a keyword ranking, or both in one round trip.

Owns how the named queries of `index.sql` fit together and number their parameters. Leaves deciding between them to `pgvector_index`.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import orjson

from docray.domain.ports import Vectors
from docray.domain.questions import Scope
from docray.stores.filter_sql import compile_filter, needs_chunks
from docray.stores.keyword_scoring import Ranking
from docray.stores.postgres import Connection, array_text
from docray.stores.sql import load

_SQL = load("index")


@dataclass(frozen=True, slots=True)
class Space:
    """A model and its dimension as a number, so that a partial index can name it."""

    id: int
    dimension: int

    def fill(self, query: str) -> str:
        """A query with this space in its places."""
        return query.replace("{space}", str(self.id)).replace("{dimension}", str(self.dimension))


class Statement:
    """One statement of a tenant; add what it is to find, then fetch. `answering`: of generations that answer only."""

    def __init__(self, tenant_id: UUID, limit: int, scope: Scope, *, answering: bool = False) -> None:
        self._answering = answering
        self._scope = scope
        self._limit = limit
        self._parameters: list[Any] = [tenant_id]
        self._space: Space | None = None
        self._nearest = ""
        self._ranked = ""

    def add_nearest(self, vector: Vectors, space: Space, *, graph: bool) -> None:
        """The nearest chunks to a vector; to be added before a ranking."""
        self._parameters += [vector_text(vector), self._limit]
        self._space = space
        name = "nearest" if self._scope.unrestricted else "nearest_in_scope"
        query = space.fill(_SQL[f"{name}_by_graph" if graph else name])
        if not self._scope.unrestricted:
            join = _SQL["chunks_join"] if needs_chunks(self._scope.filter) else ""
            query = query.replace("{chunks}", join).replace("{filter}", compile_filter(self._scope, self._parameters))
        self._nearest = query

    def add_ranked(self, ranking: Ranking) -> None:
        """The chunks of a ranking, none of which a condition on passages may keep out; with their nearness where a vector was added."""
        query = self._space.fill(_SQL["ranked_and_near"]) if self._space else _SQL["ranked"]
        self._ranked = _with_pairs(query, ranking, self._parameters)

    async def fetch(self, connection: Connection) -> list[asyncpg.Record]:
        """Rows of (place in the ranking or NULL, chunk_id, score, part, n)."""
        return await self._fetch(connection)

    async def fetch_at_epoch(self, connection: Connection, epoch: int) -> list[asyncpg.Record] | None:
        """The same rows; None where the tenant's corpus was at another epoch as they were read."""
        rows = await self._fetch(connection, _SQL["epoch_of_ranking"])
        found = [row for row in rows if row[0] != 0]  # by position: names take the driver longer
        return found if [row[3] for row in rows if row[0] == 0] == [epoch] else None

    async def _fetch(self, connection: Connection, *others: str) -> list[asyncpg.Record]:
        nearest = _SQL["with_parts"].replace("{nearest}", self._nearest) if self._nearest else ""
        query = "\nUNION ALL\n".join(filter(None, (self._ranked, nearest)))
        if not query:
            return []
        if self._answering:
            query = _SQL["answering"].replace("{found}", query)
        return await connection.fetch("\nUNION ALL\n".join([query, *others]), *self._parameters)


def vector_text(vector: Vectors) -> str:
    """A vector as PostgreSQL reads it. As an array the driver would look at every number several times."""
    return orjson.dumps(np.ascontiguousarray(vector, np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()


async def fetch_ranked_in_scope(connection: Connection, tenant_id: UUID, ranking: Ranking, places_before: int, scope: Scope) -> list[asyncpg.Record]:
    """Rows of those chunks of a ranking that the whole scope holds for, its conditions on passages included."""
    parameters: list[Any] = [tenant_id, places_before]
    query = _with_pairs(_SQL["ranked_in_scope"], ranking, parameters)
    return await connection.fetch(query.replace("{filter}", compile_filter(scope, parameters)), *parameters)


def _with_pairs(query: str, ranking: Ranking, parameters: list[Any]) -> str:
    parameters += [array_text(ranking.parts.tolist()), array_text(ranking.ns.tolist())]
    return query.replace("{parts}", f"${len(parameters) - 1}").replace("{ns}", f"${len(parameters)}")
