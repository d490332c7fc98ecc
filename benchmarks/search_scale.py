"""How does search hold up at 10,000, 100,000 and 1,000,000 chunks? `python -m benchmarks.search_scale [--sizes 10000,100000,1000000]`

Starts a PostgreSQL of its own in a temporary folder (`--folder` for another place; 1 M chunks take about 10 GB) and loads the index's tables
straight, by COPY; see `benchmarks.scale_corpus` for what is in them. One large tenant, twenty small ones. Then asks the product's own
index class, in this process, as the gateway does: dense, by keywords and both, at 1 and 8 searches at a time. No HTTP, no embedding of questions,
no reading of texts.

`recall`     share of the ten nearest by exact search (numpy) among the ten that the index gives; `recall_small`: of a small tenant
`p50_ms` …   of searches, transaction included; `growth` is the p95 as a multiple of the smallest size's (wanted ≤ 2 at recall ≥ .95)
`state`      `loaded`: as the load leaves the tables; `vacuumed`: after VACUUM (ANALYZE), as autovacuum does in time
`build`      at `--build-at` chunks: the graph built after the load, or row by row while it is there, with time and recall of both
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from benchmarks.bulk_site import running_postgres
from benchmarks.index_recall import Vectors
from benchmarks.instance import SHARED, figure
from benchmarks.scale_corpus import MODEL, SPACE, Loader, Made
from docray.domain.questions import Candidate, Scope
from docray.instance import postgres
from docray.stores.migrate import migrate
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database

QUESTIONS, WARM_UP = 200, 40
CONCURRENCY = (1, 8)
LIMIT = 40  # candidates of each leg, as the search service asks for
SMALL_TENANTS, SMALL_CHUNKS = 20, 200


@dataclass
class Bench:
    """The loaded database, its connection for COPY, and what is asked of it."""

    dsn: Callable[[str], str]
    admin: asyncpg.Connection
    loader: Loader
    questions: Vectors
    texts: Sequence[str]

    @contextlib.asynccontextmanager
    async def index(self) -> AsyncIterator[PgVectorIndex]:
        """As a gateway has it, newly started: what it knows of the table is not of an earlier size."""
        database = Database(self.dsn("docray_app"), pool_size=8)
        await database.open()
        yield PgVectorIndex(database)
        await database.close()

    async def times(self, ask: Callable[[int], Awaitable[Any]], concurrency: int) -> dict[str, float]:
        """Percentiles in milliseconds of searches, so many at a time."""
        spent: list[float] = []
        places = iter(range(WARM_UP + QUESTIONS * (1 if concurrency == 1 else 2)))

        async def one() -> None:
            for place in places:
                started = time.perf_counter()
                await ask(place % QUESTIONS)
                if place >= WARM_UP:
                    spent.append(1000 * (time.perf_counter() - started))

        await asyncio.gather(*(one() for _ in range(concurrency)))
        return {"p50_ms": round(float(np.percentile(spent, 50)), 2), "p95_ms": round(float(np.percentile(spent, 95)), 2)}

    async def recall(self, index: PgVectorIndex, made: Made, questions: int = QUESTIONS) -> float:
        """Of dense searches among a tenant's chunks."""
        exact = made.nearest(self.questions[:questions])
        shares = []
        for place in range(questions):
            found: list[Candidate] = await index.search_dense(made.tenant_id, self.questions[place], 10, Scope(), MODEL)
            shares.append(len({candidate.chunk_id for candidate in found} & exact[place]) / min(10, len(made)))
        return round(float(np.mean(shares)), 4)

    async def vacuum(self) -> float:
        """Seconds that it takes."""
        started = time.perf_counter()
        await self.admin.execute("VACUUM (ANALYZE) docray.chunk_vectors, docray.keyword_parts, docray.keyword_postings")
        return round(time.perf_counter() - started, 1)


async def at_size(bench: Bench, large: Made, small: Made, loaded: dict[str, float]) -> dict[str, float]:
    """Prints the figures of the size that is loaded; p95 by kind and concurrency, vacuumed."""
    labels: dict[str, Any] = {"benchmark": "search_scale", "chunks": len(large)}
    figure(**labels, what="load", **loaded)
    await searches(bench, large, labels | {"state": "loaded"}, (1,))
    figure(**labels, what="vacuum", seconds=await bench.vacuum())
    async with bench.index() as index:
        figure(**labels, what="recall", recall=await bench.recall(index, large), recall_small=await bench.recall(index, small, 50))
    return await searches(bench, large, labels | {"state": "vacuumed"}, CONCURRENCY)


async def searches(bench: Bench, made: Made, labels: dict[str, Any], concurrency: Sequence[int]) -> dict[str, float]:
    """Times of the three kinds."""
    found = {}
    async with bench.index() as index:
        asks: dict[str, Callable[[int], Awaitable[Any]]] = {
            "dense": lambda n: index.search_dense(made.tenant_id, bench.questions[n], LIMIT, Scope(), MODEL),
            "keyword": lambda n: index.search_keyword(made.tenant_id, bench.texts[n % len(bench.texts)], LIMIT, Scope()),
            "hybrid": lambda n: index.search_hybrid(made.tenant_id, bench.texts[n % len(bench.texts)], bench.questions[n], LIMIT, Scope(), MODEL),
        }
        for (kind, ask), at_once in itertools.product(asks.items(), concurrency):
            measured = await bench.times(ask, at_once)
            found[f"{kind}, {at_once} at a time"] = measured["p95_ms"]
            figure(**labels, what=kind, at_once=at_once, **measured)
    return found


async def builds(bench: Bench, large: Made) -> None:
    """The graph of the vectors that are there, made afresh, and row by row. The latter stays: it is the same kind of graph."""
    for how in ("after the load", "row by row"):
        seconds = await (bench.loader.build_graph() if how == "after the load" else bench.loader.grow_graph(large))
        await bench.vacuum()
        async with bench.index() as index:
            measured = await bench.times(lambda n: index.search_dense(large.tenant_id, bench.questions[n], LIMIT, Scope(), MODEL), 1)
            recall = await bench.recall(index, large)
        figure(benchmark="search_scale", chunks=len(large), build=how, seconds=round(seconds, 1), recall=recall, **measured)


async def measure(folder: Path, options: argparse.Namespace) -> None:
    """Prints a JSON line for each figure."""
    def dsn(role: str) -> str:
        return postgres.dsn(folder, role)

    await migrate(dsn(postgres.SUPERUSER))
    admin = await asyncpg.connect(dsn(postgres.SUPERUSER))
    loader = Loader(admin, dsn, options.maintenance_work_mem)
    await loader.prepare()
    texts = [json.loads(line)["question"] for line in (SHARED / "pdfqa" / "questions.jsonl").read_text(encoding="utf-8").splitlines()][:QUESTIONS]
    bench = Bench(dsn, admin, loader, loader.vectors(QUESTIONS), texts)
    figure(benchmark="search_scale", what="rows as the product writes them", **await loader.proof())
    large, small = Made(), [Made() for _ in range(SMALL_TENANTS)]
    for made in small:
        await loader.load(made, SMALL_CHUNKS)
    first: dict[str, float] | None = None
    for size in (int(size) for size in options.sizes.split(",")):
        loaded = await loader.bulk(large, size - len(large))
        p95 = await at_size(bench, large, small[0], loaded)
        first = first or p95
        figure(benchmark="search_scale", chunks=size, growth={kind: round(value / first[kind], 2) for kind, value in p95.items()})
        if size == options.build_at:
            await builds(bench, large)
    loader.close()
    await admin.close()


def main() -> None:
    """Starts the server, measures, stops it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="of the large tenant, growing")
    parser.add_argument("--build-at", type=int, default=100_000, help="the size at which both ways to build the graph are measured; 0: none")
    parser.add_argument("--maintenance-work-mem", default="4GB", help="while the graph is built; it should fit")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="of PostgreSQL, beyond the embedded one's")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as scratch:
        folder = Path(scratch) / "postgres"
        words = [word for setting in ("fsync=off", "max_wal_size=8GB", *options.setting) for word in ("-c", setting)]
        with running_postgres(folder, *words):
            asyncio.run(measure(folder, options))
    print(f"space of the vectors: {SPACE.id}", file=sys.stderr)


if __name__ == "__main__":
    main()
