"""C1 to C9 on the product as people start it: `docray up`, clients that upload and delete, and something that kills its processes.

Owns a session: its killer, its end and its judgement, all from one seed. Leaves what must hold to `tests.oracle`, the clients to `drill_clients`. The
same code is the pull request's test, the nightly one and `benchmarks/kill_drills.py`.
"""

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil

from docray.client import ClientError
from docray.instance import postgres
from docray.instance.files import InstanceFiles
from tests import oracle
from tests.acceptance.conftest import Running, down, up
from tests.resilience.drill_clients import PATIENCE_S, Clients
from tests.resilience.drill_plan import PARTS, STOP, Outcome, Plan

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 6.0


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

    def __init__(self, running: Running, outcome: Outcome, clients: Clients) -> None:
        self._running = running
        self._outcome = outcome
        self._clients = clients
        self._roll = random.Random(f"{outcome.plan.seed}/killer")

    def run(self) -> None:
        """Until every target had its turn."""
        for target in self._outcome.plan.targets:
            self._clients.more()
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
            try:
                Killer(running, outcome, clients).run()
            finally:
                clients.end()
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
