"""The highest rate of searches at p95 < 200 ms and errors < .1 %, over HTTP, on all cores: `python -m benchmarks.search_rate` (a docray is up).

    python -m benchmarks.search_rate [--rounds 3] [--seconds 5] [--peer-threads 1] [--no-peer] [--chunks N]

Beside docray, in turns: its `/healthz` (hello world through the same Serve application), and a FastAPI of 2 uvicorn workers over LangChain and FAISS
with the same chunks (read from the instance's database), the same weights and sentence-transformers, its store embedded once and kept in
`benchmarks/out`. Load comes at a fixed rate (`benchmarks.open_loop`), which is raised until it is not borne. `known` questions were asked before, so
docray has their embeddings; `new` ones never. The peer caches nothing, and gets both. Medians of the rounds.

`of_peer`   docray's rate as a multiple of the peer's for the same questions (wanted ≥ 5); `of_hello` as a share of hello world's
"""

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.bulk_site import ROOT, chunk_texts
from benchmarks.instance import SHARED, Instance, figure, request_bytes, run_load
from benchmarks.open_loop import Requests, Step, highest_rate
from benchmarks.peers.environment import peer_environment, peers_python
from benchmarks.search_load import fill
from docray.client import Client
from docray.instance.ports import any_free

PEERS = ROOT / "benchmarks" / "peers"
START = {"hello": 200.0, "known": 20.0, "new": 10.0}
TENANT = "default"


def main() -> None:
    """Prints JSON lines."""
    arguments = _options()
    instance = Instance.find()
    with Client(instance.url, instance.api_key) as client:
        chunks = fill(client) if not arguments.no_fill else 0
    with contextlib.ExitStack() as stack:
        peer = None if arguments.no_peer else Instance(stack.enter_context(_peer(arguments)), "")
        figure(benchmark="search_rate", chunks=chunks, cores_busy_before=round(psutil.cpu_percent(5) / 100 * (os.cpu_count() or 1), 2))
        contestants = {("docray", kind): (instance, requests) for kind, requests in _kinds(instance, "/v1/search").items()}
        contestants[("docray", "hello")] = (instance, lambda: itertools.repeat(request_bytes(instance, "GET", "/healthz")))
        if peer:
            contestants |= {("langchain", kind): (peer, requests) for kind, requests in _kinds(peer, "/search").items()}
        asyncio.run(run_load(instance, list(_questions(instance, "/v1/search")), 4, 120.0))  # every known question embedded once
        found: dict[tuple[str, str], list[Step | None]] = {key: [] for key in contestants}
        for _ in range(arguments.rounds):
            for key, (server, requests) in contestants.items():
                found[key].append(highest_rate(server, requests, START[key[1]], arguments.seconds))
    _tell(found)


def _tell(found: Mapping[tuple[str, str], Sequence[Step | None]]) -> None:
    rates = {key: statistics.median(step.rate if step else 0.0 for step in steps) for key, steps in found.items()}
    for (who, kind), steps in found.items():
        borne = [step for step in steps if step]
        row: dict[str, object] = {
            "who": who, "questions": kind, "rate": rates[who, kind],
            "p50_ms": statistics.median(step.p50_ms for step in borne) if borne else None,
            "p95_ms": statistics.median(step.p95_ms for step in borne) if borne else None,
            "error_share": max(step.error_share for step in borne) if borne else None, "rounds": len(steps),
        }  # fmt: skip
        if who == "docray" and kind != "hello":
            row["of_hello"] = round(rates[who, kind] / rates["docray", "hello"], 3) if rates["docray", "hello"] else None
            row["of_peer"] = round(rates[who, kind] / rates["langchain", kind], 2) if rates.get(("langchain", kind)) else None
        figure(benchmark="search_rate", **row)


def _questions(server: Instance, path: str) -> Iterator[bytes]:
    for line in (SHARED / "pdfqa" / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        yield request_bytes(server, "POST", path, {"query": json.loads(line)["question"], "limit": 10})


def _kinds(server: Instance, path: str) -> dict[str, Requests]:
    texts = [json.loads(line)["question"] for line in (SHARED / "pdfqa" / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    known = list(_questions(server, path))
    rng = random.Random(7)

    def new() -> Iterator[bytes]:
        while True:
            yield request_bytes(server, "POST", path, {"query": f"{rng.choice(texts)} {rng.getrandbits(40)}", "limit": 10})

    return {"known": lambda: itertools.cycle(known), "new": new}


# --- the peer ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _peer(arguments: argparse.Namespace) -> Iterator[str]:
    """The peer over docray's chunks, answering: its address."""
    folder = Path(os.environ.get("DOCRAY_DATA_DIR", ".docray")) / "postgres"
    store = _store(asyncio.run(chunk_texts(folder, TENANT))[: arguments.chunks or None])
    port = any_free(1)[0]
    environment = peer_environment() | {"PEER_STORE": str(store), "OMP_NUM_THREADS": str(arguments.peer_threads)}
    words = ["-m", "uvicorn", "langchain_app:app", "--workers", "2", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    words += ["--timeout-worker-healthcheck", "300"]  # a worker that imports torch does not answer within the usual 5 s, and is started again
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [peers_python(), *words], cwd=PEERS, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _await_answer(url, process)
            yield url
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):  # its workers too, in a session of their own
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _store(texts: Sequence[str]) -> Path:
    """The peer's index of the texts, embedded at first use."""
    packed = json.dumps(texts)
    store = ROOT / "benchmarks" / "out" / f"langchain-{hashlib.sha256(packed.encode()).hexdigest()[:16]}"
    if not (store / "index.faiss").is_file():
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            file.write(packed)
            file.flush()
            words = [peers_python(), "langchain_store.py", "--chunks", file.name, "--store", store]
            subprocess.run(words, cwd=PEERS, env=peer_environment(), check=True, stdin=subprocess.DEVNULL)
    return store


def _await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    stop = time.monotonic() + 600
    while time.monotonic() < stop and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.post(f"{url}/search", json={"query": "warm up"}, timeout=30).status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit("the peer does not answer")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="at each rate")
    parser.add_argument("--peer-threads", type=int, default=1, help="of torch in each of its two workers: with two, both slow down")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-fill", action="store_true", help="asks what is there, to try it out")
    parser.add_argument("--chunks", type=int, default=0, help="gives the peer only the first ones, to try it out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
