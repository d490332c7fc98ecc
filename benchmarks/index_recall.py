"""Does the index find what an exact search finds, and how fast? `python -m benchmarks.index_recall [--chunks 10000,100000]`

Starts a PostgreSQL of its own in a temporary folder. One tenant has as many chunks as asked, fifty others 20 to 400 each, all in the same
tables and the same graph. Vectors are made up with the spread of real ones: mixtures of 300 topics in 40 of 384 dimensions, whose nearest
neighbours are about as far apart as those of sentences; texts are made of words with the frequencies of language (Zipf).

`recall`    share of the ten nearest by exact search (numpy, float32) among the ten that the index gives
`p50_ms`    one search at a time, transaction included; `cpu_ms` of it were computed by PostgreSQL's process
"""

import argparse
import asyncio
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.instance import figure
from docray.domain.documents import Chunk, PageSpan
from docray.domain.ids import chunk_id, new_id
from docray.domain.questions import Candidate, Scope
from docray.instance import postgres
from docray.stores.migrate import migrate
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database

DIMENSION, TOPICS, FREE_DIMENSIONS = 384, 300, 40
MODEL = "made-up"
SMALL_TENANTS = 50
CHUNKS_A_DOCUMENT, CHUNKS_A_PAGE, WORDS_A_CHUNK = 40, 4, 90
QUESTIONS = 100
VOCABULARY = 50_000
Vectors = npt.NDArray[np.float32]


def made_up_vectors(count: int, rng: np.random.Generator, basis: Vectors, topics: Vectors) -> Vectors:
    """Unit vectors around topics, with some noise in every direction."""
    chosen = topics[rng.integers(0, len(topics), count)]
    inner = chosen + 0.7 * rng.normal(size=chosen.shape)
    made = inner @ basis + 0.35 * rng.normal(size=(count, DIMENSION))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def made_up_chunks(count: int, rng: np.random.Generator) -> list[Chunk]:
    """Chunks of a document, four a page, of English enough text."""
    numbers = np.minimum(rng.zipf(1.15, (count, WORDS_A_CHUNK)), VOCABULARY)
    return [
        Chunk(n=n, text=f"of the {' and the '.join(f'term{number}' for number in row)}", spans=(PageSpan(n // CHUNKS_A_PAGE + 1, 0, 1),), pages=())
        for n, row in enumerate(numbers.tolist())
    ]


class Corpus:
    """Chunk ids and vectors of a tenant, as they were written."""

    def __init__(self, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.ids: list[UUID] = []
        self.vectors: list[Vectors] = []

    def nearest(self, question: Vectors) -> set[UUID]:
        """The ten nearest."""
        products = np.concatenate(self.vectors) @ question
        return {self.ids[place] for place in np.argsort(-products)[:10]}

    def __len__(self) -> int:
        return len(self.ids)


class Bench:
    """A database with an index, and what was written to it."""

    def __init__(self, folder: Path, writer: Database, reader: Database, process: psutil.Process) -> None:
        self._folder = folder
        self._writer = PgVectorIndex(writer)
        self._reader = PgVectorIndex(reader)
        self._process = process
        self._rng = np.random.default_rng(11)
        self._basis = np.linalg.qr(self._rng.normal(size=(DIMENSION, FREE_DIMENSIONS)))[0].T.astype(np.float32)
        self._topics = (1.2 * self._rng.normal(size=(TOPICS, FREE_DIMENSIONS))).astype(np.float32)
        self.large = Corpus(new_id())
        self.small = [Corpus(new_id()) for _ in range(SMALL_TENANTS)]

    async def add(self, corpus: Corpus, count: int) -> None:
        """Writes documents through the index, as a worker does."""
        while count > 0:
            size = min(CHUNKS_A_DOCUMENT, count)
            document, chunks = new_id(), made_up_chunks(size, self._rng)
            ids = [chunk_id(corpus.tenant_id, document, 1, chunk.n) for chunk in chunks]
            vectors = made_up_vectors(size, self._rng, self._basis, self._topics)
            await self._writer.upsert(corpus.tenant_id, document, 1, list(zip(ids, chunks, strict=True)), vectors, MODEL)
            corpus.ids += ids
            corpus.vectors.append(vectors)
            count -= size

    async def settle(self) -> None:
        """What autovacuum would do in time: statistics and the visibility map."""
        connection = await asyncpg.connect(postgres.dsn(self._folder, postgres.SUPERUSER))
        await connection.execute("VACUUM (ANALYZE) docray.chunk_vectors, docray.keyword_parts, docray.keyword_postings")
        await connection.close()

    async def recall(self, corpus: Corpus) -> dict[str, Any]:
        """Recall and time of dense searches."""
        questions = made_up_vectors(QUESTIONS, self._rng, self._basis, self._topics)
        found: list[list[Candidate]] = []

        async def ask(place: int) -> None:
            found.append(await self._reader.search_dense(corpus.tenant_id, questions[place], 10, Scope(), MODEL))

        measured = await self._timed(ask)
        shares = [
            len({candidate.chunk_id for candidate in candidates} & corpus.nearest(question)) / min(10, len(corpus))
            for candidates, question in zip(found[-QUESTIONS:], questions, strict=True)
        ]
        return {"recall": round(statistics.mean(shares), 4), **measured}

    async def keyword(self, corpus: Corpus, words: int, rarest: int) -> dict[str, Any]:
        """Time of keyword searches with words of a frequency rank from `rarest` down to a hundredth of it."""
        queries = [" ".join(f"term{n}" for n in self._rng.integers(rarest // 100, rarest, words)) for _ in range(QUESTIONS)]

        async def ask(place: int) -> None:
            await self._reader.search_keyword(corpus.tenant_id, queries[place], 40, Scope())

        return await self._timed(ask)

    async def hybrid(self, corpus: Corpus) -> dict[str, Any]:
        """Time of hybrid searches of ten words."""
        questions = made_up_vectors(QUESTIONS, self._rng, self._basis, self._topics)
        queries = [" ".join(f"term{n}" for n in np.minimum(self._rng.zipf(1.15, 10), VOCABULARY)) for _ in range(QUESTIONS)]

        async def ask(place: int) -> None:
            await self._reader.search_hybrid(corpus.tenant_id, queries[place], questions[place], 40, Scope(), MODEL)

        return await self._timed(ask)

    async def _timed(self, ask: Callable[[int], Awaitable[None]]) -> dict[str, Any]:
        for place in range(10):
            await ask(place)
        times, before = [], self._server_cpu_s()
        for place in range(QUESTIONS):
            started = time.perf_counter()
            await ask(place)
            times.append(1000 * (time.perf_counter() - started))
        spent = 1000 * (self._server_cpu_s() - before) / QUESTIONS
        return {"p50_ms": round(statistics.median(times), 2), "p95_ms": round(sorted(times)[int(0.95 * len(times))], 2), "cpu_ms": round(spent, 2)}

    def _server_cpu_s(self) -> float:
        sessions = [child for child in self._process.children() if "docray_app" in " ".join(child.cmdline())]
        return float(sum(sum(child.cpu_times()[:2]) for child in sessions))


async def measure(folder: Path, process: psutil.Process, sizes: Sequence[int]) -> None:
    """Prints a JSON line for each size and question."""
    dsn = postgres.dsn(folder, postgres.SUPERUSER)
    await migrate(dsn)
    writer, reader = (Database(postgres.dsn(folder, role), pool_size=1) for role in ("docray_worker", "docray_app"))
    await writer.open()
    await reader.open()
    bench = Bench(folder, writer, reader, process)
    for place, corpus in enumerate(bench.small):
        await bench.add(corpus, 20 + 8 * place)
    for size in sizes:
        started = time.perf_counter()
        added = size - len(bench.large)
        await bench.add(bench.large, added)
        spent = time.perf_counter() - started
        await bench.settle()
        figure(benchmark="index_recall", chunks=size, written_chunks_per_s=round(added / spent, 1))
        figure(benchmark="index_recall", chunks=size, what="dense", tenant="the large one", **await bench.recall(bench.large))
        figure(benchmark="index_recall", chunks=size, what="dense", tenant="the smallest of 51", **await bench.recall(bench.small[0]))
        for words, rarest in ((3, 100), (3, 10_000), (10, 10_000), (30, 30_000)):
            figures = await bench.keyword(bench.large, words, rarest)
            figure(benchmark="index_recall", chunks=size, what=f"keyword, {words} words of rank {rarest // 100} to {rarest}", **figures)
        figure(benchmark="index_recall", chunks=size, what="hybrid, 10 words", **await bench.hybrid(bench.large))
    await writer.close()
    await reader.close()


def main() -> None:
    """Starts the server, measures, stops it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", default="10000,100000", help="sizes of the large tenant, growing")
    sizes = [int(size) for size in parser.parse_args().chunks.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        postgres.ensure_initialised(folder)
        process = subprocess.Popen([*postgres.command(folder), "-c", "fsync=off"], stdin=subprocess.DEVNULL)
        try:
            postgres.wait_ready(folder)
            asyncio.run(measure(folder, psutil.Process(process.pid), sizes))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


if __name__ == "__main__":
    main()
