"""`ChunkIndex` in the PostgreSQL that is the truth: vectors by pgvector, keywords by postings of our own.

Owns what is read and written where, and whether a search compares every vector or walks the graph. Leaves terms, postings and ranking to
`keyword_*`, transactions to `docray.stores.postgres`, and who may see what to the catalogue: it answers with ids and scores.
"""

import asyncio
import math
import time
import zlib
from collections.abc import Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
from cachetools import LRUCache

from docray.domain.documents import Chunk
from docray.domain.ports import Vectors
from docray.domain.questions import Candidate, Scope
from docray.domain.reindexes import Dropping
from docray.stores.filter_sql import compile_filter, needs_chunks
from docray.stores.keyword_memory import KeywordMemory
from docray.stores.keyword_postings import Part, make_part
from docray.stores.keyword_scoring import Size
from docray.stores.keyword_search import KeywordSearch, Parts, Ranked
from docray.stores.keyword_terms import Analyser
from docray.stores.pgvector_statement import Space, Statement, fetch_ranked_in_scope, vector_text
from docray.stores.postgres import Connection, Database, array_text
from docray.stores.sql import load

_SQL = load("index")
_WRITE_BATCH = 256  # vectors a statement: a large graph takes about a millisecond for each, a statement may take 5 s
_POSTINGS_BATCH = 20_000
_PURGE_BATCH = 2_000
_EXACT_CHUNKS = 3_000  # up to so many are compared one by one: half a microsecond each, the graph takes about a millisecond
_GRAPH_WIDTH = 64  # recall@10 of .978 among 55,000 real vectors; 40: .974, 100: .986
_SETTINGS = {  # of a search's transaction
    "hnsw.max_scan_tuples": "40000",  # rows of all tenants that a search of the graph passes at most
    "hnsw.iterative_scan": "relaxed_order",  # on until enough of the tenant's rows are found
    "enable_sort": "off",  # what an index gives in order is not sorted instead
    "plan_cache_mode": "force_generic_plan",  # a plan is made once for a connection, not for each search
}
_TENANTS_KNOWN = 10_000
_NO_PART = -1
_CROWDED = 2  # a reindex puts another generation of each document beside the one that answers
_KNOWN_S = 60.0  # the number of all tenants' vectors is asked for that often


class PgVectorIndex:
    """`docray.domain.ports.ChunkIndex`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prepared: set[Space] = set()
        self._analyser = Analyser()
        self._with_grams: LRUCache[UUID, bool] = LRUCache(_TENANTS_KNOWN)
        self._memory = KeywordMemory()
        self._all_vectors = 0
        self._known_until = 0.0

    # --- writing

    async def upsert(
        self, tenant_id: UUID, document_id: UUID, generation: int, chunks: Sequence[tuple[UUID, Chunk]], vectors: Vectors, model_id: str
    ) -> None:
        """Writes (chunk id, chunk) with its vector, the keywords first. Writing the same again changes nothing."""
        if not chunks:
            return
        if len(chunks) != len(vectors):
            raise ValueError("as many vectors as chunks")
        self._memory.forget(tenant_id)
        space = _space(model_id, int(vectors.shape[1]))
        if space not in self._prepared:
            async with self._database.tenant_tx(tenant_id) as connection:
                await connection.execute(_SQL["prepare_space"], space.id, space.dimension)
            self._prepared.add(space)
        await self._write_keywords(tenant_id, document_id, generation, [chunk for _, chunk in chunks])
        for start in range(0, len(chunks), _WRITE_BATCH):
            batch = chunks[start : start + _WRITE_BATCH]
            written = [vector_text(vector) for vector in vectors[start : start + _WRITE_BATCH]]
            async with self._database.tenant_tx(tenant_id) as connection:
                await connection.execute(
                    _SQL["write_vectors"], tenant_id, document_id, generation, space.id,
                    [chunk.n for _, chunk in batch], [chunk_id for chunk_id, _ in batch], written,
                )  # fmt: skip

    async def _write_keywords(self, tenant_id: UUID, document_id: UUID, generation: int, chunks: list[Chunk]) -> None:
        in_order = sorted(chunks, key=lambda chunk: chunk.n)
        part: Part = await asyncio.to_thread(make_part, document_id, generation, in_order, Analyser())
        async with self._database.tenant_tx(tenant_id) as connection:
            there = await connection.fetch(_SQL["parts_of_chunks"], tenant_id, document_id, generation, part.first_n, part.last_n)
            for row in there:
                await _remove_part(connection, tenant_id, row)
            await connection.execute(
                _SQL["write_part"], tenant_id, part.key, document_id, generation, part.first_n, part.last_n, part.chunks, part.pages, part.terms
            )
            for start in range(0, len(part.terms), _POSTINGS_BATCH):
                end = start + _POSTINGS_BATCH
                await connection.execute(_SQL["write_postings"], tenant_id, part.key, part.terms[start:end], part.postings[start:end])

    async def purge(self, tenant_id: UUID, document_id: UUID, generation: int | None) -> int:
        """Removes a generation (all: None), repeats until nothing is left; returns how many rows went."""
        self._memory.forget(tenant_id)
        gone = 0
        while True:
            async with self._database.tenant_tx(tenant_id) as connection:
                removed = await connection.fetchval(_SQL["remove_vectors"], tenant_id, document_id, generation, _PURGE_BATCH)
                for part in await connection.fetch(_SQL["parts_of_document"], tenant_id, document_id, generation, 1):
                    removed += await _remove_part(connection, tenant_id, part)
            if not removed:
                return gone
            gone += removed

    async def count(self, tenant_id: UUID, document_id: UUID, generation: int) -> int:
        """How many chunks of a generation the index holds."""
        async with self._database.tenant_tx(tenant_id) as connection:
            return int(await connection.fetchval(_SQL["count"], tenant_id, document_id, generation))

    async def drop(self, dropping: Dropping) -> int:
        """Removes the vectors that an ended reindex left, repeats until nothing is left; returns how many went."""
        space = _space(dropping.model, dropping.dimension)
        gone = 0
        while True:
            async with self._database.tenant_tx(dropping.tenant_id) as connection:
                removed = await connection.fetchval(_SQL["drop_vectors"], dropping.tenant_id, space.id, dropping.reindex_id, _PURGE_BATCH)
            if not removed:
                return gone
            gone += removed

    # --- searching

    async def search_dense(self, tenant_id: UUID, vector: Vectors, limit: int, scope: Scope, model_id: str, crowded: bool = False) -> list[Candidate]:
        """Nearest passages by cosine, best first."""
        dense, _ = await self._search(tenant_id, None, vector, limit, scope, model_id, crowded)
        return dense

    async def search_keyword(self, tenant_id: UUID, query: str, limit: int, scope: Scope, crowded: bool = False) -> list[Candidate]:
        """Best passages by words, best first: BM25 of the passage and of its page."""
        _, keyword = await self._search(tenant_id, query, None, limit, scope, "", crowded)
        return keyword

    async def search_hybrid(
        self, tenant_id: UUID, query: str, vector: Vectors, limit: int, scope: Scope, model_id: str, crowded: bool = False
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Both legs in one go: (dense, keyword). A passage that the model has not embedded may be found by its words."""
        return await self._search(tenant_id, query, vector, limit, scope, model_id, crowded)

    async def _search(
        self, tenant_id: UUID, query: str | None, vector: Vectors | None, limit: int, scope: Scope, model_id: str, crowded: bool
    ) -> tuple[list[Candidate], list[Candidate]]:
        past_others, wanted = crowded and scope.unrestricted, limit  # a restricted scope goes by generations that answer anyway
        limit *= _CROWDED if past_others else 1
        async with self._database.shared(tenant_id):
            within = await self._parts_in_scope(tenant_id, scope)
            if within is not None and not len(within.keys):
                return [], []
            settings = {**_SETTINGS, "hnsw.ef_search": str(max(_GRAPH_WIDTH, limit))}
            async with self._database.reading_tx(tenant_id, settings) as connection:
                ranked, rows = None, None
                while rows is None:  # twice at most: what is read again is not remembered
                    words = KeywordSearch(connection, tenant_id, within, self._with_grams, memory=self._memory)
                    ranked = None if query is None else await words.scores(query, self._analyser)
                    statement = Statement(tenant_id, limit, scope, answering=past_others)
                    if vector is not None:
                        graph = await self._prefers_graph(connection, ranked.size if ranked else await words.size())
                        statement.add_nearest(vector, _space(model_id, len(vector)), graph=graph)
                    rows = await self._rows(connection, tenant_id, statement, ranked, None if needs_chunks(scope.filter) else limit)
                if ranked and needs_chunks(scope.filter):
                    rows += await _ranked_in_scope(connection, tenant_id, ranked, limit, scope)
        dense, keyword = _candidates(rows, ranked)
        return dense[:wanted], keyword[:wanted]

    async def _rows(
        self, connection: Connection, tenant_id: UUID, statement: Statement, ranked: Ranked | None, best: int | None
    ) -> list[asyncpg.Record] | None:
        """Rows of the statement with the best of the ranking; None where what was remembered of words is of the past, and forgotten now."""
        if ranked is None or best is None:
            return await statement.fetch(connection)
        ranking = ranked.scores.best(best)
        statement.add_ranked(ranking)
        if ranked.recalled_epoch is None:
            rows: list[asyncpg.Record] | None = await statement.fetch(connection)
        else:
            rows = await statement.fetch_at_epoch(connection, ranked.recalled_epoch)
        if rows is not None and ranked.remembered and len({row[0] for row in rows if row[0] is not None}) < len(ranking.ns):
            missing = set(ranking.parts.tolist()).difference(row[3] for row in rows if row[0] is not None)
            if missing and await connection.fetchval(_SQL["parts_known"], tenant_id, array_text(list(missing))) < len(missing):
                rows = None
        if rows is None:
            self._memory.forget(tenant_id)
        return rows

    async def _parts_in_scope(self, tenant_id: UUID, scope: Scope) -> Parts | None:
        """The parts that a scope allows; None where it allows all."""
        if scope.unrestricted:
            return None
        async with self._database.reading_tx(tenant_id) as connection:  # planned with the values of the filter, before our settings
            return await _parts_in_scope(connection, tenant_id, scope)

    async def _prefers_graph(self, connection: Connection, size: Size) -> bool:
        """Whether the graph finds the nearest of so many chunks sooner than comparing them all.

        Comparing grows with the chunks in scope; the graph has to pass by others' chunks, the more the smaller the share.
        """
        if size.chunks <= _EXACT_CHUNKS:
            return False
        if time.monotonic() > self._known_until:
            self._all_vectors = int(await connection.fetchval(_SQL["vectors_of_all"]))
            self._known_until = time.monotonic() + _KNOWN_S
        return size.chunks > math.sqrt(_EXACT_CHUNKS * max(self._all_vectors, size.chunks))


def _space(model_id: str, dimension: int) -> Space:
    return Space(zlib.crc32(f"{dimension}/{model_id}".encode()) >> 1, dimension)


async def _remove_part(connection: Connection, tenant_id: UUID, part: asyncpg.Record) -> int:
    """Removes a part and its postings; returns how many rows went."""
    for start in range(0, len(part["terms"]), _POSTINGS_BATCH):
        await connection.execute(_SQL["remove_postings"], tenant_id, part["part"], part["terms"][start : start + _POSTINGS_BATCH])
    await connection.execute(_SQL["remove_part"], tenant_id, part["part"])
    return len(part["terms"]) + 1


async def _parts_in_scope(connection: Connection, tenant_id: UUID, scope: Scope) -> Parts:
    """The parts of documents in scope, of those with a passage in scope where conditions speak of passages."""
    parameters: list[Any] = [tenant_id]
    condition = compile_filter(scope, parameters)
    if needs_chunks(scope.filter):
        condition = _SQL["has_passage"].replace("{filter}", condition)
    rows = await connection.fetch(_SQL["parts_in_scope"].replace("{filter}", condition), *parameters)
    keys = np.sort(np.array([row["part"] for row in rows], np.int64))
    return Parts(keys, Size(sum(row["chunks"] for row in rows), sum(row["pages"] for row in rows)))


async def _ranked_in_scope(connection: Connection, tenant_id: UUID, ranked: Ranked, limit: int, scope: Scope) -> list[asyncpg.Record]:
    """The best chunks that a scope's conditions on passages hold for: looks further down until there are enough."""
    rows: list[asyncpg.Record] = []
    start, step = 0, 4 * limit
    while len(rows) < limit:
        ranking = ranked.scores.best(step, start)
        if not len(ranking.ns):
            break
        rows += await fetch_ranked_in_scope(connection, tenant_id, ranking, start, scope)
        start, step = start + step, min(4 * step, 10_000)
    return sorted(rows, key=lambda row: row["place"])[:limit]


def _candidates(rows: list[asyncpg.Record], ranked: Ranked | None) -> tuple[list[Candidate], list[Candidate]]:
    """Both legs' candidates, best first: (dense, keyword)."""
    near = sorted([(-row[2], row) for row in rows if row[0] is None], key=itemgetter(0))
    worded = sorted([row for row in rows if row[0] is not None], key=itemgetter(0))
    every = [row for _, row in near] + worded
    scores: Sequence[float | None] = [None] * len(every)
    if ranked:
        scores = ranked.scores.of([_NO_PART if row[3] is None else row[3] for row in every], [row[4] for row in every])
    dense = []
    for (_, (_, chunk_id, product, _, _)), score in zip(near, scores, strict=False):
        cosine = _cosine(product)
        dense.append(Candidate(chunk_id, cosine, cosine, score))
    keyword: dict[UUID, Candidate] = {}  # a chunk stands twice where two models have embedded it
    for (_, chunk_id, product, _, _), score in zip(worded, scores[len(near) :], strict=True):
        if product is None and chunk_id in keyword:
            continue
        keyword[chunk_id] = Candidate(chunk_id, score or 0.0, None if product is None else _cosine(product), score)
    return dense, list(keyword.values())


def _cosine(product: float) -> float:
    """Half precision puts the product of two unit vectors up to a thousandth beyond 1."""
    return product if -1.0 <= product <= 1.0 else max(-1.0, min(1.0, product))
