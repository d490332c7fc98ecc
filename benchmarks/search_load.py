"""Search under load, beside a hello-world route of the same app: `python -m benchmarks.search_load` (a docray is up; loopback only).

Fills docray with the reports of ../shared/data/pdfqa (about 10k chunks) if they are not there. Then, interleaved in one run, at 1, 8 and 32
connections: `/healthz` (no database, no key), search with query embeddings that are cached, and search with questions never seen before.
Figures: rate, p50, p95; and each rate as a share of hello-world's at the same number of connections. Medians of the rounds.
"""

import asyncio
import itertools
import json
import random
import statistics

from benchmarks.instance import SHARED, Instance, Load, figure, request_bytes, run_load
from docray.client import Client

ROUNDS, SECONDS = 3, 4.0
CONNECTIONS = (1, 8, 32)


def fill(client: Client) -> int:
    """Uploads what is missing; returns the number of chunks."""
    ids = [client.upload(path)["id"] for path in sorted((SHARED / "pdfqa" / "docs").glob("*.pdf"))]
    return sum(client.wait(document_id)["chunk_count"] or 0 for document_id in ids)


def main() -> None:
    """Prints JSON lines."""
    instance = Instance.find()
    with Client(instance.url, instance.api_key) as client:
        figure(benchmark="search_load", chunks=fill(client))
    questions = [json.loads(line)["question"] for line in (SHARED / "pdfqa" / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    rng = random.Random(7)

    def search(question: str) -> bytes:
        return request_bytes(instance, "POST", "/v1/search", {"query": question})

    def never_seen() -> itertools.chain[bytes]:
        return itertools.chain.from_iterable([search(f"{rng.choice(questions)} {rng.getrandbits(40)}")] for _ in itertools.count())

    known = [search(question) for question in questions]
    kinds = {
        "hello": lambda: itertools.repeat(request_bytes(instance, "GET", "/healthz")),
        "search, embedding cached": lambda: itertools.cycle(known),
        "search, uncached": never_seen,
    }
    asyncio.run(run_load(instance, known, 4, 60.0))  # every known question embedded once
    for connections in CONNECTIONS:
        runs: dict[str, list[Load]] = {kind: [] for kind in kinds}
        for _ in range(ROUNDS):
            for kind, requests in kinds.items():
                runs[kind].append(asyncio.run(run_load(instance, requests(), connections, SECONDS)))
        hello = statistics.median(load.rate for load in runs["hello"])
        for kind, loads in runs.items():
            rate = statistics.median(load.rate for load in loads)
            figure(
                benchmark="search_load", what=kind, connections=connections, rate=rate, share_of_hello=round(rate / hello, 3),
                p50_ms=statistics.median(load.p50_ms for load in loads), p95_ms=statistics.median(load.p95_ms for load in loads),
                errors=sum(load.errors for load in loads),
            )  # fmt: skip


if __name__ == "__main__":
    main()
