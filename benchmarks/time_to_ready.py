"""One 20-page PDF from POST to `ready`, beside the bare extraction and embedding of the same file: `python -m benchmarks.time_to_ready`.

Needs a running docray on this machine. Both are measured in turns in one run; the figure is the ratio of the medians.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import pymupdf

from benchmarks.instance import SHARED, Instance, figure
from docray.client import Client
from docray.ingestion.chunking import Chunker
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.sandbox.client import Parser
from models.embedding import EmbeddingSpec, build_engine

ROUNDS = 5


def excerpt(folder: Path, number: int) -> Path:
    """Twenty pages of an ordinary report; another title each time, so that no two are duplicates."""
    source = sorted((SHARED / "pdfqa" / "docs").glob("*.pdf"))[0]
    with pymupdf.open(source) as whole, pymupdf.open() as part:
        part.insert_pdf(whole, from_page=0, to_page=19)
        part.set_metadata({"title": f"Excerpt {number} {time.time_ns()}"})
        part.save(folder / f"{number}.pdf", garbage=3, deflate=True)
    return folder / f"{number}.pdf"


async def bare(path: Path, parser: Parser, engine) -> float:  # type: ignore[no-untyped-def]
    """Seconds to extract, chunk and embed the file, with nothing around it."""
    started = time.perf_counter()
    extraction = await parser.extract(path)
    chunks = Chunker(max_tokens=200, count_tokens=engine.count_tokens).chunk(extraction.pages, title=None, filename=path.name)
    await asyncio.to_thread(engine.embed_passages, [chunk.indexed_text for chunk in chunks])
    return time.perf_counter() - started


def served(path: Path, client: Client) -> float:
    """Seconds from POST to ready, seen by a client that polls."""
    started = time.perf_counter()
    document_id = client.upload(path)["id"]
    document = client.wait(document_id)
    spent = time.perf_counter() - started
    client.delete(document_id)
    assert document["state"] == "ready", document["failure"]
    return spent


async def measure() -> None:
    """Prints JSON lines."""
    instance = Instance.find()
    with tempfile.TemporaryDirectory() as folder, Client(instance.url, instance.api_key) as client:
        engine = build_engine(EmbeddingSpec(cache_dir=Path(folder)))
        engine.warm_up()
        parser = Parser(limits=ParserLimits())
        await parser.start()
        times: dict[str, list[float]] = {"bare": [], "served": []}
        for number in range(ROUNDS):
            path = excerpt(Path(folder), number)
            times["bare"].append(await bare(path, parser, engine))
            times["served"].append(await asyncio.to_thread(served, path, client))
        await parser.close()
        engine.close()
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    figure(
        benchmark="time_to_ready", pages=20, bare_s=round(medians["bare"], 3), post_to_ready_p50_s=round(medians["served"], 3),
        ratio=round(medians["served"] / medians["bare"], 2), rounds=ROUNDS,
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(measure())
