"""What the retrieval benchmarks share: a tenant of their own, uploads over several connections, searches, scores.

Each benchmark has its own tenant in the docray that runs, so that nothing else is found; its key is kept beside the instance's, and a second
run finds the documents there. Needs the operator's key (the one that the first start prints).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.instance import SHARED, Instance, figure
from docray.client import Client

SCORER = SHARED.parent / "tools" / "score_retrieval.py"
MODES = ("keyword", "dense", "hybrid")
CONNECTIONS = 4


def own_tenant(name: str) -> Client:
    """A client of the benchmark's tenant, made on the first run."""
    instance = Instance.find()
    kept = Path(os.environ.get("DOCRAY_DATA_DIR", ".docray")) / "benchmarks" / f"{name}.json"
    if kept.is_file():
        return Client(instance.url, json.loads(kept.read_text(encoding="utf-8"))["secret"])
    with Client(instance.url, instance.api_key) as operator:
        tenant = operator.call("POST", "/v1/tenants", json={"name": f"benchmark {name} {os.urandom(3).hex()}"})
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch(mode=0o600)
    kept.write_text(json.dumps({"tenant": tenant["id"], "secret": tenant["api_key"]["secret"]}), encoding="utf-8")
    return Client(instance.url, tenant["api_key"]["secret"])


def upload(client: Client, files: Iterable[tuple[str, Callable[[], bytes]]]) -> dict[str, str]:
    """Uploads (file name, how to make its bytes) and waits until all are ready: ids by file name. What is there already is not sent."""
    there = {document["filename"]: document["id"] for document in client.listing("/v1/documents")}

    def send(file: tuple[str, Callable[[], bytes]]) -> tuple[str, str]:
        name, make = file
        if name in there:
            return name, there[name]
        data = make()
        return name, str(client.call("POST", "/v1/documents", files={"file": (name, data, "application/pdf")})["id"])

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        ids = dict(pool.map(send, files))
    for number, (name, document_id) in enumerate(ids.items(), 1):
        document = client.wait(document_id)
        if document["state"] != "ready":
            raise SystemExit(f"{name}: {document['failure']}")
        if number % 200 == 0:
            print(f"{number} of {len(ids)} ready", file=sys.stderr)
    return ids


def search_all(client: Client, queries: Sequence[tuple[str, str]], **fields: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(id, hits) of each (id, query)."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        results = pool.map(lambda query: client.search(query[1], merge_neighbours=False, **fields)["results"], queries)
        yield from zip((query_id for query_id, _ in queries), results, strict=True)


def score(runs: Iterable[tuple[str, list[dict[str, Any]]]], *arguments: str) -> Mapping[str, Any]:
    """Means and intervals of a run of (id, hits of doc and page), by the shared scorer."""
    with tempfile.TemporaryDirectory() as scratch:
        run, summary = Path(scratch) / "run.jsonl", Path(scratch) / "summary.json"
        run.write_text("".join(json.dumps({"id": query_id, "hits": hits}) + "\n" for query_id, hits in runs), encoding="utf-8")
        command = [sys.executable, str(SCORER), "--run", str(run), "--json", str(summary), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: Mapping[str, Any] = json.loads(summary.read_text(encoding="utf-8"))["all"]
        return found


def report(benchmark: str, summary: Mapping[str, Any], **labels: Any) -> None:
    """Prints one line of JSON: each mean, and its 95 % interval."""
    means = {name: round(value["mean"], 4) for name, value in summary.items()}
    intervals = {name: [round(value["lo"], 4), round(value["hi"], 4)] for name, value in summary.items()}
    figure(benchmark=benchmark, **labels, **means, interval=intervals)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
