"""A database, a small Ray cluster and the command, for the pipelines' tests: everything real, nothing shared with other tests."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from postgres_fixture import as_superuser
from s3_fixture import S3Place

from docray.domain.ids import new_id
from docray.domain.principals import ApiKey, Principal, Scope, Tenant
from docray.instance import postgres
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_jobs import PostgresJobQueue
from docray.stores.postgres_keys import PostgresTenants

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "bulk"


class RayHost:
    """`ray_host.py`, running."""

    def __init__(self, environment: dict[str, str], folder: Path, log: Path, *, cpus: int) -> None:
        self._log = log.open("w")
        script = Path(__file__).with_name("ray_host.py")
        self._process = subprocess.Popen(
            [sys.executable, script, folder, str(cpus)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.node_ids: dict[int, str] = {}
        self.address = self._answer()
        assert self.address, log.read_text()[-3000:]

    def add_node(self, cpus: int, resource: str = "worker") -> int:
        """Another node, which declares the resource; its number."""
        number, node_id = self._ask(f"add {cpus} {resource}").split()
        self.node_ids[int(number)] = node_id
        return int(number)

    def kill_node(self, number: int) -> None:
        """As if its machine were switched off."""
        self._ask(f"kill {number}")

    def close(self) -> None:
        """Ends every node."""
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.stdout.close()
            self._log.close()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _ask(self, line: str) -> str:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        return self._process.stdout.readline().strip()


class Server:
    """PostgreSQL, which a test may end at once and start again. A commit is written when it is acknowledged, so that nothing is lost by that; it
    need not reach the disk, for only the process dies and not the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder.with_name("pg.log")

    def start(self) -> None:
        """Returns when it takes connections."""
        words = [*postgres.command(self.folder), "-c", "fsync=off", "-c", "max_connections=100"]
        for _ in range(60):  # children of a killed server hold its memory for a moment, and a new one then refuses to start
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            while self._process.poll() is None:
                if postgres.is_ready(self.folder):
                    return
                time.sleep(0.05)
            time.sleep(0.5)
        raise TimeoutError(f"PostgreSQL did not start; see {self._log}")

    def end(self, number: signal.Signals) -> None:
        """SIGINT in good order, SIGQUIT at once without a checkpoint."""
        self._process.send_signal(number)
        self._process.wait(60)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server of these tests."""
    folder = tmp_path_factory.mktemp("pg") / "data"
    postgres.ensure_initialised(folder)
    running = Server(folder)
    running.start()
    yield running
    running.end(signal.SIGINT)


@pytest.fixture(scope="session")
def postgres_folder(server: Server) -> Path:
    """Its data folder, for the fixtures of `postgres_fixture`."""
    return server.folder


@dataclass(frozen=True)
class Site:
    """Where the runs of these tests work: the environment of every process, the database's folder, and the cluster."""

    environment: dict[str, str]
    folder: Path
    ray: RayHost

    def dsn(self, role: str) -> str:
        return postgres.dsn(self.folder, role, DATABASE)


@pytest.fixture(scope="session")
def site(postgres_template: Path, s3_place: S3Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A migrated database, and a Ray head of two CPUs that knows it. Every node inherits this environment, as on a cluster."""
    asyncio.run(as_superuser(postgres_template, f"CREATE DATABASE {DATABASE} TEMPLATE migrated_template"))
    data = tmp_path_factory.mktemp("bulk")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "DOCRAY_"))} | s3_place.environment | {
        "DOCRAY_DATABASE_DSN": postgres.dsn(postgres_template, "docray_app", DATABASE),
        "DOCRAY_DATABASE_WORKER_DSN": postgres.dsn(postgres_template, "docray_worker", DATABASE),
        "DOCRAY_DATA_DIR": os.fspath(data), "PYTHONPATH": os.fspath(ROOT), "HF_HUB_OFFLINE": "1",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="docray-ray-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        host = RayHost(environment, Path(folder), data / "ray.log", cpus=2)
        try:
            yield Site(environment | {"RAY_ADDRESS": host.address}, postgres_template, host)
        finally:
            host.close()


@pytest.fixture
async def catalog(site: Site) -> AsyncIterator[PostgresCatalog]:
    """The catalogue as the gateway has it."""
    database = Database(site.dsn("docray_app"))
    await database.open()
    yield PostgresCatalog(database)
    await database.close()


@pytest.fixture
async def queue(site: Site) -> AsyncIterator[PostgresJobQueue]:
    """The queue as a worker has it."""
    database = Database(site.dsn("docray_worker"))
    await database.open()
    yield PostgresJobQueue(database)
    await database.close()


@pytest.fixture
async def principal(site: Site) -> Principal:
    """A tenant of the test's own."""
    database = Database(site.dsn("docray_app"), pool_size=1)
    await database.open()
    tenant = Tenant(id=new_id(), name=f"tenant {secrets.token_hex(6)}", created_at=datetime.now(UTC))
    key = ApiKey(id=new_id(), name="first", scopes=frozenset({Scope.ADMIN}), prefix="dr_test", created_at=tenant.created_at)
    await PostgresTenants(database).create(tenant, key, secrets.token_bytes(16), operator=False)
    await database.close()
    return Principal(kind="api_key", id=key.id, name=key.name, tenant_id=tenant.id, tenant_name=tenant.name, scopes=key.scopes)


class Command:
    """`python -m pipelines.ingest` of one tenant, as a process."""

    def __init__(self, site: Site, tenant: str) -> None:
        self._site = site
        self._tenant = tenant

    def start(self, source: Path | str, *more: object) -> "subprocess.Popen[str]":
        """In a process group of its own, so that it can be killed whole."""
        words = [sys.executable, "-m", "pipelines.ingest", "--source", source, "--tenant", self._tenant, "--json", *more]
        return subprocess.Popen(
            list(map(str, words)), cwd=ROOT, env=self._site.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def run(self, source: Path | str, *more: object, expect: int = 0) -> dict[str, Any]:
        """Until it ends; what it printed."""
        process = self.start(source, *more)
        out, err = process.communicate(timeout=300)
        assert process.returncode == expect, f"{process.returncode}\n{out}\n{err[-4000:]}"
        return json.loads(out) if out.strip() else {"message": err}


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to the process and what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture
def ingest(site: Site, principal: Principal) -> Command:
    """The command of the test's tenant."""
    return Command(site, principal.tenant_name)

