"""Embedding engines side by side on chunks of real PDFs: one JSON line each.

    python -m benchmarks.embedding [--pdfs FOLDER] [--chunks 120] [--rounds 3] [--engines plain,openvino-auto,…]

Every engine lives in its own process (set-up time and memory are its own); rounds go from one to the next in turns, so that a
busy machine is equally busy for all. `plain` is sentence-transformers as its users call it, in float32: the reference of the
cosines. `in_process_*` is the way of the gateway: through `InProcessEmbedder`, alone and while passages are being embedded.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from docray.domain.ports import Vectors
from models.checkpoints import resolve_checkpoint
from models.embedding import EmbeddingEngine, EmbeddingSpec, build_engine
from models.in_process import InProcessEmbedder

ROOT = Path(__file__).resolve().parents[1]
PDF_FOLDERS = (ROOT.parent / "shared" / "data" / "throughput", ROOT / "samples")
CHUNK_CHARACTERS = 1000
QUESTIONS = (
    "When must an appeal be filed?",
    "How many people were on board the aircraft when it crashed?",
    "total revenue 2022",
    "Who signed the report of the inspector general on information security?",
    "What dose do participants receive in the second phase of the study?",
)
SPECS: dict[str, dict[str, Any]] = {
    "openvino-auto": {"engine": "openvino", "precision": "auto"},
    "openvino-f32": {"engine": "openvino", "precision": "f32"},
    "openvino-bf16": {"engine": "openvino", "precision": "bf16"},
    "sentence_transformers-f32": {"engine": "sentence_transformers", "precision": "f32"},
    "sentence_transformers-auto": {"engine": "sentence_transformers", "precision": "auto"},
}
DEFAULT_ENGINES = "plain,openvino-auto,openvino-f32,sentence_transformers-f32"


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "chunks.json").write_text(json.dumps(chunks_of(arguments.pdfs, arguments.chunks)), encoding="utf-8")
        contestants = [Contestant(name, folder, arguments) for name in arguments.engines.split(",")]
        for _ in range(arguments.rounds):
            for contestant in contestants:
                contestant.ask("round")
        for contestant in contestants:
            contestant.ask("in_process")
        reference = next((contestant.vectors for contestant in contestants if contestant.name == "plain"), None)
        for contestant in contestants:
            print(json.dumps(contestant.row(reference)), flush=True)
            contestant.leave()


class Contestant:
    """An engine in a process of its own, asked over its pipes."""

    def __init__(self, name: str, folder: Path, arguments: argparse.Namespace) -> None:
        self.name = name
        self._answers: list[dict[str, Any]] = []
        self._vectors_file = folder / f"{name}.npy"
        command = [sys.executable, "-m", "benchmarks.embedding", "--contestant", name, "--scratch", str(folder), "--threads", str(arguments.threads)]
        command += ["--cache", str(arguments.cache or folder / "cache"), *(["--model", arguments.model] if arguments.model else [])]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ask("open")

    def ask(self, what: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} died while asked for {what}: run it with --contestant {self.name} to see why")
        self._answers.append(json.loads(line))

    @property
    def vectors(self) -> Vectors:
        vectors: Vectors = np.load(self._vectors_file)
        return vectors

    def row(self, reference: Vectors | None) -> dict[str, Any]:
        """Medians over the rounds."""
        values: dict[str, list[Any]] = {}
        for answer in self._answers:
            for key, value in answer.items():
                values.setdefault(key, []).append(value)
        row = {key: found[0] if isinstance(found[0], str) else round(statistics.median(found), 3) for key, found in values.items()}
        if reference is not None:
            cosines = np.sum(reference * self.vectors, axis=1)
            row |= {"cosine_mean": round(float(cosines.mean()), 7), "cosine_min": round(float(cosines.min()), 7)}
        return {"benchmark": "embedding", "engine": self.name, **row}

    def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


# --- in the contestant's process --------------------------------------------------------------------------------------------


def contest(arguments: argparse.Namespace) -> None:
    """Answers each line of standard input with a line of figures."""
    folder = Path(arguments.scratch)
    chunks = json.loads((folder / "chunks.json").read_text(encoding="utf-8"))
    started = time.perf_counter()
    engine = opened(arguments)
    if isinstance(engine, PlainSentenceTransformers):
        engine.embed_queries(QUESTIONS[:1])
    else:
        engine.warm_up()
    set_up_s = time.perf_counter() - started
    for line in sys.stdin:
        if line.strip() == "open":
            answer: dict[str, Any] = {"set_up_s": set_up_s, "model_id": engine.model_id, "precision": getattr(engine, "precision", "f32")}
        elif line.strip() == "round":
            answer, vectors = one_round(engine, chunks)
            np.save(folder / f"{arguments.contestant}.npy", vectors)
        else:
            answer = {} if isinstance(engine, PlainSentenceTransformers) else asyncio.run(through_the_port(engine, chunks))
        print(json.dumps(answer), flush=True)


def opened(arguments: argparse.Namespace) -> "EmbeddingEngine | PlainSentenceTransformers":
    cache = Path(arguments.cache)
    if arguments.contestant == "plain":
        return PlainSentenceTransformers(resolve_checkpoint(arguments.model, cache_dir=cache).folder)
    return build_engine(EmbeddingSpec(model=arguments.model, cache_dir=cache, threads=arguments.threads, **SPECS[arguments.contestant]))


class PlainSentenceTransformers:
    """What everybody writes: `SentenceTransformer(folder).encode(texts)`."""

    model_id = "reference"

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(folder), local_files_only=True)

    def embed_passages(self, texts: list[str]) -> Vectors:
        return np.asarray(self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False), np.float32)

    embed_queries = embed_passages


def one_round(engine: Any, chunks: list[str]) -> tuple[dict[str, float], Vectors]:
    started, cpu = time.perf_counter(), time.process_time()
    vectors: Vectors = engine.embed_passages(chunks)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    queries = [timed(lambda question=question: engine.embed_queries([question])) for question in QUESTIONS * 8]
    return {
        "chunks_per_s": len(chunks) / wall_s,
        "cpu_ms_per_chunk": 1000 * cpu_s / len(chunks),
        "query_p50_ms": 1000 * statistics.median(queries),
        "rss_mib": psutil.Process().memory_info().rss / 2**20,
    }, vectors


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


async def through_the_port(engine: EmbeddingEngine, chunks: list[str]) -> dict[str, float]:
    """One query at a time, uncached; then the same while passages are embedded, and how fast those were meanwhile."""
    embedder = InProcessEmbedder(engine, query_cache_size=0)
    alone = [seconds async for seconds in queries_until(embedder, lambda: False, 40)]
    started = time.perf_counter()
    passages = asyncio.create_task(embedder.embed_passages(chunks))
    beside = [seconds async for seconds in queries_until(embedder, passages.done, 100_000)]
    await passages
    return {
        "in_process_query_p50_ms": 1000 * statistics.median(alone),
        "in_process_query_p50_ms_beside_passages": 1000 * statistics.median(beside),
        "in_process_query_max_ms_beside_passages": 1000 * max(beside),
        "in_process_chunks_per_s_beside_queries": len(chunks) / (time.perf_counter() - started),
    }


async def queries_until(embedder: InProcessEmbedder, done: Callable[[], bool], limit: int) -> Any:
    """Seconds of queries, 50 ms apart so that passages get their turn."""
    for n in range(limit):
        if done():
            return
        started = time.perf_counter()
        await embedder.embed_queries([QUESTIONS[n % len(QUESTIONS)]])
        yield time.perf_counter() - started
        await asyncio.sleep(0.05 if limit > 40 else 0)


# --- input -----------------------------------------------------------------------------------------------------------------------


def chunks_of(folder: Path, count: int) -> list[str]:
    """Pieces of about 1,000 characters of the folder's PDFs, the same ones each time."""
    chunks = [text[start : start + CHUNK_CHARACTERS] for text in page_texts(folder) for start in range(0, len(text), CHUNK_CHARACTERS)]
    random.Random(0).shuffle(chunks)
    return chunks[:count] if chunks else sys.exit(f"No text in the PDFs of {folder}.")


def page_texts(folder: Path) -> Iterator[str]:
    import pymupdf

    for path in sorted(folder.glob("*.pdf")):
        with pymupdf.open(path) as document:
            yield from (" ".join(page.get_text().split()) for page in document)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Embedding engines side by side, one JSON line each.")
    parser.add_argument("--pdfs", type=Path, default=next(folder for folder in PDF_FOLDERS if folder.is_dir()))
    parser.add_argument("--chunks", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default=DEFAULT_ENGINES, help=f"of: plain, {', '.join(SPECS)}")
    parser.add_argument("--model", help="as DOCRAY_EMBEDDING_MODEL; all-MiniLM-L6-v2 unless given")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="kept between runs, with the measured precision")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = parse_arguments()
    contest(given) if given.contestant else main()
