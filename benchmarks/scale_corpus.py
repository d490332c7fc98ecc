"""The corpus of `benchmarks.search_scale`: documents of 40 chunks, made quickly, loaded straight into the index's tables.

Texts are real: chunks of seven runs of sentences out of the shared reports (`pdfqa`, 2,040 pages), drawn at random, about 1,000 characters; so terms
have the frequencies of language. Their postings are made by the product's own `make_part`, on all cores. Vectors are clustered as those of sentences
are: 300 topics in 40 of 384 dimensions, and noise around them (`index_recall.made_up_vectors`); they are not those of the texts.
"""

import asyncio
import contextlib
import multiprocessing
import os
import random
import re
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from benchmarks.embedding import page_texts
from benchmarks.index_recall import DIMENSION, FREE_DIMENSIONS, TOPICS, Vectors, made_up_vectors
from benchmarks.instance import SHARED
from docray.domain.documents import Chunk, PageSpan
from docray.domain.ids import chunk_id, new_id
from docray.stores.keyword_postings import Part, make_part
from docray.stores.keyword_terms import Analyser
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.pgvector_statement import Space
from docray.stores.postgres import Database

MODEL = "made-up"
SPACE = Space(zlib.crc32(f"{DIMENSION}/{MODEL}".encode()) >> 1, DIMENSION)  # as the index numbers it; `Loader.proof` compares
CHUNKS_A_DOCUMENT, CHUNKS_A_PAGE, RUNS_A_CHUNK = 40, 4, 7
_BATCH_CHUNKS = 10_000
_FEW_DOCUMENTS = 20  # are not worth handing to other processes
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_RUN_CHARACTERS = 145
_GRAPH = f"chunk_vectors_space_{SPACE.id}"
_TABLES = {
    "chunk_vectors": ("tenant_id", "document_id", "generation", "n", "space", "chunk_id", "embedding"),
    "keyword_parts": ("tenant_id", "part", "document_id", "generation", "first_n", "last_n", "chunks", "pages", "terms"),
    "keyword_postings": ("tenant_id", "term", "part", "postings"),
}
_KEYS = {
    "chunk_vectors": "tenant_id, document_id, generation, n, space",
    "keyword_parts": "tenant_id, part",
    "keyword_postings": "tenant_id, term, part",
}


class Made:
    """A tenant's chunk ids and vectors, in half precision as they are stored."""

    def __init__(self) -> None:
        self.tenant_id = new_id()
        self.ids: list[UUID] = []
        self._vectors: list[np.ndarray[Any, np.dtype[np.float16]]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Sequence[UUID], vectors: np.ndarray[Any, np.dtype[np.float16]]) -> None:
        """More of them."""
        self.ids += ids
        self._vectors.append(vectors)

    def nearest(self, questions: Vectors, count: int = 10) -> list[set[UUID]]:
        """The nearest of each question, by comparing all."""
        best = [np.empty((len(questions), 0), np.float32), np.empty((len(questions), 0), np.int64)]
        start = 0
        for block in self._blocks(50_000):
            products = questions @ block.astype(np.float32).T
            places = np.broadcast_to(np.arange(start, start + len(block)), products.shape)
            scores, where = np.concatenate([best[0], products], 1), np.concatenate([best[1], places], 1)
            chosen = np.argsort(-scores, axis=1)[:, :count]
            best = [np.take_along_axis(scores, chosen, 1), np.take_along_axis(where, chosen, 1)]
            start += len(block)
        return [{self.ids[place] for place in row} for row in best[1].tolist()]

    def _blocks(self, size: int) -> Iterator[np.ndarray[Any, np.dtype[np.float16]]]:
        batches = iter(self._vectors)
        while taken := list(islice(batches, max(1, size // _BATCH_CHUNKS))):
            yield np.concatenate(taken)


class Loader:
    """Makes chunks and loads them, as the superuser: past row-level security, and without keys and graph where that is quicker."""

    def __init__(self, admin: asyncpg.Connection, dsn: Callable[[str], str], maintenance_work_mem: str) -> None:
        self._admin = admin
        self._dsn = dsn
        self._memory = maintenance_work_mem
        self._rng = np.random.default_rng(11)
        self._basis = np.linalg.qr(self._rng.normal(size=(DIMENSION, FREE_DIMENSIONS)))[0].T.astype(np.float32)
        self._topics = (1.2 * self._rng.normal(size=(TOPICS, FREE_DIMENSIONS))).astype(np.float32)
        self._seed = 0
        _runs[:] = _read_runs()
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_take_runs, initargs=(_runs,))

    async def prepare(self) -> None:
        """Lets the driver send half-precision vectors in binary."""
        await self._admin.set_type_codec("halfvec", schema="public", encoder=_half_bytes, decoder=bytes, format="binary")

    def close(self) -> None:
        """Ends the processes that make postings."""
        self._pool.shutdown()

    def vectors(self, count: int) -> Vectors:
        """Vectors of the corpus' kind."""
        return made_up_vectors(count, self._rng, self._basis, self._topics)

    async def bulk(self, made: Made, count: int) -> dict[str, float]:
        """Loads chunks without keys and graph, then makes those; seconds of each step."""
        spent: dict[str, float] = {}
        async with _timed(spent, "drop_s"):
            await self._admin.execute(f"DROP INDEX IF EXISTS docray.{_GRAPH}")
            for table in _TABLES:
                await self._admin.execute(f"ALTER TABLE docray.{table} DROP CONSTRAINT {table}_pkey")
        async with _timed(spent, "copy_s"):
            await self.load(made, count)
        await self._admin.execute(f"SET maintenance_work_mem = '{self._memory}'; SET max_parallel_maintenance_workers = 1")
        async with _timed(spent, "keys_s"):
            for table, key in _KEYS.items():
                await self._admin.execute(f"ALTER TABLE docray.{table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({key})")
        async with _timed(spent, "graph_s"):
            await self.build_graph()
        return spent

    async def load(self, made: Made, count: int) -> None:
        """Copies so many chunks into the tables as they are."""
        started = time.monotonic()
        for first in range(0, count, _BATCH_CHUNKS):
            whole, rest = divmod(min(_BATCH_CHUNKS, count - first), CHUNKS_A_DOCUMENT)
            sizes = [CHUNKS_A_DOCUMENT] * whole + ([rest] if rest else [])
            documents = [new_id() for _ in sizes]
            self._seed += 1
            seeds = [self._seed * 100_000 + place for place in range(len(sizes))]
            await self._copy(made, documents, sizes, await asyncio.to_thread(self._parts, documents, seeds, sizes))
            if count > _BATCH_CHUNKS and first % (5 * _BATCH_CHUNKS) == 0:
                print(f"{first + sum(sizes):,} of {count:,} chunks loaded after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    def _parts(self, documents: Sequence[UUID], seeds: Sequence[int], sizes: Sequence[int]) -> list[Part]:
        if len(documents) < _FEW_DOCUMENTS:
            return list(map(_part, documents, seeds, sizes))
        return list(self._pool.map(_part, documents, seeds, sizes, chunksize=16))

    async def _copy(self, made: Made, documents: Sequence[UUID], sizes: Sequence[int], parts: Sequence[Part]) -> None:
        tenant = made.tenant_id
        vectors = self.vectors(sum(sizes)).astype(np.float16)
        places = [(document, n) for document, size in zip(documents, sizes, strict=True) for n in range(size)]
        ids = [chunk_id(tenant, document, 1, n) for document, n in places]
        made.add(ids, vectors)
        rows = {
            "chunk_vectors": [
                (tenant, document, 1, n, SPACE.id, key, vector) for (document, n), key, vector in zip(places, ids, vectors, strict=True)
            ],
            "keyword_parts": [
                (tenant, part.key, document, 1, part.first_n, part.last_n, part.chunks, part.pages, part.terms)
                for document, part in zip(documents, parts, strict=True)
            ],
            "keyword_postings": [(tenant, term, part.key, record) for part in parts for term, record in zip(part.terms, part.postings, strict=True)],
        }
        for table, records in rows.items():
            await self._admin.copy_records_to_table(table, schema_name="docray", columns=_TABLES[table], records=records)

    async def build_graph(self) -> float:
        """Makes the graph afresh by the product's own function; seconds. Tells how far it is."""
        await self._admin.execute(f"SET maintenance_work_mem = '{self._memory}'; SET max_parallel_maintenance_workers = 1")
        await self._admin.execute(f"DROP INDEX IF EXISTS docray.{_GRAPH}")
        watching = asyncio.create_task(self._tell_progress())
        started = time.perf_counter()
        try:
            await self._admin.execute(f"SELECT docray.prepare_vector_space({SPACE.id}, {DIMENSION})")
        finally:
            watching.cancel()
        return time.perf_counter() - started

    async def grow_graph(self, made: Made) -> float:
        """Takes the vectors of a tenant out, and puts them in again one by one while the graph is there; seconds of the latter."""
        where = f"tenant_id = '{made.tenant_id}'"
        await self._admin.execute(f"CREATE TABLE docray.aside AS SELECT * FROM docray.chunk_vectors WHERE {where}")
        await self._admin.execute(f"DROP INDEX docray.{_GRAPH}")
        await self._admin.execute(f"DELETE FROM docray.chunk_vectors WHERE {where}")
        await self._admin.execute("VACUUM docray.chunk_vectors")
        await self.build_graph()
        started = time.perf_counter()
        await self._admin.execute(f"INSERT INTO docray.chunk_vectors SELECT * FROM docray.aside WHERE {where}")
        spent = time.perf_counter() - started
        await self._admin.execute("DROP TABLE docray.aside")
        return spent

    async def _tell_progress(self) -> None:
        with contextlib.suppress(asyncpg.PostgresError):
            connection = await asyncpg.connect(self._dsn("postgres"))
            try:
                while True:
                    await asyncio.sleep(10)
                    row = await connection.fetchrow("SELECT phase, tuples_done, tuples_total FROM pg_stat_progress_create_index")
                    if row:
                        print(f"graph: {row['phase']}, {row['tuples_done']:,} of {row['tuples_total']:,}", file=sys.stderr, flush=True)
            finally:
                await connection.close()

    async def proof(self) -> dict[str, object]:
        """Whether a document loaded here has the rows that the product writes of the same document, its vectors included."""
        made, seed, size = Made(), 7, 12
        document = new_id()
        chunks = _chunks(seed, size)
        database = Database(self._dsn("docray_worker"), pool_size=1)
        await database.open()
        before = self._rng.bit_generator.state
        await self._copy(made, [document], [size], [_part(document, seed, size)])
        loaded = await self._rows(document)
        for table in _TABLES:
            await self._admin.execute(f"DELETE FROM docray.{table} WHERE tenant_id = $1", made.tenant_id)
        self._rng.bit_generator.state = before
        keyed = list(zip(made.ids, chunks, strict=True))
        await PgVectorIndex(database).upsert(made.tenant_id, document, 1, keyed, self.vectors(size), MODEL)
        written = await self._rows(document)
        for table in _TABLES:
            await self._admin.execute(f"DELETE FROM docray.{table} WHERE tenant_id = $1", made.tenant_id)
        await database.close()
        if loaded != written:
            raise SystemExit("the loaded rows are not those that the product writes: the figures would be of something else")
        return {"identical": True, "rows": {table: len(rows) for table, rows in loaded.items()}}

    async def _rows(self, document: UUID) -> dict[str, list[Any]]:
        found = {}
        for table in _TABLES:
            of = "part IN (SELECT part FROM docray.keyword_parts WHERE document_id = $1)" if table == "keyword_postings" else "document_id = $1"
            rows = await self._admin.fetch(f"SELECT t::text AS row FROM docray.{table} t WHERE {of} ORDER BY 1", document)
            found[table] = [row["row"] for row in rows]
        return found


@contextlib.asynccontextmanager
async def _timed(spent: dict[str, float], name: str) -> AsyncIterator[None]:
    started = time.perf_counter()
    yield
    spent[name] = round(time.perf_counter() - started, 1)


def _half_bytes(vector: np.ndarray[Any, np.dtype[np.float16]]) -> bytes:
    """pgvector's binary form: two-byte length, two unused bytes, big-endian numbers."""
    return len(vector).to_bytes(2) + b"\0\0" + vector.astype(">f2").tobytes()


# --- in the processes that make postings --------------------------------------------------------------------------------------

_runs: list[str] = []
_analyser = Analyser()


def _take_runs(runs: list[str]) -> None:
    _runs[:] = runs


def _read_runs() -> Iterator[str]:
    """Runs of sentences of the shared reports, of about a seventh of a chunk."""
    for text in page_texts(Path(SHARED / "pdfqa" / "docs")):
        gathered = ""
        for sentence in _SENTENCE.split(text):
            gathered = f"{gathered} {sentence[:_RUN_CHARACTERS * 2]}".strip()
            if len(gathered) >= _RUN_CHARACTERS:
                yield gathered
                gathered = ""


def _chunks(seed: int, size: int) -> list[Chunk]:
    rng = random.Random(seed)
    return [
        Chunk(n=n, text=" ".join(rng.choices(_runs, k=RUNS_A_CHUNK)), spans=(PageSpan(n // CHUNKS_A_PAGE + 1, 0, 1),), pages=()) for n in range(size)
    ]


def _part(document: UUID, seed: int, size: int) -> Part:
    return make_part(document, 1, _chunks(seed, size), _analyser)
