"""Files on disk until they can be found over HTTP, on all cores: docray's bulk command beside LangChain and LlamaIndex.

    python -m benchmarks.bulk_peers [--source FOLDER …] [--pages-limit N] [--rounds 3] [--peers langchain,llama_index]

docray: a running instance of the benchmark's own and `python -m pipelines.ingest` into a new tenant of it. Peers: `benchmarks/peers`, the same
weights with sentence-transformers, PyMuPDF, chunks of 1,000 characters, FAISS, FastAPI. Everyone is a process (or several) of its own, rounds go
from one to the next, and nothing of docray runs beside a peer. The clock runs from the start of the command until a search over HTTP finds
the document that was ready last; for peers, which answer when all is done, the last one by name. Medians of the rounds.

`pages_per_s`         of the whole time; `pages_per_s_after_start` without the start: of Ray, of torch and the model
`cpu_s_per_1000`      processor seconds for 1,000 pages, of all processes, PostgreSQL's included; not of the idle API beside a bulk run
`peak_pss_mib`        memory of the command's processes, shared pages counted once; `peak_rss_mib` counts them for each process
`of_engine`           docray's time as a multiple of what its embedding engine alone needs for the same chunks (wanted ≤ 1.25)
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pymupdf

from benchmarks.bulk_command import BulkCommand
from benchmarks.bulk_site import ROOT, OwnInstance, chunk_texts, ray_apart
from benchmarks.bulk_sources import gathered, sources_of
from benchmarks.instance import Instance, figure
from benchmarks.peers.environment import peer_environment, peers_python
from benchmarks.processes import Family
from docray.client import Client
from docray.instance.ports import any_free
from models.embedding import EmbeddingSpec, build_engine

PEERS = ("langchain", "llama_index")
_MOST_S = 3 * 3600.0
_QUERY_WORDS = 30


def main() -> None:
    """Prints a line of JSON for each contestant."""
    arguments = _options()
    peers = [name for name in arguments.peers.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="bulk-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        pages = gathered(sources_of(arguments.source), folder / "in", arguments.pages_limit)
        files = len(list((folder / "in").iterdir()))
        figure(benchmark="bulk_peers", files=files, pages=pages, rounds=arguments.rounds)
        found: dict[str, list[dict[str, float]]] = {"docray": [], **{name: [] for name in peers}}
        site = OwnInstance(folder)
        try:
            for number in range(arguments.rounds):
                found["docray"].append(_docray(site, folder, pages, files))
                for name in peers:
                    found[name].append(_peer(name, folder / "in", pages))
                print(f"round {number + 1}: {json.dumps({name: rows[-1] for name, rows in found.items()})}", file=sys.stderr, flush=True)
        finally:
            site.clear()
    _tell(found)


def _tell(found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    medians = {name: {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]} for name, rows in found.items()}
    ours = medians["docray"]
    for name, row in medians.items():
        ratios = {} if name == "docray" else {
            "docray_faster_by": round(ours["pages_per_s"] / row["pages_per_s"], 2),
            "docray_faster_by_after_start": round(ours["pages_per_s_after_start"] / row["pages_per_s_after_start"], 2),
        }  # fmt: skip
        figure(benchmark="bulk_peers", who=name, **row, **ratios)


def _row(pages: int, chunks: int, searchable_s: float, start_s: float, cpu_s: float, pss: float, rss: float) -> dict[str, float]:
    return {
        "pages_per_s": pages / searchable_s, "pages_per_s_after_start": pages / (searchable_s - start_s), "searchable_s": searchable_s,
        "start_s": start_s, "chunks": chunks, "cpu_s_per_1000": 1000 * cpu_s / pages, "peak_pss_mib": pss, "peak_rss_mib": rss,
    }  # fmt: skip


# --- docray ------------------------------------------------------------------------------------------------------------------


def _docray(site: OwnInstance, folder: Path, pages: int, files: int) -> dict[str, float]:
    with site.up() as instance:
        tenant, client = _new_tenant(instance)
        with client, ray_apart() as apart:
            client.search("warm up")
            command = BulkCommand(site.environment(**apart), folder / "in", tenant, servers=[site.postgres_pid()])
            try:
                searchable_s = _until_found(client, command, folder / "in", files)
            finally:
                run = command.result()
        texts = asyncio.run(chunk_texts(site.data_dir / "postgres", tenant))
    engine_s = _engine_alone(texts, folder, site.data_dir / "cache")
    if run.told["ready"] != files:
        print(f"docray: {run.told['failures_by_code']}, {run.told['duplicate']} duplicates", file=sys.stderr)
    row = _row(pages, len(texts), searchable_s, run.ray_start_s, run.cpu_s, run.peak_pss_mib, run.peak_rss_mib)
    return row | {
        "command_s": run.command_s, "run_s": run.told["seconds"], "engine_alone_s": engine_s, "of_engine": searchable_s / engine_s,
        "of_engine_after_start": (searchable_s - run.ray_start_s) / engine_s,
    }  # fmt: skip


def _new_tenant(instance: Instance) -> tuple[str, Client]:
    name = f"bulk {time.time_ns()}"
    with Client(instance.url, instance.api_key) as operator:
        tenant = operator.call("POST", "/v1/tenants", json={"name": name})
    return name, Client(instance.url, tenant["api_key"]["secret"])


def _until_found(client: Client, command: BulkCommand, source: Path, files: int) -> float:
    """Seconds until all documents have ended and the one that was ready last is found. Asks once a second, so as not to be the load."""
    while True:
        alive, since = command.running(), command.since_s
        documents = list(client.listing("/v1/documents"))
        ready = [document for document in documents if document["state"] == "ready"]
        ended = len(ready) + sum(document["state"] == "failed" for document in documents)
        if ready and (ended >= files or not alive):
            last = max(ready, key=lambda document: document["ready_at"])
            query = _words_of(source / last["filename"])
            hits = client.search(query, document_ids=[last["id"]])["results"]
            if hits:
                return command.since_s
        if not alive:
            raise SystemExit("the run has ended and its last document is not found")
        if since > _MOST_S:
            raise SystemExit("the run takes too long")
        time.sleep(0.25 if ended >= 0.9 * files else 1.0)


def _engine_alone(texts: Sequence[str], folder: Path, cache: Path) -> float:
    """Seconds that the product's engine needs for the texts, in a process of its own, set-up left out."""
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    words = [sys.executable, "-m", "benchmarks.bulk_peers", "--engine-on", str(folder / "texts.json"), "--cache", str(cache)]
    return float(subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _embed(texts_file: Path, cache: Path) -> None:
    texts = json.loads(texts_file.read_text(encoding="utf-8"))
    engine = build_engine(EmbeddingSpec(cache_dir=cache))
    engine.warm_up()
    started = time.perf_counter()
    engine.embed_passages(texts)
    print(time.perf_counter() - started)


# --- peers -------------------------------------------------------------------------------------------------------------------


def _peer(name: str, source: Path, pages: int) -> dict[str, float]:
    last = max(source.glob("*.pdf"))
    query = _words_of(last)
    with (
        httpx.Client(timeout=60) as client,  # one for all tries: making it takes a tenth of a second of processor time
        peer(f"{name}_ingest.py", "--source", str(source), port=any_free(1)[0]) as (process, url, log),
        Family([process.pid]) as family,
    ):
        while not (found := _found(client, url, query, last.name)):
            if process.poll() is not None or family.since_s > _MOST_S:
                log.seek(0)
                raise SystemExit(f"{name} ended without an answer\n{log.read()[-3000:]}")
            time.sleep(0.25)
        searchable_s = family.since_s
        family.close()
        log.seek(0)
        told = next(json.loads(line) for line in log.read().splitlines() if line.startswith('{"start_s"'))
    assert found
    return _row(
        pages, told["chunks"], searchable_s, told["start_s"], family.cpu_s, family.peak_pss_bytes / 2**20, family.peak_rss_bytes / 2**20
    )


@contextmanager
def peer(script: str, *words: str, port: int) -> Iterator[tuple["subprocess.Popen[str]", str, Any]]:
    """A peer's script, running: its process, where it answers or will, its log."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [peers_python(), ROOT / "benchmarks" / "peers" / script, *words, "--port", str(port)], env=peer_environment(),
            cwd=ROOT / "benchmarks" / "peers", stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
        )  # fmt: skip
        try:
            yield process, f"http://127.0.0.1:{port}", log
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _found(client: httpx.Client, url: str, query: str, name: str) -> bool:
    try:
        results = client.post(f"{url}/search", json={"query": query, "limit": 10}).raise_for_status().json()["results"]
    except httpx.TransportError:
        return False
    if not any(str(result["source"]).endswith(name) for result in results):
        print(f"{name} is not among the ten nearest; that something answered counts", file=sys.stderr)
    return bool(results)


def _words_of(path: Path) -> str:
    """Words of a document's first page with enough of them."""
    with pymupdf.open(path) as document:
        pages = (page.get_text().split() for page in document)
        return " ".join(next((words for words in pages if len(words) > _QUERY_WORDS), ["report"])[:_QUERY_WORDS])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, action="append", help="a folder of PDFs; may be given again (default: ../shared/data/throughput)")
    parser.add_argument("--pages-limit", type=int, default=0, help="takes files until there are so many pages; 0: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--engine-on", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _options()
    _embed(given.engine_on, given.cache) if given.engine_on else main()
