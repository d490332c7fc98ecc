"""C1 to C9 on the product as people start it: `docray up`, clients that upload and delete, and something that kills its processes.

Owns a session: its documents, its clients, its killer and what comes of it, all from one seed. Leaves what must hold to `tests.oracle`. The same
code is the pull request's test, the nightly one and `benchmarks/kill_drills.py`.
"""

import asyncio
import os
import random
import shutil
import signal
import statistics
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from uuid import UUID

import asyncpg
import psutil

from docray.client import ApiError, Client, ClientError
from docray.instance import postgres
from docray.instance.files import InstanceFiles
from tests import oracle
from tests.acceptance.conftest import Running, down, up
from tests.pdf_factory import scan
from tests.resilience.story import a_pdf

ROOT = Path(__file__).resolve().parents[2]
BAD_PDFS = ROOT.parent / "shared" / "data" / "badpdf"
PARTS = {
    "worker": "ray::ServeReplica:ingest:IngestWorker",
    "embedder": "ray::ServeReplica:docray:Embedder",
    "gateway": "ray::ServeReplica:docray:Gateway",
    "controller": "ray::ServeController",
    "postgres": "postgres",
    "raylet": "raylet",
}
STOP = "worker stands still"
TARGETS = (*PARTS, STOP)
LEASE_S = 6.0
PATIENCE_S = 600.0  # a bound for a busy machine; what it took is in the result
_TEMPORARY = (409, 429, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a session does."""

    seed: int
    documents: int = 100
    targets: tuple[str, ...] = TARGETS  # in this order
    clients: int = 8
    deleted: float = 0.1  # the share of documents that their client deletes again
    pause_s: tuple[float, float] = (2.0, 5.0)  # between two kills; each waits until the one before has healed

    @classmethod
    def random(cls, seed: int, documents: int, kills: int) -> "Plan":
        """Every target as often as the others, in an order of chance."""
        roll = random.Random(f"{seed}/plan")
        targets = [TARGETS[number % len(TARGETS)] for number in range(kills)]
        roll.shuffle(targets)
        return cls(seed=seed, documents=documents, targets=tuple(targets))


@dataclass
class Outcome:
    """What came of a session."""

    plan: Plan
    acknowledged: set[UUID] = field(default_factory=set)
    deleted: set[UUID] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)  # requests that no retry helped
    recoveries_s: list[tuple[str, float]] = field(default_factory=list)
    findings: list[oracle.Finding] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    converged_s: float = 0.0
    requests: int = 0
    repeated: int = 0

    def figures(self) -> dict[str, object]:
        """One line for the record."""
        harms = Counter(each.harm for each in self.findings)
        seconds = sorted(spent for _, spent in self.recoveries_s)
        p95 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))] if seconds else 0.0
        return {
            "seed": self.plan.seed, "kills": len(self.recoveries_s), "documents": self.plan.documents, "deleted": len(self.deleted),
            "states": self.states, "requests": self.requests, "repeated": self.repeated, "refused": len(self.refused),
            **{harm: harms.get(harm, 0) for harm in ("lost", "doubled", "stuck", "resurrected", "leaked", "wrong")},
            "recovery_median_s": round(statistics.median(seconds), 1) if seconds else 0.0, "recovery_p95_s": round(p95, 1),
            "converged_s": round(self.converged_s, 1), "recoveries_s": [(part, round(spent, 1)) for part, spent in self.recoveries_s],
        }  # fmt: skip


def documents_of(seed: int, count: int) -> Iterator[bytes]:
    """PDFs: most of them sound, some broken, some a second time, some from the collection of bad ones where that is there."""
    roll = random.Random(f"{seed}/documents")
    bad = sorted(path for path in BAD_PDFS.glob("*.pdf") if path.stat().st_size < 50_000) if BAD_PDFS.is_dir() else []
    made: list[bytes] = []
    for number in range(count):
        kind = roll.random()
        if kind < 0.08 and made:
            data = roll.choice(made)
        elif kind < 0.14:
            data = roll.choice((scan(number % 5 + 1), b"%%PDF-1.7\nnothing of document %d makes sense" % number))
        elif kind < 0.2 and bad:
            data = roll.choice(bad).read_bytes()
        else:
            data = a_pdf(f"{seed}-{number}", roll.randint(1, 4))
        made.append(data)
        yield data


class Clients:
    """Threads that upload what is in a queue and delete some of it, each request under a key until it is answered."""

    def __init__(self, running: Running, outcome: Outcome) -> None:
        self._running = running
        self._outcome = outcome
        self._queue: Queue[tuple[int, bytes]] = Queue()
        self._lock = threading.Lock()
        for numbered in enumerate(documents_of(outcome.plan.seed, outcome.plan.documents)):
            self._queue.put(numbered)
        self._pace_s = 0.0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(outcome.plan.clients)]

    def start(self, over_s: float) -> None:
        """Begins; the uploads are spread over about that time."""
        self._pace_s = over_s * len(self._threads) / max(1, self._outcome.plan.documents)
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Whether there is something left to send."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Waits until everything is sent."""
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, number: int) -> None:
        roll = random.Random(f"{self._outcome.plan.seed}/client {number}")
        with Client(self._running.url, self._running.api_key, timeout_s=20) as client:
            while True:
                try:
                    n, data = self._queue.get_nowait()
                except Empty:
                    return
                key = f"drill {n}"
                made = self._until_answered(roll, lambda data=data, key=key: self._upload(client, data, key))
                if made is None:
                    continue
                document_id = UUID(made["id"])
                with self._lock:
                    self._outcome.acknowledged.add(document_id)
                time.sleep(roll.uniform(0, 2 * self._pace_s))
                if roll.random() < self._outcome.plan.deleted and not made.get("duplicate"):
                    key = f"delete {n}"
                    gone = self._until_answered(
                        roll, lambda at=document_id, key=key: client.call("DELETE", f"/v1/documents/{at}", idempotency_key=key), absent_is_done=True
                    )
                    if gone is not None:
                        with self._lock:
                            self._outcome.deleted.add(document_id)

    def _upload(self, client: Client, data: bytes, key: str) -> dict[str, object]:
        return dict(client.call("POST", "/v1/documents", content=data, headers={"Content-Type": "application/pdf"}, idempotency_key=key))

    def _until_answered(self, roll: random.Random, send: Callable[[], dict[str, str]], *, absent_is_done: bool = False) -> dict[str, str] | None:
        """The answer; None, and a note of it, where no retry helped. Another client may have deleted what has the same bytes."""
        stop = time.monotonic() + PATIENCE_S
        problem: ClientError | None = None
        while time.monotonic() < stop:
            with self._lock:
                self._outcome.requests += 1
            try:
                return send()
            except ApiError as error:
                if error.status == 404 and absent_is_done:
                    return {}
                if error.status in (413, 415) or error.status not in _TEMPORARY:
                    if error.status != 415:  # a file that is no PDF is refused, and rightly
                        with self._lock:
                            self._outcome.refused.append(str(error))
                    return None
                problem = error
            except ClientError as error:
                problem = error
            with self._lock:
                self._outcome.repeated += 1
            time.sleep(roll.uniform(0.2, 1.0))
        with self._lock:
            self._outcome.refused.append(str(problem))
        return None


def family(supervisor: int, part: str) -> list[psutil.Process]:
    """The instance's processes of a part, oldest first."""
    title, found = PARTS[part], []
    for process in psutil.Process(supervisor).children(recursive=True):
        try:
            if process.name() == title or title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


class Killer:
    """Takes the plan's targets down one by one, and measures how long each is missed."""

    def __init__(self, running: Running, outcome: Outcome) -> None:
        self._running = running
        self._outcome = outcome
        self._roll = random.Random(f"{outcome.plan.seed}/killer")

    def run(self) -> None:
        """Until every target had its turn."""
        for target in self._outcome.plan.targets:
            time.sleep(self._roll.uniform(*self._outcome.plan.pause_s))
            part = "worker" if target == STOP else target
            until(lambda part=part: family(self._running.pid, part), f"a {part} runs")
            victim = family(self._running.pid, part)[0]
            started = time.monotonic()
            if target == STOP:
                victim.send_signal(signal.SIGSTOP)
                time.sleep(LEASE_S * 2)  # another one, or nobody, has its documents by then
                victim.send_signal(signal.SIGCONT)
                started = time.monotonic()
            else:  # SIGQUIT is PostgreSQL's immediate shutdown: no checkpoint, recovery at the next start
                victim.send_signal(signal.SIGQUIT if part == "postgres" and self._roll.random() < 0.5 else signal.SIGKILL)
            until(lambda part=part, pid=victim.pid, stopped=target == STOP: self._healed(part, pid, stopped), f"it recovers from: {target}")
            self._outcome.recoveries_s.append((target, time.monotonic() - started))

    def _healed(self, part: str, old: int, stopped: bool) -> bool:
        """Whether another process does the part's work and the API answers with all its parts."""
        if not stopped and all(process.pid == old for process in family(self._running.pid, part)):
            return False
        with self._running.client() as client:
            if part in ("worker", "controller"):
                return bool(client.call("GET", "/readyz")["status"] == "ok")
            return bool(client.call("GET", "/readyz")["status"] == "ok" and client.search(f"harbour {uuid.uuid4()}", mode="dense")["degraded"] == [])


def until(holds: Callable[[], object], what: str) -> None:
    """Waits until something holds."""
    stop = time.monotonic() + PATIENCE_S
    while time.monotonic() < stop:
        try:
            if holds():
                return
        except (ClientError, psutil.Error):
            pass
        time.sleep(0.2)
    raise TimeoutError(f"not within {PATIENCE_S:.0f} s: {what}")


@contextmanager
def instance(folder: Path) -> Iterator[Running]:
    """A docray with short leases whose embedder is a deployment of its own."""
    try:
        yield up(
            folder, PYTHONPATH=str(ROOT), DOCRAY_EMBEDDER="remote", DOCRAY_LEASE_S=str(LEASE_S), DOCRAY_HEARTBEAT_S="1.5", DOCRAY_POLL_S="0.1",
        )  # fmt: skip
    finally:
        down(folder)


def session(plan: Plan, keep_logs: Path | None = None) -> Outcome:
    """One session on an instance of its own. `keep_logs`: where its logs go when something did not hold."""
    outcome = Outcome(plan)
    with tempfile.TemporaryDirectory(prefix="docray-drill-", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        with instance(data) as running:
            clients = Clients(running, outcome)
            clients.start(over_s=5.0 * len(plan.targets))
            Killer(running, outcome).run()
            clients.join()
            asyncio.run(_judge(running, outcome))
        if keep_logs is not None and (outcome.findings or outcome.refused):
            shutil.copytree(data / "logs", keep_logs, dirs_exist_ok=True)
    return outcome


async def _judge(running: Running, outcome: Outcome) -> None:
    """Waits for rest, then asks the oracle."""
    connection = await asyncpg.connect(postgres.dsn(InstanceFiles.of(running.data_dir).postgres, postgres.SUPERUSER))
    started = time.monotonic()
    try:
        while await connection.fetchval(
            "SELECT (SELECT count(*) FROM docray.purges)"
            " + (SELECT count(*) FROM docray.generations WHERE state IN ('queued', 'parsed', 'embedded', 'indexed'))"
        ):
            if time.monotonic() - started > PATIENCE_S:
                break  # the oracle tells what hangs
            await asyncio.sleep(0.2)
        outcome.converged_s = time.monotonic() - started
        tenant_id = await connection.fetchval("SELECT tenant_id FROM docray.tenants WHERE name = 'default'")
        blobs = running.data_dir / "blobs"

        async def look() -> list[oracle.Finding]:
            return await oracle.problems(connection, tenant_id, blobs, acknowledged=outcome.acknowledged, deleted=outcome.deleted)

        outcome.findings = await look()
        if outcome.findings and all(each.harm == "leaked" and each.invariant == "I3" for each in outcome.findings):
            outcome.findings = await _after_a_day(running, blobs, look)
        outcome.states = {row["state"]: row["n"] for row in await connection.fetch("SELECT state, count(*) AS n FROM docray.documents GROUP BY 1")}
    finally:
        await connection.close()


async def _after_a_day(running: Running, blobs: Path, look) -> list[oracle.Finding]:  # type: ignore[no-untyped-def]
    """A crash may leave a blob whose row was never committed. A worker's sweep removes it when it is a day old: so it is made that old."""
    yesterday = time.time() - 25 * 3600
    for path in (blobs / "objects").rglob("*.pdf"):
        os.utime(path, (yesterday, yesterday))
    for worker in family(running.pid, "worker"):
        worker.send_signal(signal.SIGKILL)  # the next one sweeps when it starts
    stop = time.monotonic() + PATIENCE_S
    while (found := await look()) and time.monotonic() < stop:
        await asyncio.sleep(0.5)
    return list(found)
