"""Searches while a bulk run works: `python -m benchmarks.bulk_guard --source FOLDER` (the docray of DOCRAY_DATA_DIR is up and holds documents;
loopback only; run it with an interpreter that has Ray Data).

One connection searches with questions of ../shared/data/pdfqa, cached, once every 50 ms: first alone, then while `pipelines.ingest` reads the
source for a tenant of its own, without the guard and priority, then with them, each for `--seconds` after the run has begun to publish and
the guard has learnt. Figures: p50 and p95 of each, p95 as a ratio of idle's, and the run's pages a second. Wanted: ratio ≤ 1.5 with them.
The source is read twice, so each run gets a tenant of its own, made by the instance's key (the operator's).
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.instance import SHARED, Instance, figure, request_bytes, run_load
from docray.client import Client
from docray.instance import postgres
from docray.instance.child import end_family

ROOT = Path(__file__).resolve().parents[1]
_EVERY_S = 0.05
_SETTLE_S = 30.0


def measured(instance: Instance, known: list[bytes], seconds: float) -> dict[str, float]:
    """Percentiles of so many seconds of searches."""

    def paced() -> Any:
        for request in itertools.cycle(known):
            time.sleep(_EVERY_S)  # one connection: nothing else waits in this loop
            yield request

    load = asyncio.run(run_load(instance, paced(), 1, seconds))
    return {"p50_ms": load.p50_ms, "p95_ms": load.p95_ms, "errors": load.errors, "searches": load.requests}


def started(data_dir: Path, source: Path, tenant: str, guarded: bool) -> "subprocess.Popen[bytes]":
    """The run, on this machine with a Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "DOCRAY_"))} | {
        "PYTHONPATH": str(ROOT), "DOCRAY_DATA_DIR": str(data_dir), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(16).hex(),
        "RAY_USAGE_STATS_ENABLED": "0", "DOCRAY_DATABASE_DSN": postgres.dsn(data_dir / "postgres", "docray_app"),
        "DOCRAY_DATABASE_WORKER_DSN": postgres.dsn(data_dir / "postgres", "docray_worker"),
    }  # fmt: skip
    environment |= {} if guarded else {"DOCRAY_BULK_GUARD": "false", "DOCRAY_BULK_NICENESS": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.ingest", "--source", str(source), "--tenant", tenant], cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def job_of(client: Client) -> dict[str, Any] | None:
    """The tenant's newest job."""
    jobs = client.call("GET", "/v1/jobs?limit=1")["data"]
    return jobs[0] if jobs else None


def during(instance: Instance, operator: Client, known: list[bytes], options: argparse.Namespace, guarded: bool) -> dict[str, Any]:
    """Searches while a run of a new tenant works; the run is stopped afterwards."""
    tenant = operator.call("POST", "/v1/tenants", json={"name": f"bulk-{os.urandom(4).hex()}"})
    process = started(options.data_dir, options.source, tenant["id"], guarded)
    try:
        with Client(instance.url, tenant["api_key"]["secret"]) as client:
            deadline = time.monotonic() + 180
            while not ((job := job_of(client)) and job["pages"]):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the bulk run published nothing")
                time.sleep(0.5)
            measured(instance, known, _SETTLE_S)
            before = job_of(client)
            found = measured(instance, known, options.seconds)
            after = job_of(client)
        if process.poll() is not None:
            raise SystemExit("the run was through too early: give it a larger source")
        assert before
        assert after
        seconds = after["seconds"] - before["seconds"]
        return found | {"bulk_pages_per_s": round((after["pages"] - before["pages"]) / max(seconds, 1.0), 2), "pace": after["pace"]}
    finally:
        end_family(process.pid, signal.SIGTERM, 20.0)


def main() -> None:
    """Prints JSON lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("DOCRAY_DATA_DIR", ".docray")))
    options = parser.parse_args()
    instance = Instance.find()
    questions = [json.loads(line)["question"] for line in (SHARED / "pdfqa" / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    known = [request_bytes(instance, "POST", "/v1/search", {"query": question}) for question in questions]
    told = json.loads((options.data_dir / "instance.json").read_text(encoding="utf-8"))
    with Client(instance.url, told["api_key"]) as operator:
        measured(instance, known, 15.0)
        idle = measured(instance, known, options.seconds)
        figure(benchmark="bulk_guard", what="idle", **idle)
        for guarded in (False, True):
            found = during(instance, operator, known, options, guarded)
            figure(benchmark="bulk_guard", what="guarded" if guarded else "unguarded", ratio=round(found["p95_ms"] / idle["p95_ms"], 2), **found)


if __name__ == "__main__":
    main()
